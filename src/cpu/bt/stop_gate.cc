// StopGate: see docs/smp.md for the protocol and why it cannot deadlock.
#include "cpu/bt/stop_gate.h"

#include <chrono>
#include <random>
#include <thread>

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t bit_of(unsigned index) { return std::uint64_t{1} << index; }

}  // namespace

void StopGate::delay() const {
  if (!most_us_) return;
  thread_local std::minstd_rand random{std::random_device{}()};
  if (const auto us = random() % (2 * most_us_); us < most_us_)
    std::this_thread::sleep_for(std::chrono::microseconds(us));
}

void StopGate::enter(unsigned self) {
  std::unique_lock hold(mutex_);
  released_.wait(hold, [&] { return !(wanted_.load(std::memory_order_relaxed) & bit_of(self)); });
  inside_ |= bit_of(self);
}

void StopGate::leave(unsigned self) {
  delay();
  const std::lock_guard hold(mutex_);
  inside_ &= ~bit_of(self);
  if (busy_) acknowledged_.notify_one();
}

void StopGate::stop(unsigned self, std::uint64_t others) {
  delay();
  std::unique_lock hold(mutex_);
  // Waiting for the turn is standing still: two that want to stop each other cannot wait for each other.
  inside_ &= ~bit_of(self);
  if (busy_) acknowledged_.notify_one();
  released_.wait(hold, [&] { return !busy_; });
  busy_ = true;
  inside_ |= bit_of(self);
  others &= ~bit_of(self);
  wanted_.store(others, std::memory_order_seq_cst);
  for (std::uint64_t left = others & inside_; left; left &= left - 1)
    kick_(context_, static_cast<unsigned>(__builtin_ctzll(left)));
  acknowledged_.wait(hold, [&] { return !(inside_ & others); });
  stops_.fetch_add(1, std::memory_order_relaxed);
  hold.unlock();
  delay();
}

void StopGate::let_go() {
  delay();
  {
    const std::lock_guard hold(mutex_);
    busy_ = false;
    wanted_.store(0, std::memory_order_seq_cst);
  }
  released_.notify_all();
}

}  // namespace veneer::cpu::bt
