// OneThread: deterministic mode. All vCPUs of a machine take turns on one host thread, as a seed says (docs/smp.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "machine/bus.h"
#include "vm/vcpu_thread.h"
#include "vm/virtual_time.h"

namespace veneer::vm {

class OneThread {
 public:
  OneThread(std::vector<std::unique_ptr<VcpuThread>>& vcpus, VirtualTime& time, machine::BoardLock& board_lock,
            std::uint64_t seed)
      : vcpus_(vcpus), time_(time), board_lock_(board_lock), random_(seed * 2 + 1) {}
  ~OneThread() { join(); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

  void start();
  /// After every vCPU was ordered to quit. Not with the board lock held.
  void join();

  /// The machine is about to be stopped or reset: no turn begins before that has happened, and the one under way ends.
  /// From a device's register, that is from inside a turn, this is always the same instruction.
  void hold();
  /// All that was executed.
  std::uint64_t instructions() const { return instructions_.load(std::memory_order_relaxed); }
  std::uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }

 private:
  void loop();
  bool held();
  void take_turn(VcpuThread& vcpu);
  std::uint64_t random();
  std::uint64_t turn_length();

  std::vector<std::unique_ptr<VcpuThread>>& vcpus_;
  VirtualTime& time_;
  machine::BoardLock& board_lock_;
  std::uint64_t random_;
  std::uint64_t now_ns_ = 0;
  std::atomic<VcpuThread*> running_{nullptr};
  std::atomic<bool> hold_{false};
  std::atomic<std::uint64_t> instructions_{0}, turns_{0};
  std::atomic<std::uint32_t> bell_{0};  // counts reasons to look around
  std::thread thread_;
};

}  // namespace veneer::vm
