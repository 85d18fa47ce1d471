// The hang watchdog: dumps a vCPU's last events when nothing has happened on it for long.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/flight_recorder.h"

namespace veneer::debug {

/// Finds vCPUs whose flight recorder has stood still although they were not halted.
class HangDetector {
 public:
  explicit HangDetector(unsigned vcpus) : seen_(vcpus) {}

  /// Call at regular intervals; gives the vCPUs that have recorded nothing for `limit` calls, each only once per hang.
  std::vector<unsigned> tick(unsigned limit);
  /// Forgets how long it has been: while the machine is paused nothing is expected to happen.
  void forgive();

 private:
  struct Seen {
    std::uint64_t next = 0;
    unsigned still = 0;
  };
  std::vector<Seen> seen_;
};

/// A thread ("_watchdog") with a HangDetector. No thread when `limit` is zero.
class HangWatchdog {
 public:
  HangWatchdog(unsigned vcpus, std::chrono::seconds limit, std::function<bool()> paused);
  ~HangWatchdog();
  HangWatchdog(const HangWatchdog&) = delete;
  HangWatchdog& operator=(const HangWatchdog&) = delete;

 private:
  void run();

  HangDetector detector_;
  const std::chrono::seconds limit_;
  const std::function<bool()> paused_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace veneer::debug
