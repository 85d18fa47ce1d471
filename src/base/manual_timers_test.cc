// ManualTimers: order, time seen by callbacks, cancelling.
#include "base/manual_timers.h"

#include <gtest/gtest.h>

#include <string>

namespace veneer {
namespace {

TEST(ManualTimers, FiresInOrderOfDeadlines) {
  ManualTimers timers;
  std::string order;
  const auto late = timers.make_timer([&] { order += "late"; });
  const auto soon = timers.make_timer([&] { order += "soon "; });
  late->arm(20);
  soon->arm(10);
  timers.advance(20);
  EXPECT_EQ(order, "soon late");
}

TEST(ManualTimers, CallbackSeesItsDeadlineAsNow) {
  ManualTimers timers;
  std::uint64_t seen = 0;
  const auto timer = timers.make_timer([&] { seen = timers.now_ns(); });
  timer->arm(7);
  timers.advance(100);
  EXPECT_EQ(seen, 7u);
}

TEST(ManualTimers, CancelledTimerDoesNotFire) {
  ManualTimers timers;
  bool fired = false;
  const auto timer = timers.make_timer([&] { fired = true; });
  timer->arm(7);
  timer->cancel();
  timers.advance(100);
  EXPECT_FALSE(fired);
}

TEST(ManualTimers, TimerArmedInCallbackFiresInTheSameAdvance) {
  ManualTimers timers;
  int count = 0;
  std::unique_ptr<Timer> timer;
  timer = timers.make_timer([&] {
    if (++count < 3) timer->arm(timers.now_ns() + 10);
  });
  timer->arm(10);
  timers.advance(100);
  EXPECT_EQ(count, 3);
}

}  // namespace
}  // namespace veneer
