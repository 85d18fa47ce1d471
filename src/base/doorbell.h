// Doorbell: wakes the one thread that sleeps until something may have happened, or until its patience is over.
//
// std::atomic's wait() knows no limit of time.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace veneer {

class Doorbell {
 public:
  /// Any thread, a signal handler too. No system call while nobody sleeps.
  void ring() noexcept {
    rings_.fetch_add(1, std::memory_order_seq_cst);
    if (sleeps_.load(std::memory_order_seq_cst)) ::syscall(SYS_futex, &rings_, FUTEX_WAKE_PRIVATE, 1, nullptr);
  }
  /// Ask before looking for reasons; wait() for this number then misses none.
  std::uint32_t rings() const { return rings_.load(std::memory_order_seq_cst); }
  /// Sleeps until the bell has rung since rings() gave `seen`, at most about so long; may come back early. One thread.
  void wait(std::uint32_t seen, std::uint64_t limit_ns) {
    constexpr std::uint64_t second = 1'000'000'000;
    const timespec limit{static_cast<time_t>(limit_ns / second), static_cast<long>(limit_ns % second)};
    // Either ring() sees that somebody sleeps, or the kernel sees the new number.
    sleeps_.store(true, std::memory_order_seq_cst);
    ::syscall(SYS_futex, &rings_, FUTEX_WAIT_PRIVATE, seen, &limit);
    sleeps_.store(false, std::memory_order_seq_cst);
  }

 private:
  std::atomic<std::uint32_t> rings_{0};
  std::atomic<bool> sleeps_{false};
};

}  // namespace veneer
