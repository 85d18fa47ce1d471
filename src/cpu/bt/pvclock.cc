// kvmclock: the clock page that guests read instead of a timer (KVM's paravirtual ABI, MSR 0x4b564d00/01, 0x11/0x12).
#include <time.h>

#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

/// pvclock_vcpu_time_info, 32 bytes.
struct ClockPage {
  std::uint32_t version;
  std::uint32_t pad0;
  std::uint64_t tsc_timestamp;
  std::uint64_t system_time_ns;
  std::uint32_t tsc_to_system_mul;
  std::int8_t tsc_shift;
  std::uint8_t flags;
  std::uint8_t pad[2];
};
static_assert(sizeof(ClockPage) == 32);

struct WallClock {
  std::uint32_t version;
  std::uint32_t seconds;
  std::uint32_t nanoseconds;
};

constexpr std::uint8_t TSC_STABLE = 1;

std::uint64_t now_ns(clockid_t clock) {
  timespec t;
  ::clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

/// (tsc << shift) * mul >> 32 nanoseconds, with mul's top bit set.
void scale(std::uint64_t tsc_hz, std::uint32_t& mul, std::int8_t& shift) {
  shift = 0;
  std::uint64_t hz = tsc_hz;
  while (hz > 2'000'000'000u) hz >>= 1, shift--;
  while (hz <= 1'000'000'000u) hz <<= 1, shift++;
  mul = static_cast<std::uint32_t>((std::uint64_t{1'000'000'000u} << 32) / hz);
}

}  // namespace

void BtVcpu::update_pvclock(std::uint32_t msr, std::uint64_t value) {
  with_vectors_saved([&] {
    if (msr == 0x4b564d00 || msr == 0x11) {
      // Seconds at which the system time was zero.
      const std::uint64_t wall = engine_.options().deterministic
                                     ? deterministic_wall_s * 1'000'000'000u
                                     : now_ns(CLOCK_REALTIME) - (now_ns(CLOCK_MONOTONIC) - engine_.start_ns());
      const WallClock clock{2, static_cast<std::uint32_t>(wall / 1'000'000'000u),
                            static_cast<std::uint32_t>(wall % 1'000'000'000u)};
      engine_.memory().write_value(GuestPhys{value}, clock);
      return;
    }
    if (!(value & 1)) return;
    ClockPage page{};
    page.version = 2;
    // All vCPUs say the same of the same TSC, or time would go back from one to the next: TSC_STABLE promises that.
    const BtEngine::ClockBase base = engine_.clock_base([&] {
      if (engine_.options().deterministic) return BtEngine::ClockBase{0, 0};  // both count instructions from the start
      return BtEngine::ClockBase{read_tsc(), now_ns(CLOCK_MONOTONIC) - engine_.start_ns()};
    });
    page.tsc_timestamp = base.guest_tsc;
    page.system_time_ns = base.system_time_ns;
    scale(engine_.cpuid().tsc_hz(), page.tsc_to_system_mul, page.tsc_shift);
    page.flags = TSC_STABLE;
    engine_.memory().write_value(GuestPhys{value & ~std::uint64_t{1}}, page);
  });
}

}  // namespace veneer::cpu::bt
