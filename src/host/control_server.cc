// The control socket: accepting, framing, answering.
#include "host/control_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "base/thread_start.h"

namespace veneer::host {
namespace {

using nlohmann::json;

json failure(const std::string& message) { return {{"ok", false}, {"error", message}}; }

/// The string field of a request, or empty.
std::string text_of(const json& request, const char* field) {
  const auto found = request.find(field);
  return found != request.end() && found->is_string() ? found->get<std::string>() : std::string();
}

json status_of(const MachineStatus& status) {
  return {{"ok", true},
          {"name", status.name},
          {"pid", ::getpid()},
          {"state", status.state},
          {"engine", status.engine},
          {"machine", status.machine},
          {"cpus", status.cpus},
          {"memory_bytes", status.memory_bytes},
          {"resident_bytes", status.resident_bytes},
          {"cpu_seconds", status.cpu_seconds},
          {"uptime_seconds", status.uptime_seconds}};
}

bool same_user(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

/// Bytes, and a descriptor that came with them. As recv(2).
ssize_t receive_with_descriptor(int socket, std::span<char> buffer, Fd& descriptor) {
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  for (cmsghdr* part_header = CMSG_FIRSTHDR(&message); part_header != nullptr;
       part_header = CMSG_NXTHDR(&message, part_header)) {
    if (part_header->cmsg_level != SOL_SOCKET || part_header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part_header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part_header) + i * sizeof(int), sizeof(int));
      descriptor = Fd(fd);  // the last one stays
    }
  }
  return n;
}

}  // namespace

struct ControlServer::Client {
  Fd socket;
  std::string in;   // requests, not yet complete
  std::string out;  // answers, not yet sent
  Fd descriptor;    // came with the last request
  bool closing = false;
  std::shared_ptr<ConsoleHub::Tap> tap;  // attached: `in` is what was typed, `out` the guest's output
};

Result<std::unique_ptr<ControlServer>> ControlServer::listen(const std::string& path) {
  const std::string what = "listening on " + path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return Error(what +
                 ": the path is too long for a socket; set XDG_RUNTIME_DIR to a shorter one, or take a shorter "
                 "name");
  std::memcpy(address.sun_path, path.c_str(), path.size());
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid() || ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener.get(), 16) != 0)
    return Error::from_errno(what, errno);
  Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Error::from_errno("eventfd", errno);
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(listener), std::move(wake)));
}

ControlServer::ControlServer(Fd listener, Fd wake) : listener_(std::move(listener)), wake_(std::move(wake)) {}

ControlServer::~ControlServer() { stop(); }

void ControlServer::start(ControlTarget& target, ConsoleHub& console) {
  target_ = &target;
  console_ = &console;
  console.set_listener([this] { wake(); });
  thread_ = std::thread([this] { run(); });
}

void ControlServer::stop() {
  stopping_ = true;
  wake();
  if (thread_.joinable()) thread_.join();
}

void ControlServer::wake() const { ::eventfd_write(wake_.get(), 1); }

void ControlServer::run() {
  begin_thread(ThreadKind::Server, "_control");
  while (!stopping_) {
    std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0},
                               {clients_.size() < max_clients ? listener_.get() : -1, POLLIN, 0}};
    for (const Client& client : clients_) {
      short events = 0;
      if (!client.closing && (!client.tap || client.in.empty())) events |= POLLIN;
      if (!client.out.empty()) events |= POLLOUT;
      fds.push_back({client.socket.get(), events, 0});
    }
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    eventfd_t ignored = 0;
    ::eventfd_read(wake_.get(), &ignored);
    std::size_t i = 2;
    for (auto client = clients_.begin(); client != clients_.end(); ++i) {
      const short events = fds[i].revents;
      bool good = (events & (POLLERR | POLLNVAL)) == 0;
      if (good && (events & (POLLIN | POLLHUP)) != 0 && !client->closing) good = receive(*client);
      if (good) good = pump_console(*client);
      if (good && !(client->closing && client->out.empty())) {
        ++client;
        continue;
      }
      drop(*client);
      client = clients_.erase(client);
    }
    if (fds[1].revents != 0) accept_client();
  }
  for (Client& client : clients_) {
    pump_console(client);
    drop(client);
  }
  clients_.clear();
}

void ControlServer::drop(Client& client) {
  if (client.tap) console_->detach(client.tap);
}

void ControlServer::accept_client() {
  Client client;
  client.socket = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.socket.valid() || !same_user(client.socket)) return;
  clients_.push_back(std::move(client));
}

/// False when the client has gone.
bool ControlServer::receive(Client& client) {
  std::array<char, 4096> buffer;
  const ssize_t n = receive_with_descriptor(client.socket.get(), buffer, client.descriptor);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  client.in.append(buffer.data(), static_cast<std::size_t>(n));
  return client.tap ? true : handle_lines(client);
}

bool ControlServer::handle_lines(Client& client) {
  std::size_t end = 0;
  while (!client.tap && !client.closing && (end = client.in.find('\n')) != std::string::npos) {
    const std::string line = client.in.substr(0, end);
    client.in.erase(0, end + 1);
    client.out += answer(client, line) + "\n";
    client.descriptor.reset();
  }
  if (!client.tap && client.in.size() > longest_request_bytes) {
    client.out += failure("the request is too long").dump() + "\n";
    client.closing = true;
  }
  return true;
}

std::string ControlServer::answer(Client& client, const std::string& line) {
  const json request = json::parse(line, nullptr, false);
  if (!request.is_object()) return failure("not a JSON object").dump();
  const std::string command = text_of(request, "command");
  json reply = {{"ok", true}};
  if (command == "status") {
    reply = status_of(target_->status());
  } else if (command == "monitor") {
    reply["output"] = target_->execute(text_of(request, "line"));
  } else if (command == "powerdown") {
    target_->press_power_button();
  } else if (command == "kill") {
    target_->end();
  } else if (command == "attach") {
    client.tap = console_->attach();
  } else if (command == "save" || command == "screenshot") {
    if (!client.descriptor.valid()) return failure(command + " needs an open file sent along (SCM_RIGHTS)").dump();
    const Result<void> written =
        command == "save" ? target_->save(client.descriptor) : target_->screenshot(client.descriptor);
    if (!written) return failure(written.error().message()).dump();
  } else {
    return failure("unknown command \"" + command.substr(0, 40) +
                   "\" (known: attach, kill, monitor, powerdown, save, screenshot, status)")
        .dump(-1, ' ', true, json::error_handler_t::replace);
  }
  return reply.dump(-1, ' ', true, json::error_handler_t::replace);
}

/// Moves bytes both ways as far as they go. False when the client has gone or was cut off.
bool ControlServer::pump_console(Client& client) {
  for (;;) {
    if (client.tap && client.out.empty()) {
      std::vector<std::uint8_t> bytes;
      if (!console_->take(*client.tap, 16384, bytes)) return false;
      client.out.assign(bytes.begin(), bytes.end());
    }
    if (client.out.empty()) break;
    const ssize_t n = ::send(client.socket.get(), client.out.data(), client.out.size(), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (n > 0) client.out.erase(0, static_cast<std::size_t>(n));
    if (!client.out.empty()) break;
  }
  if (client.tap && !client.in.empty()) {
    const std::size_t taken =
        target_->type({reinterpret_cast<const std::uint8_t*>(client.in.data()), client.in.size()});
    client.in.erase(0, taken);
  }
  return true;
}

}  // namespace veneer::host
