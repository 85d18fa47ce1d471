// veneer doctor: the processor.
#include <cpuid.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "cli/doctor/doctor.h"
#include "cli/doctor/trial.h"
#include "cli/host_check.h"

namespace veneer::cli {
namespace {

using Level = Finding::Level;

struct Cpuid {
  std::array<std::uint32_t, 4> regs{};
  Cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    if (!__get_cpuid_count(leaf, subleaf, &regs[0], &regs[1], &regs[2], &regs[3])) regs = {};
  }
};

std::string brand() {
  std::string text;
  for (std::uint32_t leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
    const Cpuid answer(leaf, 0);
    text.append(reinterpret_cast<const char*>(answer.regs.data()), 16);
  }
  text.resize(std::strlen(text.c_str()));
  const std::size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "unknown" : text.substr(first);
}

/// Empty when this is (or claims to be) the bare machine. Leaf 0x40000000 exists only under a hypervisor.
std::string hypervisor() {
  if ((Cpuid(1, 0).regs[2] >> 31) == 0) return {};
  std::array<std::uint32_t, 4> regs{};
  __cpuid(0x40000000, regs[0], regs[1], regs[2], regs[3]);
  std::string name(reinterpret_cast<const char*>(&regs[1]), 12);
  name.resize(std::strlen(name.c_str()));
  return name.empty() ? "unnamed" : name;
}

void probe_features(Findings& findings) {
  const auto missing = missing_cpu_features();
  if (missing.empty()) {
    const bool avx512 = (Cpuid(7, 0).regs[1] >> 16 & 1) != 0;
    findings.push_back({Level::Good, "x86-64-v3", avx512 ? "all there, and AVX-512F" : "all there", {}});
  } else {
    findings.push_back({Level::Fatal, "x86-64-v3", fmt::format("lacks {}", fmt::join(missing, ", ")),
                        "use a Haswell, Zen or newer processor; inside a VM, let it show the host's CPU model"});
  }
}

/// Sets the GS base to what it is. Illegal unless the kernel set CR4.FSGSBASE.
TrialResult try_fsgsbase() {
  std::uint64_t base = 0;
  __asm__ volatile("rdgsbase %0\n\twrgsbase %0" : "+r"(base));
  return {true, {}};
}

void probe_fsgsbase(Findings& findings) {
  const TrialResult result = run_trial(5, try_fsgsbase);
  if (result.ok)
    findings.push_back({Level::Good, "FSGSBASE", "WRGSBASE works in user mode", {}});
  else
    findings.push_back({Level::Fatal, "FSGSBASE", "WRGSBASE does not work: " + result.text,
                        "use Linux 5.9 or newer without the boot parameter nofsgsbase"});
}

void probe_tsc(Findings& findings) {
  const bool invariant = (Cpuid(0x80000007, 0).regs[3] >> 8 & 1) != 0;
  const std::string source = read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  const std::string found =
      fmt::format("{}; the kernel's clock source is {}", invariant ? "invariant" : "not announced as invariant",
                  source.empty() ? "unknown" : source);
  findings.push_back({invariant || source == "tsc" || source == "kvm-clock" ? Level::Good : Level::Limited, "TSC",
                      found, invariant ? "" : "guest clocks may drift when this host changes its frequency"});
}

void probe_count(Findings& findings) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int usable = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
  std::string found = fmt::format("{} online, {} usable by this process", sysconf(_SC_NPROCESSORS_ONLN), usable);
  const std::string quota = read_line("/sys/fs/cgroup/cpu.max");
  if (!quota.empty() && !quota.starts_with("max")) found += fmt::format(", cgroup cpu.max \"{}\"", quota);
  findings.push_back({Level::Note, "CPUs", found, usable == 1 ? "more than one guest CPU will share it" : ""});
}

}  // namespace

void probe_cpu(Findings& findings) {
  const std::string under = hypervisor();
  findings.push_back({Level::Note,
                      "processor",
                      brand() + (under.empty() ? "" : fmt::format(" (inside a virtual machine: {})", under)),
                      {}});
  probe_features(findings);
  probe_fsgsbase(findings);
  probe_tsc(findings);
  probe_count(findings);
}

}  // namespace veneer::cli
