// EventLoop: timers, descriptors, posted work, and the pausable clock, on the real thread.
#include "base/event_loop.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <string>
#include <thread>

namespace veneer {
namespace {

using std::chrono::milliseconds;
constexpr std::uint64_t ms = 1'000'000;

/// Set once by a callback, waited for by the test.
class Flag {
 public:
  void set() {
    std::lock_guard guard(mutex_);
    set_ = true;
    changed_.notify_all();
  }
  bool wait(milliseconds limit = milliseconds(5000)) {
    std::unique_lock guard(mutex_);
    return changed_.wait_for(guard, limit, [this] { return set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

class EventLoopTest : public testing::Test {
 protected:
  std::uint64_t now() const { return loop.clock().now_ns(); }

  std::recursive_mutex lock;
  EventLoop loop{lock};
};

TEST_F(EventLoopTest, TimerFiresNotBeforeItsDeadline) {
  Flag fired;
  std::uint64_t fired_at = 0;
  auto timer = loop.make_timer([&] {
    fired_at = now();
    fired.set();
  });
  loop.start();
  const std::uint64_t deadline = now() + 5 * ms;
  timer->arm(deadline);
  ASSERT_TRUE(fired.wait());
  loop.stop();
  EXPECT_GE(fired_at, deadline);
}

TEST_F(EventLoopTest, DeadlineInThePastFiresAtOnce) {
  Flag fired;
  auto timer = loop.make_timer([&] { fired.set(); });
  loop.start();
  timer->arm(0);
  EXPECT_TRUE(fired.wait());
  loop.stop();
}

TEST_F(EventLoopTest, ManyTimersFireInOrder) {
  Flag done;
  std::vector<unsigned> order;
  std::vector<std::unique_ptr<Timer>> timers;
  const std::uint64_t base = now() + 2 * ms;
  for (unsigned i = 0; i < 64; ++i) {
    timers.push_back(loop.make_timer([&order, &done, i] {
      order.push_back(i);
      if (order.size() == 64) done.set();
    }));
    timers[i]->arm(base + (i * 37 % 64) * 1000);
  }
  loop.start();
  ASSERT_TRUE(done.wait());
  loop.stop();
  EXPECT_TRUE(
      std::is_sorted(order.begin(), order.end(), [](unsigned a, unsigned b) { return a * 37 % 64 < b * 37 % 64; }));
}

TEST_F(EventLoopTest, CancelledTimerDoesNotFire) {
  bool fired = false;
  Flag later;
  auto timer = loop.make_timer([&] { fired = true; });
  auto other = loop.make_timer([&] { later.set(); });
  timer->arm(now() + 2 * ms);
  other->arm(now() + 10 * ms);
  timer->cancel();
  loop.start();
  ASSERT_TRUE(later.wait());
  loop.stop();
  EXPECT_FALSE(fired);
}

TEST_F(EventLoopTest, ArmingLaterReplacesTheDeadline) {
  Flag fired;
  std::uint64_t fired_at = 0;
  auto timer = loop.make_timer([&] {
    fired_at = now();
    fired.set();
  });
  loop.start();
  const std::uint64_t start = now();
  timer->arm(start + 2 * ms);
  timer->arm(start + 20 * ms);
  ASSERT_TRUE(fired.wait());
  loop.stop();
  EXPECT_GE(fired_at, start + 20 * ms);
}

TEST_F(EventLoopTest, CallbackRunsOnTheEventsThreadUnderTheBoardLock) {
  Flag done;
  std::string name(16, '\0');
  bool others_can_lock = true;
  loop.start();
  loop.post([&] {
    pthread_getname_np(pthread_self(), name.data(), name.size());
    std::thread([&] {
      others_can_lock = lock.try_lock();
      if (others_can_lock) lock.unlock();
    }).join();
    done.set();
  });
  ASSERT_TRUE(done.wait());
  loop.stop();
  EXPECT_STREQ(name.c_str(), "_events");
  EXPECT_FALSE(others_can_lock);
}

TEST_F(EventLoopTest, DescriptorCallbackGetsItsEvents) {
  Flag done;
  std::uint32_t seen = 0;
  const Fd event(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  loop.add_fd(event.get(), EPOLLIN, [&](std::uint32_t events) {
    seen = events;
    loop.remove_fd(event.get());
    done.set();
  });
  loop.start();
  ASSERT_TRUE(done.wait());
  loop.stop();
  EXPECT_EQ(seen, static_cast<std::uint32_t>(EPOLLIN));
}

TEST_F(EventLoopTest, TimersStandStillWhileTheClockIsPaused) {
  Flag fired;
  auto timer = loop.make_timer([&] { fired.set(); });
  loop.start();
  timer->arm(now() + 5 * ms);
  loop.pause_clock();
  EXPECT_FALSE(fired.wait(milliseconds(30)));
  loop.resume_clock();
  EXPECT_TRUE(fired.wait());
  loop.stop();
}

TEST_F(EventLoopTest, PausedClockDoesNotMoveAndGoesOnWithoutAJump) {
  loop.pause_clock();
  const std::uint64_t before = now();
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(now(), before);
  loop.resume_clock();
  EXPECT_LT(now(), before + 20 * ms);
}

TEST_F(EventLoopTest, TimerThatAlwaysRearmsDoesNotStarvePostedWork) {
  Flag done;
  std::unique_ptr<Timer> timer;
  timer = loop.make_timer([&] { timer->arm(0); });
  timer->arm(0);
  loop.start();
  loop.post([&] { done.set(); });
  EXPECT_TRUE(done.wait());
  loop.stop();
}

}  // namespace
}  // namespace veneer
