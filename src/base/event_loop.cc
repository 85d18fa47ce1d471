// EventLoop: an indexed heap of timers behind one timerfd, and epoll for the rest.
#include "base/event_loop.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/thread_start.h"

namespace veneer {
namespace {

constexpr std::uint64_t ns_per_s = 1'000'000'000;
constexpr std::uint64_t no_deadline = ~std::uint64_t{0};

std::uint64_t read_clock(clockid_t id) {
  timespec ts{};
  clock_gettime(id, &ts);
  return static_cast<std::uint64_t>(ts.tv_sec) * ns_per_s + static_cast<std::uint64_t>(ts.tv_nsec);
}

}  // namespace

// --- PausableClock ---

std::uint64_t PausableClock::now_ns() const {
  for (;;) {
    const std::uint32_t before = sequence_.load(std::memory_order_acquire);
    const bool stands = paused_.load(std::memory_order_acquire);
    const std::uint64_t behind = behind_ns_.load(std::memory_order_acquire);
    const std::uint64_t now = stands ? behind : read_clock(CLOCK_MONOTONIC) - behind;
    if (!(before & 1) && sequence_.load(std::memory_order_relaxed) == before) return now;
  }
}

std::int64_t PausableClock::wall_ns() const { return static_cast<std::int64_t>(read_clock(CLOCK_REALTIME)); }

void PausableClock::pause() {
  if (paused()) return;
  sequence_.fetch_add(1, std::memory_order_acq_rel);
  behind_ns_.store(read_clock(CLOCK_MONOTONIC) - behind_ns_.load());
  paused_.store(true);
  sequence_.fetch_add(1, std::memory_order_release);
}

void PausableClock::resume() {
  if (!paused()) return;
  sequence_.fetch_add(1, std::memory_order_acq_rel);
  behind_ns_.store(read_clock(CLOCK_MONOTONIC) - behind_ns_.load());
  paused_.store(false);
  sequence_.fetch_add(1, std::memory_order_release);
}

// --- timers ---

class EventLoop::LoopTimer final : public Timer {
 public:
  static constexpr std::size_t not_armed = ~std::size_t{0};

  LoopTimer(EventLoop& loop, std::function<void()> callback) : loop_(loop), callback_(std::move(callback)) {}
  ~LoopTimer() override { cancel(); }

  void arm(std::uint64_t deadline) override {
    std::lock_guard guard(loop_.mutex_);
    deadline_ns = deadline;
    if (heap_index == not_armed) {
      loop_.insert(*this);
    } else {
      loop_.sift_up(heap_index);
      loop_.sift_down(heap_index);
    }
    // A later deadline needs no system call: the descriptor then fires too early once, and is set anew.
    if (loop_.heap_.front()->deadline_ns < loop_.programmed_ns_) loop_.program_timerfd();
  }

  void cancel() override {
    std::lock_guard guard(loop_.mutex_);
    if (heap_index != not_armed) loop_.erase(*this);
  }

  void fire() { callback_(); }

  std::uint64_t deadline_ns = 0;       // guarded by loop_.mutex_
  std::size_t heap_index = not_armed;  // guarded by loop_.mutex_

 private:
  EventLoop& loop_;
  std::function<void()> callback_;
};

std::unique_ptr<Timer> EventLoop::make_timer(std::function<void()> callback) {
  return std::make_unique<LoopTimer>(*this, std::move(callback));
}

void EventLoop::place(std::size_t index, LoopTimer* timer) {
  heap_[index] = timer;
  timer->heap_index = index;
}

void EventLoop::insert(LoopTimer& timer) {
  heap_.push_back(&timer);
  timer.heap_index = heap_.size() - 1;
  sift_up(timer.heap_index);
}

void EventLoop::erase(LoopTimer& timer) {
  const std::size_t index = timer.heap_index;
  timer.heap_index = LoopTimer::not_armed;
  LoopTimer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(index, last);
  sift_up(index);
  sift_down(last->heap_index);
}

void EventLoop::sift_up(std::size_t index) {
  LoopTimer* timer = heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (heap_[parent]->deadline_ns <= timer->deadline_ns) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, timer);
}

void EventLoop::sift_down(std::size_t index) {
  LoopTimer* timer = heap_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->deadline_ns < heap_[child]->deadline_ns) ++child;
    if (heap_[child]->deadline_ns >= timer->deadline_ns) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, timer);
}

void EventLoop::program_timerfd() {
  if (clock_.paused()) return;  // resume_clock() does it
  programmed_ns_ = heap_.empty() ? no_deadline : heap_.front()->deadline_ns;
  // Nothing to wait for: a descriptor that is still armed fires once for nothing, which is cheaper than disarming it
  // at every tick of a guest.
  if (programmed_ns_ == no_deadline) return;
  // Relative, because the clock of the deadlines may be behind CLOCK_MONOTONIC; 0 would disarm.
  const std::uint64_t now = clock_.now_ns();
  const std::uint64_t wait = programmed_ns_ > now ? programmed_ns_ - now : 1;
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(wait / ns_per_s);
  spec.it_value.tv_nsec = static_cast<long>(wait % ns_per_s);
  timerfd_settime(timer_fd_.get(), 0, &spec, nullptr);
}

void EventLoop::run_due_timers() {
  std::uint64_t expirations = 0;
  [[maybe_unused]] const auto got = ::read(timer_fd_.get(), &expirations, sizeof expirations);

  std::lock_guard board(board_lock_);
  // Bounded by the timers that are due now: one that arms itself in the past again waits for the next round, so
  // descriptors are not starved.
  const std::uint64_t now = clock_.now_ns();
  std::unique_lock guard(mutex_);
  for (std::size_t budget = heap_.size(); budget > 0; --budget) {
    if (clock_.paused() || heap_.empty() || heap_.front()->deadline_ns > now) break;
    LoopTimer* timer = heap_.front();
    erase(*timer);
    guard.unlock();
    timer->fire();
    guard.lock();
  }
  program_timerfd();
}

void EventLoop::pause_clock() {
  std::lock_guard board(board_lock_);
  std::lock_guard guard(mutex_);
  clock_.pause();
}

void EventLoop::resume_clock() {
  std::lock_guard board(board_lock_);
  std::lock_guard guard(mutex_);
  clock_.resume();
  program_timerfd();
}

// --- descriptors and posted work ---

EventLoop::EventLoop(std::recursive_mutex& board_lock)
    : board_lock_(board_lock),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      timer_fd_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  VENEER_ASSERT(epoll_.valid() && timer_fd_.valid() && wake_fd_.valid());
  for (const int fd : {timer_fd_.get(), wake_fd_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    VENEER_ASSERT(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
  }
}

EventLoop::~EventLoop() { stop(); }

void EventLoop::add_fd(int fd, std::uint32_t epoll_events, std::function<void(std::uint32_t)> callback) {
  std::lock_guard guard(mutex_);
  watches_[fd] = std::make_shared<Watch>(Watch{std::move(callback)});
  epoll_event event{};
  event.events = epoll_events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0 && errno == EEXIST)
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::remove_fd(int fd) {
  std::lock_guard guard(mutex_);
  watches_.erase(fd);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void EventLoop::run_watch(int fd, std::uint32_t events) {
  std::lock_guard board(board_lock_);
  std::shared_ptr<Watch> watch;
  {
    std::lock_guard guard(mutex_);
    const auto found = watches_.find(fd);
    if (found != watches_.end()) watch = found->second;
  }
  if (watch) watch->callback(events);
}

void EventLoop::post(std::function<void()> work) {
  {
    std::lock_guard guard(mutex_);
    posted_.push_back(std::move(work));
  }
  wake();
}

void EventLoop::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof one);
}

void EventLoop::run_posted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(wake_fd_.get(), &count, sizeof count);
  std::vector<std::function<void()>> work;
  {
    std::lock_guard guard(mutex_);
    work.swap(posted_);
  }
  std::lock_guard board(board_lock_);
  for (auto& item : work) item();
}

void EventLoop::run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    std::array<epoll_event, 32> events{};
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (stopping_.load(std::memory_order_acquire)) break;
      if (event.data.fd == timer_fd_.get())
        run_due_timers();
      else if (event.data.fd == wake_fd_.get())
        run_posted();
      else
        run_watch(event.data.fd, event.events);
    }
  }
}

void EventLoop::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  // Signals for the process go to the thread that waits for them; the thread inherits this mask.
  sigset_t all, old;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  thread_ = std::thread([this] {
    begin_thread(ThreadKind::Events, "_events");
    run();
  });
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void EventLoop::stop() {
  if (!thread_.joinable()) return;
  VENEER_ASSERT(thread_.get_id() != std::this_thread::get_id());
  stopping_.store(true, std::memory_order_release);
  wake();
  thread_.join();
}

}  // namespace veneer
