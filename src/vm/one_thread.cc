// Turns: which vCPU goes on, for how long, and what time it is then. Nothing here may depend on the host's time.
#include "vm/one_thread.h"

#include <algorithm>

namespace veneer::vm {

void OneThread::start() {
  for (const auto& vcpu : vcpus_) vcpu->share_bell(bell_);
  thread_ = std::thread([this] { loop(); });
}

void OneThread::join() {
  if (thread_.joinable()) thread_.join();
}

void OneThread::hold() {
  hold_.store(true);
  if (VcpuThread* vcpu = running_.load()) vcpu->vcpu().request_exit();
}

/// xorshift64*
std::uint64_t OneThread::random() {
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return random_ * 0x2545f4914f6cdd1d;
}

/// Short turns find races, long ones get somewhere: all orders of magnitude up to 130,000 instructions.
std::uint64_t OneThread::turn_length() {
  const std::uint64_t longest = std::uint64_t{32} << (random() >> 32) % 13;
  return longest / 2 + (random() >> 20) % longest;
}

/// Until the vCPUs have been ordered away from running.
bool OneThread::held() {
  if (!hold_.load()) return false;
  for (const auto& vcpu : vcpus_)
    if (vcpu->ordered_to_run()) return true;
  hold_.store(false);
  return false;
}

void OneThread::loop() {
  begin_vcpu_thread(0, "vcpus");
  std::vector<VcpuThread*> ready;
  for (;;) {
    const std::uint32_t seen = bell_.load();
    bool idle = false, quit = true;
    ready.clear();
    if (!held()) {
      for (const auto& vcpu : vcpus_) {
        const VcpuThread::Readiness readiness = vcpu->readiness();
        if (readiness == VcpuThread::Readiness::Ready) ready.push_back(vcpu.get());
        idle |= readiness == VcpuThread::Readiness::Idle;
        quit &= readiness == VcpuThread::Readiness::Quit;
      }
      if (quit) return;
    }
    if (!ready.empty()) {
      take_turn(*ready[(random() >> 32) % ready.size()]);
      continue;
    }
    if (idle) {
      // Nobody has anything to do: it is the time at which somebody will.
      const std::lock_guard lock(board_lock_);
      if (const std::uint64_t next = time_.next_deadline_ns(); next != ~std::uint64_t{0}) {
        now_ns_ = std::max(now_ns_, next);
        time_.advance_to(now_ns_);
        continue;
      }
    }
    bell_.wait(seen);
  }
}

void OneThread::take_turn(VcpuThread& vcpu) {
  std::uint64_t length = turn_length();
  {
    const std::lock_guard lock(board_lock_);
    const std::uint64_t next = time_.next_deadline_ns();
    if (next > now_ns_) length = std::min(length, next - now_ns_);
    time_.set_running(&vcpu.vcpu());
  }
  running_.store(&vcpu);
  vcpu.take_turn(length, now_ns_);
  running_.store(nullptr);
  const std::uint64_t done = vcpu.vcpu().turn_instructions();
  instructions_.fetch_add(done, std::memory_order_relaxed);
  turns_.fetch_add(1, std::memory_order_relaxed);
  now_ns_ += done;
  const std::lock_guard lock(board_lock_);
  time_.set_running(nullptr);
  time_.advance_to(now_ns_);
}

}  // namespace veneer::vm
