// The HPET: counter, one shot and periodic timers, ways of interrupting.
#include "devices/legacy/hpet.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"
#include "devices/irq/pic8259.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0;
constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t ticks_per_ms = 100'000;
constexpr std::uint64_t LEVEL = 2, ENABLE = 4, PERIODIC = 8, SET = 0x40, BITS_32 = 0x100, FSB = 0x4000;
constexpr std::uint64_t ROUTE_20 = 20u << 9;

class HpetTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t timer(unsigned n) { return 0x100 + 0x20 * n; }
  void put(std::uint64_t offset, std::uint64_t value) { hpet.write(offset, 8, value); }
  std::uint64_t get(std::uint64_t offset) { return hpet.read(offset, 8); }
  Hpet::Wiring wiring() {
    Hpet::Wiring all{
        irq0, irq8, {}, [this](std::uint64_t address, std::uint32_t data) { messages.emplace_back(address, data); }};
    all.pins[20] = &pin20;
    all.pins[21] = &pin21;
    return all;
  }

  ManualTimers timers;
  testing::FakeIrqLine timer_line, rtc_line, pin20, pin21;
  ReplaceableIrq irq0{timer_line}, irq8{rtc_line};
  std::vector<std::pair<std::uint64_t, std::uint32_t>> messages;
  Hpet hpet{wiring(), timers};
};

TEST_F(HpetTest, CapabilitiesTellThePeriod) {
  EXPECT_EQ(hpet.read(4, 4), 10'000'000u);
  EXPECT_EQ(hpet.read(0, 4), Hpet::block_id);
}

TEST_F(HpetTest, CounterStandsUntilItIsEnabled) {
  timers.advance(ms);
  EXPECT_EQ(get(COUNTER), 0u);
}

TEST_F(HpetTest, CounterRuns) {
  put(CONFIG, 1);
  timers.advance(ms);
  EXPECT_EQ(get(COUNTER), ticks_per_ms);
}

TEST_F(HpetTest, HaltedCounterKeepsItsValueAndCanBeWritten) {
  put(CONFIG, 1);
  timers.advance(ms);
  put(CONFIG, 0);
  timers.advance(ms);
  EXPECT_EQ(get(COUNTER), ticks_per_ms);
  put(COUNTER, 5);
  EXPECT_EQ(get(COUNTER), 5u);
}

TEST_F(HpetTest, RunningCounterCannotBeWritten) {
  put(CONFIG, 1);
  put(COUNTER, 5);
  EXPECT_EQ(get(COUNTER), 0u);
}

TEST_F(HpetTest, HalvesCanBeRead) {
  put(COUNTER, 0x1122334455667788);
  EXPECT_EQ(hpet.read(COUNTER, 4), 0x55667788u);
  EXPECT_EQ(hpet.read(COUNTER + 4, 4), 0x11223344u);
}

TEST_F(HpetTest, OneShotFiresOnce) {
  put(timer(0), ENABLE | ROUTE_20);
  put(timer(0) + 8, 2 * ticks_per_ms);
  put(CONFIG, 1);
  timers.advance(2 * ms - 1);
  EXPECT_EQ(pin20.rises, 0u);
  timers.advance(100 * ms);
  EXPECT_EQ(pin20.rises, 1u);
  EXPECT_FALSE(pin20.level);
}

TEST_F(HpetTest, OneShotOf32BitsFiresAgainWhenTheCounterWraps) {
  put(timer(0), ENABLE | BITS_32 | ROUTE_20);
  put(timer(0) + 8, ticks_per_ms);
  put(CONFIG, 1);
  timers.advance(50'000 * ms);
  EXPECT_EQ(pin20.rises, 2u);
}

TEST_F(HpetTest, PeriodicAsLinuxSetsItUp) {
  put(CONFIG, 1);
  timers.advance(ms);
  put(timer(0), ENABLE | PERIODIC | SET | BITS_32 | ROUTE_20);
  hpet.write(timer(0) + 8, 4, 5 * ticks_per_ms);  // the first match
  hpet.write(timer(0) + 8, 4, ticks_per_ms);      // then the period
  timers.advance(3 * ms);
  EXPECT_EQ(pin20.rises, 0u);
  timers.advance(ms);
  EXPECT_EQ(pin20.rises, 1u);
  timers.advance(10 * ms);
  EXPECT_EQ(pin20.rises, 11u);
}

TEST_F(HpetTest, PeriodicComparatorMovesOn) {
  put(timer(0), PERIODIC | SET);
  put(timer(0) + 8, ticks_per_ms);
  put(CONFIG, 1);
  timers.advance(3 * ms + ms / 2);
  EXPECT_EQ(get(timer(0) + 8), 4 * ticks_per_ms);
}

TEST_F(HpetTest, SilentTimerArmsNothing) {
  put(timer(0) + 8, ticks_per_ms);
  put(CONFIG, 1);
  EXPECT_EQ(timers.next_deadline_ns(), ~std::uint64_t{0});
}

TEST_F(HpetTest, LegacyReplacementTakesTheTimersInterrupt) {
  put(CONFIG, 3);
  irq0.legacy().pulse();
  EXPECT_EQ(timer_line.rises, 0u);
  put(timer(0), ENABLE);
  put(timer(0) + 8, get(COUNTER) + ticks_per_ms);
  timers.advance(ms);
  EXPECT_EQ(timer_line.rises, 1u);
}

/// Linux with "nolapic": an 8259A with interrupts off at that moment.
TEST_F(HpetTest, ReplacedInterruptWaitsForAnOldController) {
  testing::FakeIrqLine intr;
  Pic8259Pair pics{intr};
  for (const auto& [offset, value] : {std::pair{0, 0x11}, {1, 0x20}, {1, 4}, {1, 1}, {1, 0xfe}})
    pics.master().write(offset, 1, value);
  ReplaceableIrq isa0{pics.input(0)};
  Hpet other{{isa0, irq8, {}, {}}, timers};
  other.write(CONFIG, 8, 3);
  other.write(timer(0), 8, ENABLE);
  for (unsigned n = 1; n <= 2; ++n) {
    other.write(timer(0) + 8, 8, n * ticks_per_ms);
    timers.advance(ms);
    ASSERT_TRUE(intr.level) << n;
    EXPECT_EQ(pics.acknowledge(), 0x20);
    pics.master().write(0, 1, 0x20);
    EXPECT_FALSE(intr.level);
  }
}

TEST_F(HpetTest, LegacyReplacementTakesTheClocksInterrupt) {
  put(CONFIG, 3);
  put(timer(1), ENABLE);
  put(timer(1) + 8, ticks_per_ms);
  timers.advance(ms);
  EXPECT_EQ(rtc_line.rises, 1u);
}

TEST_F(HpetTest, WithoutReplacementTheOldDeviceInterrupts) {
  irq0.legacy().set(true);
  EXPECT_TRUE(timer_line.level);
  put(CONFIG, 3);
  EXPECT_FALSE(timer_line.level);
  put(CONFIG, 1);
  EXPECT_TRUE(timer_line.level);
}

TEST_F(HpetTest, LevelStaysUntilItIsCleared) {
  put(timer(1), ENABLE | LEVEL | 21u << 9);
  put(timer(1) + 8, ticks_per_ms);
  put(CONFIG, 1);
  timers.advance(2 * ms);
  EXPECT_TRUE(pin21.level);
  EXPECT_EQ(get(STATUS), 2u);
  put(STATUS, 1);
  EXPECT_TRUE(pin21.level);
  put(STATUS, 2);
  EXPECT_FALSE(pin21.level);
}

TEST_F(HpetTest, MessageInPlaceOfALine) {
  put(timer(2), ENABLE | FSB);
  put(timer(2) + 0x10, 0xfee00000'00004041);
  put(timer(2) + 8, ticks_per_ms);
  put(CONFIG, 1);
  timers.advance(ms);
  EXPECT_EQ(messages, (std::vector<std::pair<std::uint64_t, std::uint32_t>>{{0xfee00000, 0x4041}}));
}

TEST_F(HpetTest, RouteThatIsNotOfferedGoesNowhere) {
  put(timer(0), ENABLE | 3u << 9);
  put(timer(0) + 8, ticks_per_ms);
  put(CONFIG, 1);
  timers.advance(ms);
  EXPECT_EQ(pin20.rises + pin21.rises + timer_line.rises, 0u);
}

TEST_F(HpetTest, TinyPeriodDoesNotFlood) {
  put(timer(0), ENABLE | PERIODIC | SET | ROUTE_20);
  put(timer(0) + 8, 1);
  put(CONFIG, 1);
  timers.advance(10 * ms);
  EXPECT_LE(pin20.rises, 101u);
  EXPECT_GE(pin20.rises, 90u);
}

TEST_F(HpetTest, RestoredTimerGoesOn) {
  put(timer(0), ENABLE | ROUTE_20);
  put(timer(0) + 8, 5 * ticks_per_ms);
  put(CONFIG, 1);
  timers.advance(2 * ms);
  const auto state = testing::saved(hpet);
  timers.advance(10 * ms);
  ASSERT_TRUE(testing::restore(hpet, state));
  pin20.rises = 0;
  timers.advance(3 * ms - 10);
  EXPECT_EQ(pin20.rises, 0u);
  timers.advance(20);
  EXPECT_EQ(pin20.rises, 1u);
}

TEST_F(HpetTest, RestoringMovesNoLine) {
  put(CONFIG, 3);
  const auto state = testing::saved(hpet);
  hpet.reset();
  irq0.legacy().set(true);
  timer_line.rises = 0;
  ASSERT_TRUE(testing::restore(hpet, state));
  irq0.legacy().pulse();
  EXPECT_EQ(timer_line.rises, 0u);
}

}  // namespace
}  // namespace veneer::devices
