// Time and timers as devices see them: injected, so that tests own time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace veneer {

/// A monotonic clock in nanoseconds. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Nanoseconds since an arbitrary start; never goes back; stands still while the machine is paused.
  virtual std::uint64_t now_ns() const = 0;
  /// Wall-clock time of day, nanoseconds since 1970-01-01 UTC (for the RTC).
  virtual std::int64_t wall_ns() const = 0;
};

/// A one-shot timer. Arming again replaces the deadline. Destroying it cancels it.
/// The callback runs on the event loop's thread under the board lock (machine/bus.h).
/// arm() and cancel() are thread-safe and are called with the board lock held.
class Timer {
 public:
  virtual ~Timer() = default;
  /// Fire once when the clock reaches deadline_ns; at once if that is past.
  virtual void arm(std::uint64_t deadline_ns) = 0;
  virtual void cancel() = 0;
};

/// Makes timers on one clock.
class TimerService {
 public:
  virtual ~TimerService() = default;
  virtual const Clock& clock() const = 0;
  virtual std::unique_ptr<Timer> make_timer(std::function<void()> callback) = 0;
};

}  // namespace veneer
