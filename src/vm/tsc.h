// The guest's time stamp counter: how fast it runs and how far it stands from the host's.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace veneer::vm {

/// The host's TSC now.
std::uint64_t read_host_tsc();

/// Measures the host's TSC rate against CLOCK_MONOTONIC_RAW, beside other work: the longer between constructor
/// and finish(), the better. CPUID leaves 15h and 4000'0010h are believed when they tell.
class TscCalibration {
 public:
  TscCalibration();
  /// Ticks per second; waits until at least 10 ms have passed since the constructor.
  std::uint64_t finish() const;

 private:
  struct Sample {
    std::uint64_t tsc, ns;
  };
  static Sample sample();
  Sample start_;
};

/// Guest TSC = host TSC + offset, the same on all vCPUs; stands still while the machine is paused. Any thread.
class GuestTsc {
 public:
  /// Starts the guest's TSC at zero.
  GuestTsc();
  /// Deterministic mode: the clock's nanoseconds are the TSC, and the host's has no part in it. Before anything else.
  void follow(const Clock& clock) {
    clock_ = &clock;
    offset_.store(0, std::memory_order_relaxed);
  }
  std::uint64_t offset() const { return offset_.load(std::memory_order_relaxed); }
  std::uint64_t now() const { return host_now() + offset(); }

  /// Stop and go on; by the thread that stops the vCPUs. resume() gives by how much offset() changed.
  void pause() { paused_at_ = host_now(); }
  std::uint64_t resume();
  /// The guest's TSC while it stands still.
  std::uint64_t paused_now() const { return paused_at_ + offset(); }
  /// Lets the guest's TSC go on from this value.
  void start_at(std::uint64_t guest_tsc) { offset_.store(guest_tsc - host_now(), std::memory_order_relaxed); }

 private:
  std::uint64_t host_now() const { return clock_ ? clock_->now_ns() : read_host_tsc(); }

  const Clock* clock_ = nullptr;
  std::atomic<std::uint64_t> offset_;
  std::uint64_t paused_at_ = 0;
};

}  // namespace veneer::vm
