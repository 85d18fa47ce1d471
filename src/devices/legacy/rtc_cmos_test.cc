// The MC146818: time in every format, setting it, the three interrupts, CMOS memory.
#include "devices/legacy/rtc_cmos.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"
#include "devices/testing/fakes.h"
#include "machine/snapshot.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;

enum : std::uint8_t {
  SEC = 0,
  SEC_ALARM = 1,
  MIN = 2,
  MIN_ALARM = 3,
  HOUR = 4,
  HOUR_ALARM = 5,
  WDAY = 6,
  MDAY = 7,
  MONTH = 8,
  YEAR = 9,
  A = 10,
  B = 11,
  C = 12,
  D = 13,
  CENTURY = 0x32
};
constexpr std::uint8_t SET = 0x80, PIE = 0x40, AIE = 0x20, UIE = 0x10, BINARY = 0x04, H24 = 0x02;
constexpr std::uint64_t s = 1'000'000'000;
constexpr std::int64_t wall_start = 1'700'000'000;  // Tuesday 2023-11-14 22:13:20 UTC

/// Timers whose wall clock is set before the device looks at it.
struct WallTimers {
  WallTimers() { timers.set_wall_base(wall_start * static_cast<std::int64_t>(s)); }
  ManualTimers timers;
};

class RtcCmosTest : public ::testing::Test, protected WallTimers {
 protected:
  std::uint8_t get(std::uint8_t index) {
    out8(rtc, 0, index);
    return in8(rtc, 1);
  }
  void put(std::uint8_t index, std::uint8_t value) {
    out8(rtc, 0, index);
    out8(rtc, 1, value);
  }
  testing::FakeIrqLine irq;
  RtcCmos rtc{irq, timers};
};

TEST_F(RtcCmosTest, TimeIsBcdByDefault) {
  EXPECT_EQ(get(HOUR), 0x22);
  EXPECT_EQ(get(MIN), 0x13);
  EXPECT_EQ(get(SEC), 0x20);
}

TEST_F(RtcCmosTest, DateIsBcdByDefault) {
  EXPECT_EQ(get(CENTURY), 0x20);
  EXPECT_EQ(get(YEAR), 0x23);
  EXPECT_EQ(get(MONTH), 0x11);
  EXPECT_EQ(get(MDAY), 0x14);
}

TEST_F(RtcCmosTest, SundayIsDayOne) { EXPECT_EQ(get(WDAY), 3); }

TEST_F(RtcCmosTest, BinaryMode) {
  put(B, BINARY | H24);
  EXPECT_EQ(get(HOUR), 22);
}

TEST_F(RtcCmosTest, TwelveHourModeMarksAfternoon) {
  put(B, 0);
  EXPECT_EQ(get(HOUR), 0x90);
}

TEST_F(RtcCmosTest, TimeGoesOn) {
  timers.advance(41 * s);
  EXPECT_EQ(get(SEC), 0x01);
  EXPECT_EQ(get(MIN), 0x14);
}

TEST_F(RtcCmosTest, SetHoldsTheTime) {
  put(B, SET | H24);
  timers.advance(10 * s);
  EXPECT_EQ(get(SEC), 0x20);
}

TEST_F(RtcCmosTest, ClearingSetStartsFromWhatWasWritten) {
  put(B, SET | H24);
  put(HOUR, 0x03);
  put(MIN, 0x04);
  put(SEC, 0x05);
  put(YEAR, 0x99);
  put(CENTURY, 0x19);
  put(B, H24);
  timers.advance(2 * s);
  EXPECT_EQ(get(HOUR), 0x03);
  EXPECT_EQ(get(SEC), 0x07);
  EXPECT_EQ(get(YEAR), 0x99);
}

TEST_F(RtcCmosTest, TimeCanBeWrittenWithoutSet) {
  put(MIN, 0x59);
  EXPECT_EQ(get(MIN), 0x59);
  EXPECT_EQ(get(SEC), 0x20);
}

TEST_F(RtcCmosTest, NonsenseDateBecomesSomeDate) {
  put(B, SET | H24);
  for (const std::uint8_t index : {SEC, MIN, HOUR, MDAY, MONTH, YEAR, CENTURY}) put(index, 0xff);
  put(B, H24);
  EXPECT_LE(get(MONTH), 0x12);
}

TEST_F(RtcCmosTest, UpdateInProgressShowsBeforeTheSecondEnds) {
  timers.advance(s - 1'000'000);
  EXPECT_EQ(get(A) & 0x80, 0x80);
  timers.advance(1'000'000);
  EXPECT_EQ(get(A) & 0x80, 0);
}

TEST_F(RtcCmosTest, MemoryIsValid) { EXPECT_EQ(get(D), 0x80); }

TEST_F(RtcCmosTest, MemoryKeepsBytes) {
  put(0x40, 0x5a);
  EXPECT_EQ(get(0x40), 0x5a);
}

TEST_F(RtcCmosTest, FirmwareFindsWhatTheMachineSet) {
  rtc.set_cmos(0x34, 0x12);
  EXPECT_EQ(get(0x34), 0x12);
}

TEST_F(RtcCmosTest, IndexBit7IsTheNmiMask) {
  put(0x40, 0x5a);
  EXPECT_EQ(get(0xc0), 0x5a);
}

TEST_F(RtcCmosTest, UpdateInterruptComesEachSecond) {
  put(B, H24 | UIE);
  timers.advance(s);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(get(C) & 0x90, 0x90);
}

TEST_F(RtcCmosTest, ReadingCEndsTheInterrupt) {
  put(B, H24 | UIE);
  timers.advance(s);
  get(C);
  EXPECT_FALSE(irq.level);
  timers.advance(s);
  EXPECT_TRUE(irq.level);
}

TEST_F(RtcCmosTest, FlagsRiseWithoutInterrupt) {
  timers.advance(s);
  EXPECT_EQ(get(C) & 0x90, 0x10);
  EXPECT_FALSE(irq.level);
}

TEST_F(RtcCmosTest, PeriodicInterruptAtItsRate) {
  put(A, 0x26);
  put(B, H24 | PIE);
  get(C);
  unsigned count = 0;
  for (int i = 0; i < 1024; ++i) {
    timers.advance(s / 1024 + 1);
    if (irq.level) ++count;
    get(C);
  }
  EXPECT_GE(count, 1020u);
}

TEST_F(RtcCmosTest, PeriodicTimerRestsUntilCIsRead) {
  put(B, H24 | PIE);
  timers.advance(s);
  EXPECT_EQ(timers.next_deadline_ns(), ~std::uint64_t{0});
}

TEST_F(RtcCmosTest, RateZeroHasNoPeriodicFlag) {
  put(A, 0x20);
  get(C);
  timers.advance(10 * s);
  EXPECT_EQ(get(C) & 0x40, 0);
}

TEST_F(RtcCmosTest, AlarmInterruptAtItsTime) {
  put(HOUR_ALARM, 0x22);
  put(MIN_ALARM, 0x13);
  put(SEC_ALARM, 0x30);
  put(B, H24 | AIE);
  timers.advance(9 * s);
  EXPECT_FALSE(irq.level);
  timers.advance(s);
  EXPECT_TRUE(irq.level);
}

TEST_F(RtcCmosTest, AlarmFieldsCanMatchAnything) {
  put(HOUR_ALARM, 0xff);
  put(MIN_ALARM, 0xc0);
  put(SEC_ALARM, 0x00);
  put(B, H24 | AIE);
  timers.advance(40 * s);
  EXPECT_TRUE(irq.level);
}

TEST_F(RtcCmosTest, AlarmFlagIsFoundAfterALongTime) {
  put(HOUR_ALARM, 0x01);
  put(MIN_ALARM, 0x00);
  put(SEC_ALARM, 0x00);
  get(C);
  timers.advance(1'000'000 * s);
  EXPECT_EQ(get(C) & 0x20, 0x20);
}

TEST_F(RtcCmosTest, ResetKeepsMemoryAndEndsInterrupts) {
  put(0x40, 0x5a);
  put(B, H24 | UIE);
  timers.advance(s);
  rtc.reset();
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(get(0x40), 0x5a);
}

TEST_F(RtcCmosTest, TheFarthestDateIsItsOwnStateOnAnyHost) {
  ManualTimers at_1970;
  RtcCmos first{irq, at_1970};
  const auto write = [&](std::uint8_t index, std::uint8_t value) { out8(first, 0, index), out8(first, 1, value); };
  write(B, SET | H24);
  write(CENTURY, 0x99);
  write(B, H24);
  machine::SnapshotWriter out;
  first.save(out);
  machine::SnapshotReader same(out.data());
  first.restore(same);
  EXPECT_TRUE(same.ok());
  machine::SnapshotReader elsewhere(out.data());
  rtc.restore(elsewhere);
  EXPECT_TRUE(elsewhere.ok());
  EXPECT_EQ(get(CENTURY), 0x22);
}

}  // namespace
}  // namespace veneer::devices
