// CodeLock: the lock around everything that changes the code cache. Register-only.
//
// A leaf (docs/smp.md): whoever holds it waits for nothing and nobody, so it may be taken where a vCPU cannot stop, in
// the middle of an instruction. std::mutex is not for here: guest vectors are live (docs/engine.md, "The two kinds of
// C++").
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstdint>

namespace veneer::cpu::bt {

class CodeLock {
 public:
  void lock() {
    std::uint32_t seen = Free;
    if (state_.compare_exchange_strong(seen, Held, std::memory_order_acquire)) return;
    // Most holders are gone within a microsecond or two; one that lost its core may take a time slice.
    for (unsigned spins = 0; spins < 200; spins++) {
      __builtin_ia32_pause();
      seen = Free;
      if (state_.load(std::memory_order_relaxed) == Free &&
          state_.compare_exchange_strong(seen, Held, std::memory_order_acquire))
        return;
    }
    while (state_.exchange(Awaited, std::memory_order_acquire) != Free) futex(FUTEX_WAIT_PRIVATE, Awaited);
  }
  void unlock() {
    if (state_.exchange(Free, std::memory_order_release) == Awaited) futex(FUTEX_WAKE_PRIVATE, 1);
  }

 private:
  enum : std::uint32_t { Free, Held, Awaited };

  void futex(int operation, std::uint32_t value) {
    long result = SYS_futex;
    register const void* timeout asm("r10") = nullptr;
    asm volatile("syscall"
                 : "+a"(result)
                 : "D"(&state_), "S"(operation), "d"(value), "r"(timeout)
                 : "rcx", "r11", "memory");
  }

  std::atomic<std::uint32_t> state_{Free};
};

/// std::lock_guard without <mutex>.
class CodeLockGuard {
 public:
  explicit CodeLockGuard(CodeLock& lock) : lock_(lock) { lock_.lock(); }
  ~CodeLockGuard() { lock_.unlock(); }
  CodeLockGuard(const CodeLockGuard&) = delete;
  CodeLockGuard& operator=(const CodeLockGuard&) = delete;

 private:
  CodeLock& lock_;
};

}  // namespace veneer::cpu::bt
