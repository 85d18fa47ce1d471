// OutputQueue: the queue and its writer thread.
#include "cli/output_queue.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/thread_start.h"

namespace veneer::cli {

struct OutputQueue::State {
  Fd fd;  // a duplicate of our own, so that a thread stuck in write() can never write to a reused number
  std::string what;

  std::mutex mutex;  // a leaf lock: guards everything below
  std::condition_variable changed;
  std::deque<std::uint8_t> bytes;
  std::uint64_t written = 0;
  std::uint64_t lost = 0;
  bool failed = false;
  bool abandoned = false;
  bool closing = false;
  bool idle = true;

  void fail(int errno_value);
  void run();
  bool write_all(std::span<const std::uint8_t> chunk);
  void append(std::span<const std::uint8_t> input, std::optional<std::chrono::milliseconds> limit);
};

void OutputQueue::State::fail(int errno_value) {
  std::fputs(fmt::format("veneer: {} can no longer be written ({}); what the guest sends there from now on is lost\n",
                         what, std::generic_category().message(errno_value))
                 .c_str(),
             stderr);
}

/// Writes a chunk outside the lock. Small pieces, so that a pipe that polls writable takes them without blocking
/// (POSIX: PIPE_BUF), and so that progress is visible.
bool OutputQueue::State::write_all(std::span<const std::uint8_t> chunk) {
  if (!fd.valid()) {
    errno = EBADF;
    return false;
  }
  while (!chunk.empty()) {
    pollfd ready{fd.get(), POLLOUT, 0};
    if (::poll(&ready, 1, -1) < 0 && errno != EINTR) return false;
    const ssize_t n = ::write(fd.get(), chunk.data(), std::min<std::size_t>(chunk.size(), 4096));
    if (n < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return false;
    }
    chunk = chunk.subspan(static_cast<std::size_t>(n));
    const std::lock_guard lock(mutex);
    written += static_cast<std::uint64_t>(n);
    changed.notify_all();
  }
  return true;
}

void OutputQueue::State::run() {
  begin_thread(ThreadKind::Output, "_serial_out");
  std::vector<std::uint8_t> chunk;
  std::unique_lock lock(mutex);
  for (;;) {
    changed.wait(lock, [&] { return closing || !bytes.empty(); });
    if (bytes.empty()) break;
    const auto count = static_cast<std::ptrdiff_t>(std::min<std::size_t>(bytes.size(), 16384));
    chunk.assign(bytes.begin(), bytes.begin() + count);
    bytes.erase(bytes.begin(), bytes.begin() + count);
    idle = false;
    const std::uint64_t before = written;
    changed.notify_all();
    lock.unlock();
    const bool ok = write_all(chunk);
    const int error = errno;
    if (!ok) fail(error);  // before finish() can see the failure and return
    lock.lock();
    idle = true;
    if (!ok) {
      failed = true;
      lost += chunk.size() - (written - before) + bytes.size();
      bytes.clear();
    }
    changed.notify_all();
    if (!ok) break;
  }
}

void OutputQueue::State::append(std::span<const std::uint8_t> input, std::optional<std::chrono::milliseconds> limit) {
  std::unique_lock lock(mutex);
  const auto room = [&] { return failed || abandoned || bytes.size() < capacity_bytes; };
  while (!input.empty()) {
    if (limit) {
      if (!changed.wait_for(lock, *limit, room)) return;
    } else {
      changed.wait(lock, room);
    }
    const std::size_t space = failed ? 0 : capacity_bytes - std::min(bytes.size(), capacity_bytes);
    if (space == 0) {  // failed, or abandoned while full
      lost += input.size();
      return;
    }
    const std::size_t count = std::min(space, input.size());
    bytes.insert(bytes.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(count));
    input = input.subspan(count);
    changed.notify_all();
  }
}

OutputQueue::OutputQueue(int fd, std::string what) : state_(std::make_shared<State>()) {
  state_->fd = Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  state_->what = std::move(what);
  std::thread([state = state_] { state->run(); }).detach();
}

OutputQueue::~OutputQueue() {
  const std::lock_guard lock(state_->mutex);
  state_->abandoned = true;
  state_->closing = true;
  state_->changed.notify_all();
}

void OutputQueue::write(std::span<const std::uint8_t> bytes) { state_->append(bytes, std::nullopt); }

void OutputQueue::write_text(std::string_view text, std::chrono::milliseconds limit) {
  state_->append({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, limit);
}

void OutputQueue::abandon() {
  const std::lock_guard lock(state_->mutex);
  state_->abandoned = true;
  state_->changed.notify_all();
}

void OutputQueue::finish(std::chrono::milliseconds patience) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  state.abandoned = true;
  state.changed.notify_all();
  const auto done = [&] { return state.failed || (state.bytes.empty() && state.idle); };
  while (!done()) {
    const std::uint64_t before = state.written;
    if (!state.changed.wait_for(lock, patience, [&] { return done() || state.written != before; })) {
      state.lost += state.bytes.size();
      state.bytes.clear();
      break;
    }
  }
  if (state.lost != 0)
    std::fputs(fmt::format("veneer: {} bytes of the guest's output could not be written to {}\n",
                           std::exchange(state.lost, 0), state.what)
                   .c_str(),
               stderr);
}

}  // namespace veneer::cli
