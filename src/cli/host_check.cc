// Whether this processor and kernel can run Veneer at all: CPUID and uname.
#include "cli/host_check.h"

#include <cpuid.h>
#include <sys/utsname.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>

namespace veneer::cli {
namespace {

struct Feature {
  const char* name;
  std::uint32_t leaf;
  unsigned register_index;  // 0..3: EAX, EBX, ECX, EDX
  unsigned bit;
};

// x86-64-v2 and -v3 on top of the baseline (psABI 3.1.1, SDM 2A CPUID).
constexpr std::array<Feature, 15> v3_features = {{
    {"CMPXCHG16B", 1, 2, 13},
    {"SSE3", 1, 2, 0},
    {"SSSE3", 1, 2, 9},
    {"SSE4_1", 1, 2, 19},
    {"SSE4_2", 1, 2, 20},
    {"POPCNT", 1, 2, 23},
    {"OSXSAVE", 1, 2, 27},
    {"AVX", 1, 2, 28},
    {"F16C", 1, 2, 29},
    {"FMA", 1, 2, 12},
    {"MOVBE", 1, 2, 22},
    {"BMI1", 7, 1, 3},
    {"AVX2", 7, 1, 5},
    {"BMI2", 7, 1, 8},
    {"LZCNT", 0x80000001, 2, 5},
}};

bool cpu_has(const Feature& feature) {
  std::array<std::uint32_t, 4> regs{};
  if (!__get_cpuid_count(feature.leaf, 0, &regs[0], &regs[1], &regs[2], &regs[3])) return false;
  return (regs[feature.register_index] >> feature.bit & 1) != 0;
}

/// XCR0 bits 1 and 2: the kernel saves XMM and YMM state. Only with OSXSAVE.
bool kernel_saves_ymm() {
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & 6) == 6;
}

}  // namespace

std::vector<std::string> missing_cpu_features() {
  std::vector<std::string> missing;
  bool osxsave = true;
  for (const Feature& feature : v3_features) {
    if (cpu_has(feature)) continue;
    missing.emplace_back(feature.name);
    if (std::strcmp(feature.name, "OSXSAVE") == 0) osxsave = false;
  }
  if (osxsave && !kernel_saves_ymm()) missing.emplace_back("YMM state in XCR0");
  return missing;
}

bool kernel_at_least(const char* release, unsigned major, unsigned minor) {
  const char* end = release + std::strlen(release);
  unsigned have_major = 0, have_minor = 0;
  auto [dot, error] = std::from_chars(release, end, have_major);
  if (error != std::errc{} || dot == end || *dot != '.') return false;
  if (std::from_chars(dot + 1, end, have_minor).ec != std::errc{}) return false;
  return have_major != major ? have_major > major : have_minor >= minor;
}

std::optional<std::string> host_problem() {
  const std::vector<std::string> missing = missing_cpu_features();
  if (!missing.empty()) {
    std::string names;
    for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
    return "this processor is too old: Veneer needs x86-64-v3 (Haswell, Zen or newer), and it lacks " + names;
  }
  utsname host{};
  uname(&host);
  if (!kernel_at_least(host.release, 5, 10))
    return std::string("this kernel is too old: Veneer needs Linux 5.10 or newer, and this is ") + host.release;
  return std::nullopt;
}

}  // namespace veneer::cli
