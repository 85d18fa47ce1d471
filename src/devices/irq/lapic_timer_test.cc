// The local APIC's timer, through the registers of an APIC, on a clock that the test moves.
#include "devices/irq/lapic_timer.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/event_loop.h"
#include "base/manual_timers.h"
#include "devices/irq/lapic.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t SVR = 0xf0, LVT_TIMER = 0x320, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0, EOI = 0xb0;
constexpr std::uint32_t PERIODIC = 1u << 17, TSC_DEADLINE = 2u << 17, MASKED = 1u << 16, DIVIDE_BY_1 = 0xb;
constexpr std::uint32_t MSR_TSC_DEADLINE = 0x6e0;
constexpr std::uint64_t ms = 1'000'000;

class LapicTimerTest : public ::testing::Test {
 protected:
  LapicTimerTest() {
    apic.write(SVR, 4, 0x1ff);
    apic.write(DIVIDE, 4, DIVIDE_BY_1);
  }
  /// True when the timer's interrupt has come; ends it.
  bool came() {
    if (!apic.interrupt_pending()) return false;
    EXPECT_EQ(apic.acknowledge(), 0x60);
    apic.write(EOI, 4, 0);
    return true;
  }
  std::uint32_t current() { return static_cast<std::uint32_t>(apic.read(CURRENT, 4)); }

  machine::BoardLock lock;
  ApicBus bus{lock};
  ManualTimers timers;
  // The TSC runs at 2 GHz and started 1000 ticks before the clock; the bus runs at 1 GHz.
  LocalApic apic{
      0, bus, timers, nullptr, {.tsc_hz = 2'000'000'000, .guest_tsc = [this] { return 2 * timers.now_ns() + 1000; }}};
};

TEST_F(LapicTimerTest, OneShotFiresWhenTheCountEnds) {
  apic.write(LVT_TIMER, 4, 0x60);
  apic.write(INITIAL, 4, 5 * ms);
  timers.advance(5 * ms - 1);
  EXPECT_FALSE(came());
  timers.advance(1);
  EXPECT_TRUE(came());
}

TEST_F(LapicTimerTest, OneShotFiresOnce) {
  apic.write(LVT_TIMER, 4, 0x60);
  apic.write(INITIAL, 4, 5 * ms);
  timers.advance(5 * ms);
  came();
  timers.advance(50 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, PeriodicFiresAgain) {
  apic.write(LVT_TIMER, 4, 0x60 | PERIODIC);
  apic.write(INITIAL, 4, 5 * ms);
  timers.advance(5 * ms);
  EXPECT_TRUE(came());
  timers.advance(5 * ms);
  EXPECT_TRUE(came());
}

TEST_F(LapicTimerTest, CurrentCountFallsWithTime) {
  apic.write(LVT_TIMER, 4, 0x60);
  apic.write(INITIAL, 4, 5 * ms);
  timers.advance(2 * ms);
  EXPECT_EQ(current(), 3 * ms);
}

TEST_F(LapicTimerTest, CurrentCountIsZeroAfterOneShot) {
  apic.write(LVT_TIMER, 4, 0x60);
  apic.write(INITIAL, 4, 5 * ms);
  timers.advance(6 * ms);
  EXPECT_EQ(current(), 0u);
}

TEST_F(LapicTimerTest, DividerSlowsTheCount) {
  apic.write(DIVIDE, 4, 0x3);  // 16
  apic.write(LVT_TIMER, 4, 0x60);
  apic.write(INITIAL, 4, ms);
  timers.advance(16 * ms - 1);
  EXPECT_FALSE(came());
  timers.advance(1);
  EXPECT_TRUE(came());
}

TEST_F(LapicTimerTest, ZeroCountStops) {
  apic.write(LVT_TIMER, 4, 0x60 | PERIODIC);
  apic.write(INITIAL, 4, 5 * ms);
  apic.write(INITIAL, 4, 0);
  timers.advance(50 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, MaskedTimerCountsButDoesNotInterrupt) {
  apic.write(LVT_TIMER, 4, 0x60 | MASKED);
  apic.write(INITIAL, 4, 5 * ms);
  timers.advance(6 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, TinyPeriodsAreLimited) {
  apic.write(LVT_TIMER, 4, 0x60 | PERIODIC);
  apic.write(INITIAL, 4, 1);
  EXPECT_GE(timers.next_deadline_ns(), LapicTimer::minimum_period_ns);
}

TEST_F(LapicTimerTest, TscDeadlineFiresAtItsTsc) {
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, 1000 + 2 * ms));  // one millisecond from now
  timers.advance(ms - 1);
  EXPECT_FALSE(came());
  timers.advance(1);
  EXPECT_TRUE(came());
}

TEST_F(LapicTimerTest, TscDeadlineInThePastFiresAtOnce) {
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, 1));
  EXPECT_TRUE(came());
  EXPECT_EQ(apic.read_msr(MSR_TSC_DEADLINE), 0u);
  timers.advance(10 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, TscDeadlineReadsZeroAfterFiring) {
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, 1000 + 2 * ms));
  EXPECT_EQ(apic.read_msr(MSR_TSC_DEADLINE), 1000 + 2 * ms);
  timers.advance(ms);
  EXPECT_EQ(apic.read_msr(MSR_TSC_DEADLINE), 0u);
}

TEST_F(LapicTimerTest, WritingZeroDisarmsTheDeadline) {
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, 1000 + 2 * ms));
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, 0));
  timers.advance(10 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, DeadlineIsIgnoredInOtherModes) {
  apic.write(LVT_TIMER, 4, 0x60);
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, 1));
  timers.advance(10 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, InitialCountIsIgnoredInDeadlineMode) {
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  apic.write(INITIAL, 4, ms);
  timers.advance(10 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, LeavingDeadlineModeDisarms) {
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, 1000 + 2 * ms));
  apic.write(LVT_TIMER, 4, 0x60);
  timers.advance(10 * ms);
  EXPECT_FALSE(came());
}

TEST_F(LapicTimerTest, DeadlineNeverIsNoTrouble) {
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, ~std::uint64_t{0}));
  timers.advance(1000 * ms);
  EXPECT_FALSE(came());
}

TEST(LapicTimer, SlowTscIsWaitedFor) {
  // The TSC is slower than promised: the timer looks again instead of firing early.
  ManualTimers timers;
  unsigned fired = 0;
  std::uint64_t tsc = 0;
  LapicTimer timer(timers, {.tsc_hz = 1'000'000'000, .guest_tsc = [&] { return tsc; }}, [&] { ++fired; });
  timer.set_mode(LapicTimer::Mode::TscDeadline);
  timer.set_tsc_deadline(1000);
  tsc = 900;
  timers.advance(1000);
  EXPECT_EQ(fired, 0u);
  tsc = 1000;
  timers.advance(100);
  EXPECT_EQ(fired, 1u);
}

TEST(LapicTimer, TscJumpMovesTheDeadline) {
  ManualTimers timers;
  unsigned fired = 0;
  std::uint64_t offset = 0;
  LapicTimer timer(timers, {.tsc_hz = 1'000'000'000, .guest_tsc = [&] { return timers.now_ns() + offset; }},
                   [&] { ++fired; });
  timer.set_mode(LapicTimer::Mode::TscDeadline);
  timer.set_tsc_deadline(1000);
  offset = 900;
  timer.tsc_changed();
  timers.advance(100);
  EXPECT_EQ(fired, 1u);
}

TEST(LapicTimer, DeadlinesArriveThroughTheRealEventLoop) {
  machine::BoardLock lock;
  EventLoop loop(lock);
  ApicBus bus(lock);
  LocalApic apic(0, bus, loop, nullptr, {});
  std::atomic<std::uint32_t> kicks{0};
  apic.set_kick([&] {
    kicks.fetch_add(1);
    kicks.notify_one();
  });
  apic.write(SVR, 4, 0x1ff);
  apic.write(LVT_TIMER, 4, 0x60 | TSC_DEADLINE);
  loop.start();
  unsigned early = 0;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t deadline = loop.clock().now_ns() + 100'000;
    ASSERT_TRUE(apic.write_msr(MSR_TSC_DEADLINE, deadline));
    while (!apic.interrupt_pending()) {
      const std::uint32_t seen = kicks.load();
      if (!apic.interrupt_pending()) kicks.wait(seen);
    }
    if (loop.clock().now_ns() < deadline) ++early;
    EXPECT_EQ(apic.acknowledge(), 0x60);
    std::lock_guard guard(lock);
    apic.write(EOI, 4, 0);
  }
  loop.stop();
  EXPECT_EQ(early, 0u);
}

}  // namespace
}  // namespace veneer::devices
