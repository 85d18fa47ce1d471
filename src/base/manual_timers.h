// ManualTimers: a TimerService for tests, in which time moves only when the test says so.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace veneer {

/// Single-threaded. Timers fire inside advance() and set_now(), in order of their deadlines, each seeing its own
/// deadline as the current time.
class ManualTimers final : public TimerService {
 public:
  const Clock& clock() const override { return clock_; }

  std::unique_ptr<Timer> make_timer(std::function<void()> callback) override {
    return std::make_unique<ManualTimer>(*this, std::move(callback));
  }

  std::uint64_t now_ns() const { return clock_.now; }
  void advance(std::uint64_t ns) { set_now(clock_.now + ns); }

  /// Moves time forward to now_ns, firing what falls due. Timers that a callback arms in that span fire too.
  void set_now(std::uint64_t now_ns) {
    while (ManualTimer* next = earliest()) {
      if (next->deadline_ns > now_ns) break;
      clock_.now = std::max(clock_.now, next->deadline_ns);
      next->armed = false;
      next->callback();
    }
    clock_.now = std::max(clock_.now, now_ns);
  }

  /// Time of day at now_ns() == 0.
  void set_wall_base(std::int64_t wall_ns) { clock_.wall_base = wall_ns; }

  /// The earliest armed deadline, or all ones.
  std::uint64_t next_deadline_ns() const {
    const ManualTimer* next = earliest();
    return next ? next->deadline_ns : ~std::uint64_t{0};
  }

 private:
  struct ManualClock final : Clock {
    std::uint64_t now_ns() const override { return now; }
    std::int64_t wall_ns() const override { return wall_base + static_cast<std::int64_t>(now); }
    std::uint64_t now = 0;
    std::int64_t wall_base = 0;
  };

  struct ManualTimer final : Timer {
    ManualTimer(ManualTimers& owner_in, std::function<void()> callback_in)
        : owner(owner_in), callback(std::move(callback_in)) {
      owner.timers_.push_back(this);
    }
    ~ManualTimer() override { std::erase(owner.timers_, this); }
    void arm(std::uint64_t deadline) override {
      deadline_ns = deadline;
      armed = true;
    }
    void cancel() override { armed = false; }

    ManualTimers& owner;
    std::function<void()> callback;
    std::uint64_t deadline_ns = 0;
    bool armed = false;
  };

  ManualTimer* earliest() const {
    ManualTimer* best = nullptr;
    for (ManualTimer* timer : timers_)
      if (timer->armed && (!best || timer->deadline_ns < best->deadline_ns)) best = timer;
    return best;
  }

  ManualClock clock_;
  std::vector<ManualTimer*> timers_;
};

}  // namespace veneer
