// veneer doctor: whether a guest can really run on KVM here: a tiny real-mode guest is run.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/fd.h"
#include "base/units.h"
#include "cli/doctor/doctor.h"
#include "cli/doctor/trial.h"

namespace veneer::cli {
namespace {

using Level = Finding::Level;

constexpr std::uint64_t code_address = 0x1000;
constexpr std::uint16_t probe_port = 0xe9;
constexpr std::uint16_t expected_sum = 5050;

// Adds 1..100 and sends the sum to a port, so that more than one instruction has to work.
constexpr std::array<std::uint8_t, 13> guest_code = {
    0x31, 0xc0,              // xor ax, ax
    0xb9, 100,        0x00,  // mov cx, 100
    0x01, 0xc8,              // next: add ax, cx
    0xe2, 0xfc,              // loop next
    0xe7, probe_port,        // out 0xe9, ax
    0xf4,                    // hlt
    0x90,
};

/// The exit reasons that tell something about a broken KVM.
std::string exit_text(const kvm_run& run) {
  switch (run.exit_reason) {
    case KVM_EXIT_FAIL_ENTRY:
      return fmt::format("the processor refused to enter the guest (hardware reason {:#x})",
                         run.fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTERNAL_ERROR:
      return fmt::format("KVM reports an internal error ({})", run.internal.suberror);
    case KVM_EXIT_SHUTDOWN:
      return "the guest shut down at once (triple fault)";
    default:
      return fmt::format("the guest stopped with exit reason {}", run.exit_reason);
  }
}

struct TinyVm {
  Fd kvm, vm, vcpu;
  kvm_run* run = nullptr;
};

/// Makes the machine; the text of a failure, or empty.
std::string make(TinyVm& tiny) {
  tiny.kvm = Fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!tiny.kvm.valid()) return errno_text("open");
  const int api = ioctl(tiny.kvm.get(), KVM_GET_API_VERSION, 0);
  if (api != KVM_API_VERSION) return fmt::format("API version {} in place of {}", api, KVM_API_VERSION);
  tiny.vm = Fd(ioctl(tiny.kvm.get(), KVM_CREATE_VM, 0));
  if (!tiny.vm.valid()) return errno_text("KVM_CREATE_VM");

  void* memory = mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno_text("mmap");
  std::memcpy(memory, guest_code.data(), guest_code.size());
  kvm_userspace_memory_region region{};
  region.guest_phys_addr = code_address;
  region.memory_size = page_size;
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(memory);
  if (ioctl(tiny.vm.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) return errno_text("KVM_SET_USER_MEMORY_REGION");

  tiny.vcpu = Fd(ioctl(tiny.vm.get(), KVM_CREATE_VCPU, 0));
  if (!tiny.vcpu.valid()) return errno_text("KVM_CREATE_VCPU");
  const int run_bytes = ioctl(tiny.kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_bytes <= 0) return errno_text("KVM_GET_VCPU_MMAP_SIZE");
  void* run =
      mmap(nullptr, static_cast<std::size_t>(run_bytes), PROT_READ | PROT_WRITE, MAP_SHARED, tiny.vcpu.get(), 0);
  if (run == MAP_FAILED) return errno_text("mapping the vCPU");
  tiny.run = static_cast<kvm_run*>(run);
  return {};
}

/// Real mode, CS:IP 0000:1000. The text of a failure, or empty.
std::string set_registers(const TinyVm& tiny) {
  kvm_sregs system{};
  if (ioctl(tiny.vcpu.get(), KVM_GET_SREGS, &system) != 0) return errno_text("KVM_GET_SREGS");
  system.cs.base = 0;
  system.cs.selector = 0;
  if (ioctl(tiny.vcpu.get(), KVM_SET_SREGS, &system) != 0) return errno_text("KVM_SET_SREGS");
  kvm_regs regs{};
  regs.rip = code_address;
  regs.rflags = 2;
  if (ioctl(tiny.vcpu.get(), KVM_SET_REGS, &regs) != 0) return errno_text("KVM_SET_REGS");
  return {};
}

TrialResult try_guest() {
  TinyVm tiny;
  if (std::string why = make(tiny); !why.empty()) return {false, std::move(why)};
  if (std::string why = set_registers(tiny); !why.empty()) return {false, std::move(why)};
  bool sum_seen = false;
  for (int runs = 0; runs < 16; ++runs) {
    if (ioctl(tiny.vcpu.get(), KVM_RUN, 0) != 0) {
      if (errno == EINTR) continue;
      return {false, errno_text("KVM_RUN")};
    }
    if (tiny.run->exit_reason == KVM_EXIT_HLT) return {sum_seen, "the guest halted without its answer"};
    if (tiny.run->exit_reason != KVM_EXIT_IO || tiny.run->io.port != probe_port) return {false, exit_text(*tiny.run)};
    std::uint16_t sum = 0;
    std::memcpy(&sum, reinterpret_cast<const char*>(tiny.run) + tiny.run->io.data_offset, sizeof(sum));
    if (sum != expected_sum) return {false, fmt::format("the guest calculated {} in place of {}", sum, expected_sum)};
    sum_seen = true;
  }
  return {false, "the guest never halted"};
}

std::string advice_for(int open_error) {
  switch (open_error) {
    case ENOENT:
      return "load kvm_intel or kvm_amd; if that fails, switch virtualization on in the firmware setup, or nested "
             "virtualization on in the host of this VM";
    case EACCES:
    case EPERM:
      return "join the group of /dev/kvm (usually: usermod -aG kvm $USER, then log in again), or allow the device in "
             "the container";
    case ENODEV:
    case ENXIO:
      return "the device node is there, but no KVM behind it: load kvm_intel or kvm_amd";
    default:
      return "the translator is used";
  }
}

}  // namespace

void probe_kvm(Findings& findings) {
  {
    const Fd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm.valid()) {
      const int error = errno;
      findings.push_back({Level::Limited, "KVM", errno_text("open /dev/kvm") + "; guests run in the translator, slower",
                          advice_for(error)});
      return;
    }
  }
  const TrialResult result = run_trial(10, try_guest);
  if (result.ok)
    findings.push_back({Level::Good, "KVM", "a small guest ran", {}});
  else
    findings.push_back({Level::Limited, "KVM", "no guest can run: " + result.text + "; the translator is used",
                        "if this is a virtual machine, its host must offer working nested virtualization"});
}

}  // namespace veneer::cli
