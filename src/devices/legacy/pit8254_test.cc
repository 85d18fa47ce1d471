// The 8254: every mode's output, latches, read-back, BCD, the interrupt of counter 0, port 61h.
#include "devices/legacy/pit8254.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"
#include "devices/testing/fakes.h"
#include "machine/snapshot.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;

constexpr std::uint64_t CONTROL = 3;

/// The first nanosecond at which n input ticks have passed.
constexpr std::uint64_t ticks(std::uint64_t n) {
  return (n * 1'000'000'000 + PitCounter::input_hz - 1) / PitCounter::input_hz;
}

class Pit8254Test : public ::testing::Test {
 protected:
  void program(unsigned counter, unsigned mode, std::uint16_t count, bool bcd = false) {
    out8(pit, CONTROL, static_cast<std::uint8_t>(counter << 6 | 0x30 | mode << 1 | (bcd ? 1 : 0)));
    out8(pit, counter, static_cast<std::uint8_t>(count));
    out8(pit, counter, static_cast<std::uint8_t>(count >> 8));
  }
  std::uint16_t read(unsigned counter) {
    const unsigned low = in8(pit, counter);
    return static_cast<std::uint16_t>(low | static_cast<unsigned>(in8(pit, counter)) << 8);
  }
  bool out2() { return (in8(pit.port61(), 0) & 0x20) != 0; }
  void gate2(bool open) { out8(pit.port61(), 0, open ? 1 : 0); }

  testing::FakeIrqLine irq;
  ManualTimers timers;
  Pit8254 pit{irq, timers};
};

// --- the interrupt ---

TEST_F(Pit8254Test, Mode0InterruptsOnce) {
  program(0, 0, 1000);
  timers.advance(ticks(1000) - 1);
  EXPECT_EQ(irq.rises, 0u);
  timers.advance(1);
  EXPECT_EQ(irq.rises, 1u);
  timers.advance(ticks(100'000));
  EXPECT_EQ(irq.rises, 1u);
}

TEST_F(Pit8254Test, Mode2InterruptsEveryPeriod) {
  program(0, 2, 11932);
  irq.rises = 0;
  timers.advance(ticks(11932 * 10));
  EXPECT_EQ(irq.rises, 10u);
}

TEST_F(Pit8254Test, Mode3InterruptsEveryPeriod) {
  program(0, 3, 11932);
  irq.rises = 0;
  timers.advance(ticks(11932 * 10));
  EXPECT_EQ(irq.rises, 10u);
}

TEST_F(Pit8254Test, Mode4InterruptsOnce) {
  program(0, 4, 1000);
  irq.rises = 0;
  timers.advance(ticks(100'000));
  EXPECT_EQ(irq.rises, 1u);
}

TEST_F(Pit8254Test, CountZeroIsTheLongest) {
  program(0, 2, 0);
  irq.rises = 0;
  timers.advance(ticks(65536) - 1);
  EXPECT_EQ(irq.rises, 0u);
  timers.advance(1);
  EXPECT_EQ(irq.rises, 1u);
}

TEST_F(Pit8254Test, ControlWordAloneStopsTheInterrupt) {
  program(0, 2, 11932);
  out8(pit, CONTROL, 0x34);
  irq.rises = 0;
  timers.advance(ticks(100'000));
  EXPECT_EQ(irq.rises, 0u);
}

TEST_F(Pit8254Test, TinyPeriodsAreLimited) {
  program(0, 2, 2);
  irq.rises = 0;
  timers.advance(10'000'000);
  EXPECT_LE(irq.rises, 102u);
}

TEST_F(Pit8254Test, LimitedPeriodsStayInPhase) {
  program(0, 2, 100);
  irq.rises = 0;
  timers.advance(ticks(100'000));
  EXPECT_GT(irq.rises, 400u);
}

// --- counts ---

TEST_F(Pit8254Test, CountFallsWithTime) {
  program(0, 2, 10000);
  timers.advance(ticks(1000));
  EXPECT_EQ(read(0), 9000);
}

TEST_F(Pit8254Test, Mode2ReloadsAtTheEnd) {
  program(0, 2, 10000);
  timers.advance(ticks(10000 + 5));
  EXPECT_EQ(read(0), 9995);
}

TEST_F(Pit8254Test, Mode0CountsOnPastZero) {
  program(0, 0, 100);
  timers.advance(ticks(101));
  EXPECT_EQ(read(0), 0xffff);
}

TEST_F(Pit8254Test, Mode3CountsByTwo) {
  program(0, 3, 10000);
  timers.advance(ticks(1000));
  EXPECT_EQ(read(0), 8000);
}

TEST_F(Pit8254Test, Mode3CountsTwiceInAPeriod) {
  program(0, 3, 10000);
  timers.advance(ticks(6000));
  EXPECT_EQ(read(0), 8000);
}

TEST_F(Pit8254Test, BcdCounts) {
  program(0, 2, 0x1000, true);
  timers.advance(ticks(1));
  EXPECT_EQ(read(0), 0x0999);
}

TEST_F(Pit8254Test, LatchHoldsTheCount) {
  program(0, 2, 10000);
  timers.advance(ticks(1000));
  out8(pit, CONTROL, 0x00);
  timers.advance(ticks(1000));
  EXPECT_EQ(read(0), 9000);
  EXPECT_EQ(read(0), 8000);
}

TEST_F(Pit8254Test, SecondLatchIsIgnoredUntilRead) {
  program(0, 2, 10000);
  timers.advance(ticks(1000));
  out8(pit, CONTROL, 0x00);
  timers.advance(ticks(1000));
  out8(pit, CONTROL, 0x00);
  EXPECT_EQ(read(0), 9000);
}

TEST_F(Pit8254Test, ReadBackLatchesSeveralCounters) {
  gate2(true);
  program(0, 2, 10000);
  program(2, 2, 20000);
  timers.advance(ticks(1000));
  out8(pit, CONTROL, 0xda);  // count of counters 0 and 2
  timers.advance(ticks(1000));
  EXPECT_EQ(read(0), 9000);
  EXPECT_EQ(read(2), 19000);
}

TEST_F(Pit8254Test, ReadBackGivesStatus) {
  program(0, 2, 10000);
  out8(pit, CONTROL, 0xe2);
  EXPECT_EQ(in8(pit, 0), 0xb4);
}

TEST_F(Pit8254Test, StatusShowsTheNullCount) {
  out8(pit, CONTROL, 0x34);
  out8(pit, CONTROL, 0xe2);
  EXPECT_EQ(in8(pit, 0), 0xf4);
}

TEST_F(Pit8254Test, ReadBackOfBothGivesStatusFirst) {
  program(0, 2, 10000);
  timers.advance(ticks(1000));
  out8(pit, CONTROL, 0xc2);
  EXPECT_EQ(in8(pit, 0), 0xb4);
  EXPECT_EQ(read(0), 9000);
}

TEST_F(Pit8254Test, LowByteOnlyAccess) {
  out8(pit, CONTROL, 0x14);
  out8(pit, 0, 200);
  timers.advance(ticks(10));
  EXPECT_EQ(in8(pit, 0), 190);
  EXPECT_EQ(in8(pit, 0), 190);
}

TEST_F(Pit8254Test, HighByteOnlyAccess) {
  out8(pit, CONTROL, 0x24);
  out8(pit, 0, 2);
  timers.advance(ticks(1));
  EXPECT_EQ(in8(pit, 0), 1);
}

TEST_F(Pit8254Test, ControlWordCannotBeRead) { EXPECT_EQ(in8(pit, CONTROL), 0xff); }

// --- counter 2 and port 61h ---

TEST_F(Pit8254Test, Mode0OutputRisesAtTheEnd) {
  gate2(true);
  program(2, 0, 1000);
  EXPECT_FALSE(out2());
  timers.advance(ticks(1000));
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, Mode0StopsWhileTheGateIsClosed) {
  gate2(true);
  program(2, 0, 1000);
  timers.advance(ticks(400));
  gate2(false);
  timers.advance(ticks(5000));
  EXPECT_FALSE(out2());
  EXPECT_EQ(read(2), 600);
  gate2(true);
  timers.advance(ticks(601));
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, Mode1IsTriggeredByTheGate) {
  program(2, 1, 1000);
  timers.advance(ticks(2000));
  EXPECT_TRUE(out2());
  gate2(true);
  EXPECT_FALSE(out2());
  timers.advance(ticks(1000));
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, Mode1IsRetriggered) {
  program(2, 1, 1000);
  gate2(true);
  timers.advance(ticks(900));
  gate2(false);
  gate2(true);
  timers.advance(ticks(900));
  EXPECT_FALSE(out2());
}

TEST_F(Pit8254Test, Mode2OutputIsLowForOneTick) {
  gate2(true);
  program(2, 2, 1000);
  timers.advance(ticks(998));
  EXPECT_TRUE(out2());
  timers.set_now(ticks(999));
  EXPECT_FALSE(out2());
  timers.set_now(ticks(1000));
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, Mode3OutputIsASquareWave) {
  gate2(true);
  program(2, 3, 1000);
  EXPECT_TRUE(out2());
  timers.set_now(ticks(500));
  EXPECT_FALSE(out2());
  timers.set_now(ticks(1000));
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, Mode2TakesANewCountAtTheEndOfItsPeriod) {
  gate2(true);
  program(2, 2, 1000);
  timers.set_now(ticks(400));
  out8(pit, 2, 100);
  out8(pit, 2, 0);
  EXPECT_EQ(read(2), 600);
  out8(pit, CONTROL, 0xe8);  // read back the status of counter 2
  EXPECT_EQ(in8(pit, 2) & 0x40, 0x40) << "the new count is not loaded";
  timers.set_now(ticks(999));
  EXPECT_FALSE(out2());
  timers.set_now(ticks(1000) + ticks(98));
  EXPECT_TRUE(out2());
  timers.set_now(ticks(1000) + ticks(99));
  EXPECT_FALSE(out2());
  out8(pit, CONTROL, 0xe8);
  EXPECT_EQ(in8(pit, 2) & 0x40, 0);
}

TEST_F(Pit8254Test, Mode3TakesANewCountAtTheEndOfItsHalf) {
  gate2(true);
  program(2, 3, 1000);
  timers.set_now(ticks(100));
  out8(pit, 2, 40);
  out8(pit, 2, 0);
  timers.set_now(ticks(499));
  EXPECT_TRUE(out2());
  timers.set_now(ticks(500));
  EXPECT_FALSE(out2());
  timers.set_now(ticks(500) + ticks(19));
  EXPECT_FALSE(out2());
  timers.set_now(ticks(500) + ticks(20));
  EXPECT_TRUE(out2());
  timers.set_now(ticks(500) + ticks(40));
  EXPECT_FALSE(out2());
}

TEST_F(Pit8254Test, InterruptsFollowANewCount) {
  program(0, 3, 60'000);
  irq.rises = 0;
  timers.set_now(ticks(10'000));
  out8(pit, 0, 20'000 & 0xff);
  out8(pit, 0, 20'000 >> 8);
  timers.set_now(ticks(30'000) + ticks(10'000) - 2);  // each rounds up
  EXPECT_EQ(irq.rises, 0u);
  timers.set_now(ticks(30'000) + ticks(10'000));
  EXPECT_EQ(irq.rises, 1u);
  timers.set_now(ticks(30'000) + ticks(50'000));
  EXPECT_EQ(irq.rises, 3u);
}

TEST_F(Pit8254Test, ANewCountThatWaitsIsSaved) {
  gate2(true);
  program(2, 2, 1000);
  timers.set_now(ticks(400));
  out8(pit, 2, 100);
  out8(pit, 2, 0);
  machine::SnapshotWriter out;
  pit.save(out);
  pit.reset();
  timers.set_now(ticks(500));
  machine::SnapshotReader in(out.data());
  pit.restore(in);
  ASSERT_TRUE(in.ok());
  timers.set_now(ticks(1100));
  EXPECT_EQ(read(2), 100);
  timers.set_now(ticks(1150));
  EXPECT_EQ(read(2), 50);
}

TEST_F(Pit8254Test, ClosedGateHoldsMode3High) {
  gate2(true);
  program(2, 3, 1000);
  timers.advance(ticks(600));
  gate2(false);
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, Mode5StrobesAfterTheTrigger) {
  program(2, 5, 1000);
  gate2(true);
  timers.set_now(ticks(999));
  EXPECT_TRUE(out2());
  timers.set_now(ticks(1000));
  EXPECT_FALSE(out2());
  timers.set_now(ticks(1001));
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, Port61KeepsItsControlBits) {
  out8(pit.port61(), 0, 0xff);
  EXPECT_EQ(in8(pit.port61(), 0) & 0xcf, 0x0f);
}

TEST_F(Pit8254Test, RefreshBitToggles) {
  const std::uint8_t before = in8(pit.port61(), 0);
  timers.advance(15'085);
  EXPECT_EQ((before ^ in8(pit.port61(), 0)) & 0x10, 0x10);
}

}  // namespace
}  // namespace veneer::devices
