// WorkerPool: threads for host calls that block.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/thread_start.h"

namespace veneer::disk {

/// All threads are made at once, because the sandbox lets nobody start one later. Thread-safe.
class WorkerPool {
 public:
  /// The threads are called NAME0, NAME1, ...; `name` has at most 13 characters.
  /// Fewer than `threads` will do where the host gives no more; fails when there is none.
  /// `kind` decides what the sandbox lets them do.
  static Result<std::unique_ptr<WorkerPool>> create(const std::string& name, std::size_t threads,
                                                    ThreadKind kind = ThreadKind::Worker);
  /// Carries out what was posted, then ends the threads.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void post(std::function<void()> work);

 private:
  WorkerPool() = default;
  void run();

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  // guarded by mutex_
  bool ending_ = false;                     // guarded by mutex_
};

}  // namespace veneer::disk
