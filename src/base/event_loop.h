// EventLoop: one thread that runs timers, file descriptor callbacks and posted work under the board lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"

namespace veneer {

/// CLOCK_MONOTONIC minus the time spent paused. now_ns() may be called from any thread and takes no lock.
class PausableClock final : public Clock {
 public:
  std::uint64_t now_ns() const override;
  std::int64_t wall_ns() const override;

  /// Both do nothing when the clock is already so. Called by one thread at a time.
  void pause();
  void resume();
  bool paused() const { return paused_.load(std::memory_order_acquire); }

 private:
  // A sequence lock: odd while pause() or resume() changes the pair below.
  std::atomic<std::uint32_t> sequence_{0};
  std::atomic<bool> paused_{false};
  std::atomic<std::uint64_t> behind_ns_{0};  // running: CLOCK_MONOTONIC - behind; paused: the frozen time itself
};

/// The machine's event loop and its timers.
///
/// Every callback runs on the thread "_events" with the board lock held, one at a time, so a callback may touch
/// devices. Locks: board lock, then mutex_ (a leaf, never held while a callback runs).
class EventLoop final : public TimerService {
 public:
  /// Asserts when the host gives no epoll, timerfd or eventfd.
  explicit EventLoop(std::recursive_mutex& board_lock);
  /// Stops the thread. Timers made here must be gone by then.
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  const Clock& clock() const override { return clock_; }
  std::unique_ptr<Timer> make_timer(std::function<void()> callback) override;

  /// Calls back with the epoll events that are ready (EPOLLIN, ...). The caller keeps owning fd, and takes it out
  /// with remove_fd() before closing it. Adding an fd again changes its events and callback. Any thread.
  void add_fd(int fd, std::uint32_t epoll_events, std::function<void(std::uint32_t)> callback);
  /// After it returns the callback is not called any more, if the board lock is held or this is the loop's thread.
  void remove_fd(int fd);

  /// Runs `work` once, soon. Any thread; never blocks on the board lock.
  void post(std::function<void()> work);

  /// While the clock is paused no timer fires; descriptors and posted work go on.
  void pause_clock();
  void resume_clock();

  /// Starts the thread; timers and descriptors may be set up before.
  void start();
  /// Ends and joins the thread (not to be called with the board lock held). Posted work that has not run is dropped.
  void stop();

 private:
  class LoopTimer;
  struct Watch {
    std::function<void(std::uint32_t)> callback;
  };

  void run();
  void run_posted();
  void run_watch(int fd, std::uint32_t events);
  void run_due_timers();
  void wake();

  // Timer heap; all with mutex_ held.
  void insert(LoopTimer& timer);
  void erase(LoopTimer& timer);
  void place(std::size_t index, LoopTimer* timer);
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);
  void program_timerfd();

  std::recursive_mutex& board_lock_;
  PausableClock clock_;
  Fd epoll_, timer_fd_, wake_fd_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;
  std::vector<LoopTimer*> heap_;                             // guarded by mutex_; earliest deadline first
  std::uint64_t programmed_ns_ = ~std::uint64_t{0};          // guarded by mutex_; what timer_fd_ is set to
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;  // guarded by mutex_
  std::vector<std::function<void()>> posted_;                // guarded by mutex_
};

}  // namespace veneer
