// Which vCPUs have next to nothing to do, and for how long: then their memory may go back to the host (docs/smp.md).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace veneer::vm {

/// Of one vCPU, on its thread. Idle is who was at work for less than 5% of every second for a while. Each time that
/// memory was given back the while gets longer: who wakes up now and then does not pay for it again and again.
class IdleMeter {
 public:
  /// Host clocks: of the world, and of the thread.
  struct Clocks {
    std::uint64_t now_ns, cpu_ns;
  };
  static constexpr std::uint64_t look_ns = 1'000'000'000, busy_ns = look_ns / 20;
  static constexpr std::uint64_t first_while_ns = 5'000'000'000, longest_while_ns = 32 * first_while_ns;

  enum class State : std::uint8_t {
    Busy,     ///< it was at work in the last second
    Waiting,  ///< it was not, but the while is not over
    Idle,     ///< call gave_back() next
  };
  /// Not sooner than this it is worth looking.
  std::uint64_t next_look_ns() const { return next_look_ns_; }
  State look(Clocks clocks) {
    const bool busy = clocks.cpu_ns - looked_cpu_ns_ > busy_ns;
    looked_cpu_ns_ = clocks.cpu_ns;
    next_look_ns_ = clocks.now_ns + look_ns;
    if (busy) idle_since_ns_ = clocks.now_ns;
    if (clocks.now_ns - idle_since_ns_ >= while_ns_) return State::Idle;
    // Nobody runs who has halted: it need not wake up for each look.
    return busy ? State::Busy : State::Waiting;
  }
  /// The moment at which it is Idle if it does nothing until then.
  std::uint64_t idle_at_ns() const { return std::max(next_look_ns_, idle_since_ns_ + while_ns_); }
  /// Begins a new while. `anything`: memory was given back.
  void gave_back(Clocks clocks, bool anything) {
    idle_since_ns_ = clocks.now_ns;
    looked_cpu_ns_ = clocks.cpu_ns;
    if (anything) while_ns_ = std::min(2 * while_ns_, longest_while_ns);
  }

 private:
  std::uint64_t idle_since_ns_ = 0, looked_cpu_ns_ = 0, next_look_ns_ = 0;
  std::uint64_t while_ns_ = first_while_ns;
};

/// Of all vCPUs of a machine. Any thread.
class Idleness {
 public:
  explicit Idleness(unsigned vcpus) : all_(vcpus < 64 ? (std::uint64_t{1} << vcpus) - 1 : ~std::uint64_t{0}) {}
  /// vCPU `index` is idle from now on: true when all are.
  bool rests(unsigned index) {
    const std::uint64_t bit = std::uint64_t{1} << index;
    return (resting_.fetch_or(bit, std::memory_order_relaxed) | bit) == all_;
  }
  void works(unsigned index) {
    const std::uint64_t bit = std::uint64_t{1} << index;
    if (resting_.load(std::memory_order_relaxed) & bit) resting_.fetch_and(~bit, std::memory_order_relaxed);
  }

 private:
  const std::uint64_t all_;
  std::atomic<std::uint64_t> resting_{0};
};

}  // namespace veneer::vm
