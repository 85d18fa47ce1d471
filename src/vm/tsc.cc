// TSC calibration: pairs of TSC and clock readings, taken so that a preemption between the two does no harm.
#include "vm/tsc.h"

#include <cpuid.h>
#include <time.h>
#include <x86intrin.h>

#include <limits>

namespace veneer::vm {
namespace {

std::uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

/// The rate as the processor (SDM 2A CPUID leaf 15h) or a hypervisor below us (leaf 4000'0010h) states it, or 0.
std::uint64_t stated_tsc_hz() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(0x15, 0, &eax, &ebx, &ecx, &edx) && eax != 0 && ebx != 0 && ecx != 0)
    return std::uint64_t{ecx} * ebx / eax;
  __cpuid(1, eax, ebx, ecx, edx);
  if (!(ecx & (1u << 31))) return 0;
  __cpuid(0x4000'0000, eax, ebx, ecx, edx);
  if (eax < 0x4000'0010) return 0;
  __cpuid(0x4000'0010, eax, ebx, ecx, edx);
  return std::uint64_t{eax} * 1000;
}

}  // namespace

std::uint64_t read_host_tsc() { return __rdtsc(); }

TscCalibration::TscCalibration() : start_(sample()) {}

TscCalibration::Sample TscCalibration::sample() {
  // The tightest of some readings: whatever is preempted in the middle is not the tightest.
  Sample best{};
  std::uint64_t best_width = std::numeric_limits<std::uint64_t>::max();
  for (int i = 0; i < 16; ++i) {
    const std::uint64_t before = read_host_tsc();
    const std::uint64_t ns = clock_ns(CLOCK_MONOTONIC_RAW);
    const std::uint64_t width = read_host_tsc() - before;
    if (width < best_width) {
      best_width = width;
      best = {before + width / 2, ns};
    }
  }
  return best;
}

std::uint64_t TscCalibration::finish() const {
  if (const std::uint64_t stated = stated_tsc_hz()) return stated;
  constexpr std::uint64_t minimum_ns = 10'000'000;  // readings are good to some 20 ns: a few parts per million
  const std::uint64_t passed = clock_ns(CLOCK_MONOTONIC_RAW) - start_.ns;
  if (passed < minimum_ns) {
    const timespec rest{0, static_cast<long>(minimum_ns - passed)};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, nullptr);
  }
  const Sample end = sample();
  if (end.ns <= start_.ns) return 1'000'000'000;  // a clock that stands still: anything is as good
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(Wide{end.tsc - start_.tsc} * 1'000'000'000u / (end.ns - start_.ns));
}

GuestTsc::GuestTsc() : offset_(0 - read_host_tsc()) {}

std::uint64_t GuestTsc::resume() {
  const std::uint64_t change = paused_at_ - host_now();
  offset_.fetch_add(change, std::memory_order_relaxed);
  return change;
}

}  // namespace veneer::vm
