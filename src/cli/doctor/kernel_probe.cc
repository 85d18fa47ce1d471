// veneer doctor: what the engine needs of the kernel: memfd, executable memory, signal stacks, mappings.
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/fd.h"
#include "base/units.h"
#include "cli/doctor/doctor.h"
#include "cli/doctor/trial.h"
#include "cli/host_check.h"
#include "cli/size.h"

namespace veneer::cli {
namespace {

using Level = Finding::Level;

void probe_release(Findings& findings) {
  utsname host{};
  uname(&host);
  if (kernel_at_least(host.release, 5, 10))
    findings.push_back({Level::Good, "kernel", fmt::format("Linux {} (5.10 or newer is needed)", host.release), {}});
  else
    findings.push_back({Level::Fatal, "kernel", fmt::format("Linux {}", host.release), "use Linux 5.10 or newer"});
}

/// Guest RAM: a sparse shared memfd of 4 GiB, of which one page is touched.
TrialResult try_memfd() {
  const Fd fd(memfd_create("doctor", MFD_CLOEXEC));
  if (!fd.valid()) return {false, errno_text("memfd_create")};
  if (ftruncate(fd.get(), static_cast<off_t>(4 * GiB)) != 0) return {false, errno_text("ftruncate to 4 GiB")};
  void* memory = mmap(nullptr, 4 * GiB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (memory == MAP_FAILED) return {false, errno_text("mapping 4 GiB")};
  static_cast<volatile char*>(memory)[3 * GiB] = 1;
  return {true, {}};
}

/// The code cache: one memfd mapped twice, written through one mapping and executed through the other.
TrialResult try_double_map() {
  static constexpr std::array<std::uint8_t, 6> code = {0xb8, 0x2a, 0x00, 0x00, 0x00, 0xc3};  // mov eax, 42; ret
  const Fd fd(memfd_create("doctor-code", MFD_CLOEXEC));
  if (!fd.valid()) return {false, errno_text("memfd_create")};
  if (ftruncate(fd.get(), page_size) != 0) return {false, errno_text("ftruncate")};
  void* writable = mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (writable == MAP_FAILED) return {false, errno_text("mapping it writable")};
  void* executable = mmap(nullptr, page_size, PROT_READ | PROT_EXEC, MAP_SHARED, fd.get(), 0);
  if (executable == MAP_FAILED) return {false, errno_text("mapping it executable")};
  std::memcpy(writable, code.data(), code.size());
  const int answer = reinterpret_cast<int (*)()>(executable)();
  return {answer == 42, fmt::format("the code returned {}", answer)};
}

void probe_memfd(Findings& findings) {
  const TrialResult memfd = run_trial(5, try_memfd);
  findings.push_back(
      {memfd.ok ? Level::Good : Level::Fatal, "memfd",
       memfd.ok ? "4 GiB of sparse shared memory can be mapped" : memfd.text,
       memfd.ok ? "" : "raise the address space limit (ulimit -v) or allow memfd_create in the sandbox"});
  const TrialResult code = run_trial(5, try_double_map);
  findings.push_back({code.ok ? Level::Good : Level::Fatal, "executable memory",
                      code.ok ? "code written through one mapping runs through another" : code.text,
                      code.ok ? ""
                              : "set vm.memfd_noexec to 0 or 1, and let the security policy (SELinux execmem, "
                                "noexec) allow executable memfd mappings"});
}

volatile std::sig_atomic_t fault_seen = 0;

TrialResult try_signal_stack() {
  const std::size_t size = static_cast<std::size_t>(getauxval(AT_MINSIGSTKSZ)) + 16 * KiB;
  void* stack = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) return {false, errno_text("mmap")};
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = size;
  if (sigaltstack(&alternate, nullptr) != 0) return {false, errno_text("sigaltstack")};
  struct sigaction action {};
  action.sa_handler = [](int) { fault_seen = 1; };
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &action, nullptr);
  raise(SIGUSR1);
  return {fault_seen == 1, "the handler did not run"};
}

void probe_signal_stack(Findings& findings) {
  const unsigned long frame = getauxval(AT_MINSIGSTKSZ);
  const TrialResult result = run_trial(5, try_signal_stack);
  findings.push_back({result.ok ? Level::Good : Level::Fatal,
                      "signal stack",
                      result.ok ? fmt::format("a signal frame takes {} bytes (AT_MINSIGSTKSZ)", frame) : result.text,
                      {}});
}

void probe_mappings(Findings& findings) {
  const std::string text = read_line("/proc/sys/vm/max_map_count");
  if (text.empty()) return;
  const long count = std::strtol(text.c_str(), nullptr, 10);
  findings.push_back({count >= 65530 ? Level::Good : Level::Limited, "mappings",
                      fmt::format("up to {} in a process (vm.max_map_count)", count),
                      count >= 65530 ? "" : "sysctl vm.max_map_count=262144"});
}

}  // namespace

void probe_kernel(Findings& findings) {
  probe_release(findings);
  probe_memfd(findings);
  probe_signal_stack(findings);
  probe_mappings(findings);
}

}  // namespace veneer::cli
