// VirtualTime: the clock of a deterministic machine, which counts instructions, and the timers on it (docs/smp.md).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "cpu/engine.h"

namespace veneer::vm {

/// One instruction is one nanosecond. Everything but the clock: with the board lock held.
class VirtualTime final : public TimerService {
 public:
  VirtualTime() : clock_(*this) {}

  const Clock& clock() const override { return clock_; }
  std::unique_ptr<Timer> make_timer(std::function<void()> callback) override;

  /// Whose turn it is: its instructions are part of the time while it runs. Null between turns.
  void set_running(const cpu::Vcpu* vcpu) { running_ = vcpu; }
  /// Moves time forward and fires what falls due, in order of deadlines; of equal ones the timer made first.
  void advance_to(std::uint64_t now_ns);
  /// The earliest deadline, or all ones.
  std::uint64_t next_deadline_ns() const;

 private:
  class VirtualTimer;
  struct VirtualClock final : Clock {
    explicit VirtualClock(const VirtualTime& time) : time_(time) {}
    std::uint64_t now_ns() const override {
      return time_.now_ns_ + (time_.running_ ? time_.running_->turn_instructions() : 0);
    }
    std::int64_t wall_ns() const override {
      return static_cast<std::int64_t>(cpu::deterministic_wall_s * 1'000'000'000 + now_ns());
    }
    const VirtualTime& time_;
  };
  VirtualTimer* earliest() const;

  VirtualClock clock_;
  std::uint64_t now_ns_ = 0;
  const cpu::Vcpu* running_ = nullptr;
  std::vector<VirtualTimer*> timers_;  // in the order in which they were made
};

}  // namespace veneer::vm
