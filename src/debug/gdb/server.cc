// Server: sockets of the gdb stub.
#include "debug/gdb/server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "base/thread_start.h"

namespace veneer::debug::gdb {
namespace {

constexpr int send_patience_ms = 5000;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Result<Address> numeric_address(const std::string& host, std::uint16_t port) {
  Address address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof(*v4);
  } else if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof(*v6);
  } else {
    return Error(fmt::format("\"{}\" is not an address in numbers", host));
  }
  return address;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::listen(Target& target, const std::string& host, std::uint16_t port) {
  TRY(Address address, numeric_address(host, port));
  const std::string what = fmt::format("listening on {} port {} for gdb", host, port);
  Fd listener(::socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int yes = 1;
  if (!listener.valid() || setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
      ::bind(listener.get(), address.get(), address.size) != 0 || ::listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), address.get(), &address.size) != 0)
    return Error::from_errno(what, errno);
  // The port stands at the same place in both kinds of address.
  const std::uint16_t bound = ntohs(reinterpret_cast<const sockaddr_in*>(address.get())->sin_port);
  return std::unique_ptr<Server>(new Server(target, std::move(listener), bound));
}

Server::Server(Target& target, Fd listener, std::uint16_t port)
    : target_(target), listener_(std::move(listener)), port_(port), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  VENEER_ASSERT(wake_.valid());
}

Server::~Server() {
  stopping_ = true;
  eventfd_write(wake_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void Server::start() {
  thread_ = std::thread([this] { run(); });
}

void Server::vcpu_stopped(unsigned vcpu) {
  {
    const std::lock_guard lock(mutex_);
    stops_.push_back(vcpu);
  }
  eventfd_write(wake_.get(), 1);
}

void Server::run() {
  begin_thread(ThreadKind::Server, "_gdb");
  while (!stopping_) {
    std::array<pollfd, 3> fds = {
        {{wake_.get(), POLLIN, 0}, {client_.valid() ? -1 : listener_.get(), POLLIN, 0}, {client_.get(), POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    eventfd_t ignored = 0;
    eventfd_read(wake_.get(), &ignored);
    report_stops();
    if (fds[1].revents != 0) accept_client();
    if (fds[2].revents != 0) receive();
    if (client_lost_) drop_client();
  }
  if (session_ && !session_->over()) send_reply(fmt::format("W{:02x}", exit_status_ & 0xff));
}

void Server::accept_client() {
  client_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client_.valid()) return;
  const int yes = 1;
  setsockopt(client_.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  log_info("gdb has connected; the machine stands still");
  reader_ = {};
  client_lost_ = false;
  session_ = std::make_unique<Session>(target_);
}

void Server::drop_client() {
  client_lost_ = false;
  client_.reset();
  if (session_ && !session_->over()) session_->detach();
  session_.reset();
  log_info("gdb has gone; the machine goes on");
}

void Server::report_stops() {
  std::deque<unsigned> stops;
  {
    const std::lock_guard lock(mutex_);
    stops.swap(stops_);
  }
  if (!session_) return;
  for (const unsigned vcpu : stops)
    if (const auto reply = session_->stopped(vcpu)) send_reply(*reply);
}

void Server::receive() {
  std::array<char, 4096> buffer;
  const ssize_t n = ::recv(client_.get(), buffer.data(), buffer.size(), 0);
  if (n > 0)
    handle_input({buffer.data(), static_cast<std::size_t>(n)});
  else if (n == 0 || (errno != EAGAIN && errno != EINTR))
    client_lost_ = true;
}

void Server::handle_input(std::string_view input) {
  while (!client_lost_) {
    switch (reader_.next(input)) {
      case PacketReader::Kind::None:
        return;
      case PacketReader::Kind::Damaged:
        if (session_->acknowledges()) send_bytes("-");
        break;
      case PacketReader::Kind::Resend:
        if (session_->acknowledges()) send_bytes(last_reply_);
        break;
      case PacketReader::Kind::Interrupt:
        if (const auto reply = session_->interrupt()) send_reply(*reply);
        break;
      case PacketReader::Kind::Packet:
        if (session_->acknowledges()) send_bytes("+");
        if (const auto reply = session_->handle(reader_.text())) send_reply(*reply);
        if (session_->over()) client_lost_ = true;
        break;
    }
  }
}

void Server::send_reply(std::string_view text) {
  last_reply_ = frame(text);
  send_bytes(last_reply_);
}

void Server::send_bytes(std::string_view bytes) {
  while (!bytes.empty() && !client_lost_) {
    const ssize_t n = ::send(client_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
      continue;
    }
    if (errno == EINTR) continue;
    pollfd ready{client_.get(), POLLOUT, 0};
    if (errno != EAGAIN || ::poll(&ready, 1, send_patience_ms) <= 0) client_lost_ = true;
  }
}

}  // namespace veneer::debug::gdb
