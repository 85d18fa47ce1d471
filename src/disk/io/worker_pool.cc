// Worker threads: one queue, one condition.
#include "disk/io/worker_pool.h"

#include <signal.h>

#include <system_error>
#include <utility>

#include "base/thread_start.h"

namespace veneer::disk {

Result<std::unique_ptr<WorkerPool>> WorkerPool::create(const std::string& name, std::size_t threads, ThreadKind kind) {
  std::unique_ptr<WorkerPool> pool(new WorkerPool);
  // Signals for the process go to the thread that waits for them; the new threads inherit this mask.
  sigset_t all, old;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int error = 0;
  for (std::size_t i = 0; i < threads && error == 0; ++i) {
    try {
      pool->threads_.emplace_back([self = pool.get(), kind, label = name + std::to_string(i)] {
        begin_thread(kind, label.c_str());
        self->run();
      });
    } catch (const std::system_error& failure) {  // a container's process limit
      error = failure.code().value();
    }
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (pool->threads_.empty()) return Error::from_errno("starting a thread for a disk", error);
  return pool;
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard hold(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::post(std::function<void()> work) {
  {
    const std::lock_guard hold(mutex_);
    work_.push_back(std::move(work));
  }
  changed_.notify_one();  // without the lock, for which the thread that wakes would have to wait at once
}

void WorkerPool::run() {
  std::unique_lock hold(mutex_);
  for (;;) {
    changed_.wait(hold, [this] { return !work_.empty() || ending_; });
    if (work_.empty()) return;
    const std::function<void()> work = std::move(work_.front());
    work_.pop_front();
    hold.unlock();
    work();
    hold.lock();
  }
}

}  // namespace veneer::disk
