// When a vCPU counts as idle.
#include "vm/idleness.h"

#include <gtest/gtest.h>

namespace veneer::vm {
namespace {

using State = IdleMeter::State;
constexpr std::uint64_t second = 1'000'000'000;

/// Looks once a second, with so much work in each; the state at the end.
State work(IdleMeter& meter, IdleMeter::Clocks& clocks, unsigned seconds, std::uint64_t work_ns) {
  State state = State::Busy;
  for (unsigned i = 0; i < seconds; i++) {
    clocks.now_ns += second;
    clocks.cpu_ns += work_ns;
    state = meter.look(clocks);
  }
  return state;
}

struct IdleMeterTest : testing::Test {
  IdleMeterTest() { EXPECT_EQ(work(meter, clocks, 1, second), State::Busy); }
  IdleMeter meter;
  IdleMeter::Clocks clocks{1000 * second, 0};
};

TEST_F(IdleMeterTest, ALittleWorkIsIdleAfterAWhile) {
  EXPECT_EQ(work(meter, clocks, 4, second / 100), State::Waiting);
  EXPECT_EQ(work(meter, clocks, 1, second / 100), State::Idle);
}

TEST_F(IdleMeterTest, WorkInOneSecondBeginsAnew) {
  EXPECT_EQ(work(meter, clocks, 4, 0), State::Waiting);
  EXPECT_EQ(work(meter, clocks, 1, second / 10), State::Busy);
  EXPECT_EQ(work(meter, clocks, 4, 0), State::Waiting);
  EXPECT_EQ(work(meter, clocks, 1, 0), State::Idle);
}

TEST_F(IdleMeterTest, ASteadyLoadIsNeverIdle) { EXPECT_EQ(work(meter, clocks, 1000, second / 10), State::Busy); }

TEST_F(IdleMeterTest, ItNeedNotLookWhileItSleeps) {
  clocks.now_ns = meter.idle_at_ns();
  EXPECT_EQ(meter.look(clocks), State::Idle);
}

TEST_F(IdleMeterTest, TheWhileDoublesWhenMemoryWasGivenBack) {
  EXPECT_EQ(work(meter, clocks, 5, 0), State::Idle);
  meter.gave_back(clocks, true);
  EXPECT_EQ(work(meter, clocks, 9, 0), State::Waiting);
  EXPECT_EQ(work(meter, clocks, 1, 0), State::Idle);
}

TEST_F(IdleMeterTest, TheWhileStaysWhenThereWasNothingToGive) {
  EXPECT_EQ(work(meter, clocks, 5, 0), State::Idle);
  meter.gave_back(clocks, false);
  EXPECT_EQ(work(meter, clocks, 5, 0), State::Idle);
}

TEST_F(IdleMeterTest, TheWhileHasAnEnd) {
  for (unsigned i = 0; i < 40; i++) meter.gave_back(clocks, true);
  clocks.now_ns += IdleMeter::longest_while_ns;
  EXPECT_EQ(meter.look(clocks), State::Idle);
}

TEST(Idleness, AllAreIdleWhenTheLastOneIs) {
  Idleness idleness(2);
  EXPECT_FALSE(idleness.rests(0));
  EXPECT_TRUE(idleness.rests(1));
}

TEST(Idleness, OneAtWorkIsEnough) {
  Idleness idleness(2);
  idleness.rests(0);
  idleness.works(0);
  EXPECT_FALSE(idleness.rests(1));
}

TEST(Idleness, SixtyFour) {
  Idleness idleness(64);
  for (unsigned i = 0; i < 63; i++) idleness.rests(i);
  EXPECT_TRUE(idleness.rests(63));
}

}  // namespace
}  // namespace veneer::vm
