// ControlClient: connecting, asking.
#include "host/control_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace veneer::host {

using nlohmann::json;

Result<ControlClient> ControlClient::connect(const RunningMachine& machine) {
  const std::string path = machine.directory + "/control";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return Error("the path " + path + " is too long for a socket");
  std::memcpy(address.sun_path, path.c_str(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid() || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return Error::from_errno(fmt::format("connecting to machine \"{}\"", machine.name), errno);
  return ControlClient(std::move(socket), machine.name);
}

Result<std::string> ControlClient::read_line(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    if (const std::size_t end = rest_.find('\n'); end != std::string::npos) {
      std::string line = rest_.substr(0, end);
      rest_.erase(0, end + 1);
      return line;
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd ready{socket_.get(), POLLIN, 0};
    const int n = left.count() <= 0 ? 0 : ::poll(&ready, 1, static_cast<int>(left.count()));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error(fmt::format("machine \"{}\" does not answer", name_));
    std::array<char, 4096> buffer;
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Error(fmt::format("machine \"{}\" ended before it answered", name_));
    rest_.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

Result<json> ControlClient::ask(const json& request, std::chrono::milliseconds limit, int descriptor) {
  std::string line = request.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
  iovec part{line.data(), line.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  }
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    return Error::from_errno(fmt::format("asking machine \"{}\"", name_), errno);
  TRY(const std::string text, read_line(limit));
  json reply = json::parse(text, nullptr, false);
  const auto ok = reply.is_object() ? reply.find("ok") : reply.end();
  if (!reply.is_object() || ok == reply.end() || !ok->is_boolean())
    return Error(fmt::format("machine \"{}\" gave an answer that makes no sense", name_));
  if (ok->get<bool>()) return reply;
  const auto error = reply.find("error");
  return Error(error != reply.end() && error->is_string() ? error->get<std::string>() : "it refused");
}

}  // namespace veneer::host
