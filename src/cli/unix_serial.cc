// The unix:PATH serial backend: a listening socket, one client at a time.
//
// Without a client the newest 64 KiB of output are kept for the next one, and it is said how much was dropped before.
// With a client that does not read, the guest waits (as behind a slow terminal) until the machine is to end.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "base/thread_start.h"
#include "cli/serial_backend.h"
#include "cli/wake_fd.h"

namespace veneer::cli {
namespace {

constexpr std::size_t kept_without_client = 64 * 1024;
constexpr std::size_t kept_with_client = 256 * 1024;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), std::min(path.size(), sizeof(address.sun_path) - 1));
  return address;
}

/// Takes a socket file out of the way that nobody listens on any more: what a killed process left.
void remove_stale(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return;
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = address_of(path);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
      errno == ECONNREFUSED)
    ::unlink(path.c_str());
}

class UnixSerial final : public SerialBackend, private machine::CharSink {
 public:
  UnixSerial(Fd listener, std::string path) : listener_(std::move(listener)), path_(std::move(path)) {}
  ~UnixSerial() override {
    stop();
    ::unlink(path_.c_str());
  }

  machine::CharSink& sink() override { return *this; }
  void start(GuestInput& guest, MonitorTarget&) override {
    guest_ = &guest;
    guest.add_room_listener([this] { wake_.wake(); });
    thread_ = std::thread([this] { run(); });
  }
  void abandon() override {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    changed_.notify_all();
  }
  void finish(std::chrono::milliseconds patience) override {
    {
      std::unique_lock lock(mutex_);
      abandoned_ = true;
      changed_.notify_all();
      const auto done = [&] { return !connected_ || out_.empty(); };
      while (!done()) {
        const std::uint64_t before = written_;
        if (!changed_.wait_for(lock, patience, [&] { return done() || written_ != before; })) break;
      }
      dropped_ += out_.size();
      if (dropped_ != 0) log_warning("{} bytes of the guest's output were not read from {}", dropped_, path_);
      out_.clear();
      dropped_ = 0;
    }
    stop();
  }

 private:
  void write(std::span<const std::uint8_t> bytes) override {
    std::unique_lock lock(mutex_);
    while (!bytes.empty()) {
      changed_.wait(lock, [&] { return abandoned_ || !connected_ || out_.size() < kept_with_client; });
      if (abandoned_ && out_.size() >= kept_with_client) {
        dropped_ += bytes.size();
        break;
      }
      const std::size_t count = connected_ ? std::min(bytes.size(), kept_with_client - out_.size()) : bytes.size();
      out_.insert(out_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
      bytes = bytes.subspan(count);
      if (!connected_ && out_.size() > kept_without_client) drop_oldest(out_.size() - kept_without_client);
    }
    lock.unlock();
    wake_.wake();
  }

  void drop_oldest(std::size_t count) {
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(count));
    dropped_ += count;
  }

  void stop() {
    stopping_ = true;
    wake_.wake();
    if (thread_.joinable()) thread_.join();
  }

  void run() {
    begin_thread(ThreadKind::Server, "_serial_unix");
    while (!stopping_) {
      short client_events = 0;
      {
        const std::lock_guard lock(mutex_);
        if (!out_.empty()) client_events |= POLLOUT;
      }
      if (in_.empty()) client_events |= POLLIN;
      std::array<pollfd, 3> fds = {{{wake_.get(), POLLIN, 0},
                                    {client_.valid() ? -1 : listener_.get(), POLLIN, 0},
                                    {client_.get(), client_events, 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
      wake_.clear();
      if (fds[1].revents != 0) accept_client();
      if (fds[2].revents != 0 && !serve_client(fds[2].revents)) drop_client();
      offer_input();
    }
  }

  void accept_client() {
    client_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client_.valid()) return;
    const std::lock_guard lock(mutex_);
    connected_ = true;
    if (dropped_ != 0)
      log_info("{}: {} bytes came before this client and were dropped", path_, std::exchange(dropped_, 0));
  }

  void drop_client() {
    client_.reset();
    const std::lock_guard lock(mutex_);
    connected_ = false;
    if (out_.size() > kept_without_client) drop_oldest(out_.size() - kept_without_client);
    changed_.notify_all();
  }

  /// False when the client has gone.
  bool serve_client(short events) {
    if ((events & POLLOUT) != 0 && !send_some()) return false;
    if ((events & POLLIN) != 0) return receive_some();
    return (events & (POLLERR | POLLHUP)) == 0;
  }

  bool send_some() {
    std::array<std::uint8_t, 4096> chunk;
    std::unique_lock lock(mutex_);
    const std::size_t count = std::min(chunk.size(), out_.size());
    std::copy_n(out_.begin(), count, chunk.begin());
    const ssize_t n = ::send(client_.get(), chunk.data(), count, MSG_NOSIGNAL);  // non-blocking: fine under the lock
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    out_.erase(out_.begin(), out_.begin() + n);
    written_ += static_cast<std::uint64_t>(n);
    changed_.notify_all();
    return true;
  }

  bool receive_some() {
    std::array<std::uint8_t, 4096> chunk;
    const ssize_t n = ::recv(client_.get(), chunk.data(), chunk.size(), 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    in_.insert(in_.end(), chunk.begin(), chunk.begin() + n);
    return n != 0;
  }

  void offer_input() {
    if (in_.empty()) return;
    const std::size_t taken = guest_->offer(in_);
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(taken));
  }

  Fd listener_;
  std::string path_;
  GuestInput* guest_ = nullptr;
  Fd client_;                     // used by the thread only
  std::vector<std::uint8_t> in_;  // likewise: received, not yet taken by the guest's queue
  WakeFd wake_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  std::mutex mutex_;  // a leaf lock: guards what follows
  std::condition_variable changed_;
  std::deque<std::uint8_t> out_;
  std::uint64_t written_ = 0;
  std::uint64_t dropped_ = 0;
  bool connected_ = false;
  bool abandoned_ = false;
};

}  // namespace

Result<std::unique_ptr<SerialBackend>> open_unix_serial(const std::string& path) {
  const std::string what = "listening on " + path + " for the serial port";
  remove_stale(path);
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = address_of(path);
  if (!listener.valid() || ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return Error::from_errno(what, errno);
  if (::listen(listener.get(), 1) != 0) return Error::from_errno(what, errno);
  std::unique_ptr<SerialBackend> backend = std::make_unique<UnixSerial>(std::move(listener), path);
  return backend;
}

}  // namespace veneer::cli
