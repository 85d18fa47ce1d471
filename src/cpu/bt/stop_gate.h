// StopGate: the one way to make other vCPUs stand still and to know that they do (docs/smp.md, "Stop and acknowledge").
//
// A vCPU is *inside* while it may run guest code or touch its own TLB; it is *outside* when it is halted, parked, not
// started, waiting to stop others, or waiting for one who does. Whoever stops others has every one of them outside,
// and they stay there until it lets them go. Not for register-only code.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace veneer::cpu::bt {

/// Sets of vCPUs are bit masks.
inline constexpr unsigned max_vcpus = 64;

class StopGate {
 public:
  /// Tells vCPU `index` to look around soon. Called with the gate's mutex held, must not block.
  using Kick = void (*)(void* context, unsigned index);

  StopGate(Kick kick, void* context) : kick_(kick), context_(context) {}
  StopGate(const StopGate&) = delete;
  StopGate& operator=(const StopGate&) = delete;

  /// vCPU `self` comes inside; waits while it is to stand still. On its thread.
  void enter(unsigned self);
  /// It goes outside.
  void leave(unsigned self);
  /// Somebody wants vCPU `self` to stand still: a look without a lock, for the run loop.
  bool wanted(unsigned self) const { return (wanted_.load(std::memory_order_seq_cst) >> self) & 1; }
  /// Acknowledges: outside until whoever asked is done. At a safe point of `self` only.
  void acknowledge(unsigned self) {
    leave(self);
    enter(self);
  }

  /// From stop() to let_go() every vCPU of `others` (but `self`) is outside. `self` must be inside and at a safe point,
  /// with no lock held: it counts as outside while others stop it before its turn comes. It may not stop them twice.
  void stop(unsigned self, std::uint64_t others);
  void let_go();
  class Stopped {
   public:
    Stopped(StopGate& gate, unsigned self, std::uint64_t others) : gate_(gate) { gate_.stop(self, others); }
    ~Stopped() { gate_.let_go(); }
    Stopped(const Stopped&) = delete;
    Stopped& operator=(const Stopped&) = delete;

   private:
    StopGate& gate_;
  };

  /// For tests: each step of the protocol is delayed by up to so many microseconds, at random.
  void set_delays(unsigned most_us) { most_us_ = most_us; }
  void delay() const;
  std::uint64_t stops() const { return stops_.load(std::memory_order_relaxed); }

 private:
  const Kick kick_;
  void* const context_;
  unsigned most_us_ = 0;
  std::mutex mutex_;
  std::condition_variable acknowledged_, released_;
  std::uint64_t inside_ = 0;              // guarded by mutex_
  bool busy_ = false;                     // somebody stops others; guarded by mutex_
  std::atomic<std::uint64_t> wanted_{0};  // written under mutex_
  std::atomic<std::uint64_t> stops_{0};
};

}  // namespace veneer::cpu::bt
