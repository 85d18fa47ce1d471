// The oracle's parent side: batches, and children that die or hang.
#include "oracle.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "oracle_shared.h"

namespace veneer::fuzz {

void wait_while(std::atomic<std::uint32_t>& word, std::uint32_t value, std::uint64_t timeout_ms) {
  const timespec timeout{static_cast<time_t>(timeout_ms / 1000), static_cast<long>(timeout_ms % 1000 * 1'000'000)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &timeout, nullptr, 0);
}

void wake(std::atomic<std::uint32_t>& word) { ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0); }

Oracle::~Oracle() {
  reap(true);
  if (shared_) ::munmap(shared_, sizeof(OracleShared));
}

Result<void> Oracle::create() {
  void* memory = ::mmap(nullptr, sizeof(OracleShared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Error::from_errno("mapping memory to share with the oracle", errno);
  shared_ = new (memory) OracleShared;
  return start_child();
}

OracleSlot& Oracle::slot(unsigned i) { return shared_->slots[i]; }

Result<void> Oracle::start_child() {
  const pid_t parent = ::getpid();
  child_ = ::fork();
  if (child_ < 0) return Error::from_errno("starting the oracle's process", errno);
  if (child_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    oracle_child(*shared_, pool_, components_);
  }
  return {};
}

void Oracle::reap(bool kill_it) {
  if (child_ <= 0) return;
  if (kill_it) ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = -1;
}

Result<void> Oracle::start(unsigned count) {
  for (unsigned i = 0; i < count; i++) shared_->slots[i].output.ending = Ending::NotRun;
  count_ = count;
  shared_->next = 0;
  shared_->count = count;
  shared_->doorbell++;
  wake(shared_->doorbell);
  return {};
}

Result<void> Oracle::wait() {
  constexpr unsigned tick_ms = 100, patience_ticks = 20;
  unsigned last = ~0u, ticks = 0;
  while (shared_->answered != shared_->doorbell) {
    wait_while(shared_->answered, shared_->answered, tick_ms);
    if (shared_->answered == shared_->doorbell) break;
    bool dead = ::waitpid(child_, nullptr, WNOHANG) == child_;
    const unsigned now = shared_->next;
    ticks = now == last ? ticks + 1 : 0;
    last = now;
    if (!dead && ticks < patience_ticks) continue;
    if (dead) child_ = -1;
    reap(true);
    if (now < count_) shared_->slots[now].output.ending = dead ? Ending::Crash : Ending::Hang;
    shared_->next = now + 1;
    ticks = 0;
    TRY_VOID(start_child());  // it finds the doorbell rung and goes on with the next case
  }
  return {};
}

}  // namespace veneer::fuzz
