// Starting passt, or connecting to one that runs.
#include "net/passt.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "net/stream.h"

extern char** environ;

namespace veneer::net {
namespace {

constexpr int fd_of_passt = 3;

Result<std::unique_ptr<HostEnd>> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(fmt::format("socket {}: the path has {} bytes, the limit of the system is {}", path, path.size(),
                             sizeof address.sun_path - 1));
  path.copy(address.sun_path, path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno("a socket for passt", errno);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    if (error == ENOENT || error == ECONNREFUSED)
      return Error(
          fmt::format("no passt listens at {}: start one with passt --socket {}, or leave out socket= to have "
                      "one started",
                      path, path));
    return Error::from_errno(fmt::format("connecting to passt at {}", path), error);
  }
  return make_stream_end(std::move(socket), fmt::format("passt at {}", path));
}

/// What it says until it ends; its descendant in the background may keep the pipe open. Sets its exit status.
std::string read_words(const Fd& pipe, pid_t child, int& status) {
  std::string words;
  std::array<char, 1024> buffer{};
  for (bool ended = false;;) {
    pollfd watched{pipe.get(), POLLIN, 0};
    const int ready = ::poll(&watched, 1, ended ? 0 : 50);
    if (ready > 0) {
      const ssize_t got = ::read(pipe.get(), buffer.data(), buffer.size());
      if (got > 0) {
        if (words.size() < 4096) words.append(buffer.data(), static_cast<std::size_t>(got));
        continue;
      }
      if (got == 0 && !ended) {
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        return words;
      }
    }
    if (ended) return words;
    ended = ::waitpid(child, &status, WNOHANG) == child;  // then what it has written is read
  }
}

/// The last of its lines that is no remark.
std::string complaint(const std::string& words) {
  std::string last, line;
  for (const char c : words + "\n") {
    if (c != '\n') {
      line += c;
      continue;
    }
    if (!line.empty() && line.find("syslog") == std::string::npos) last = line;
    line.clear();
  }
  return last.empty() ? "it said nothing" : last;
}

Result<std::unique_ptr<HostEnd>> start(const PasstOptions& options) {
  int ends[2], words[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return Error::from_errno("a socket for passt", errno);
  Fd ours(ends[0]), theirs(ends[1]);
  if (::pipe2(words, O_CLOEXEC) != 0) return Error::from_errno("a pipe for passt", errno);
  const Fd said(words[0]);
  Fd saying(words[1]);

  std::vector<std::string> arguments = passt_arguments(options, fd_of_passt);
  arguments.insert(arguments.begin(), "passt");
  std::vector<char*> argv;
  for (std::string& word : arguments) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  // High numbers first, so that 2 and 3 can be given away whatever these are now.
  Fd socket(::fcntl(theirs.get(), F_DUPFD_CLOEXEC, 10)), pipe(::fcntl(saying.get(), F_DUPFD_CLOEXEC, 10));
  ::posix_spawn_file_actions_adddup2(&actions, pipe.get(), STDERR_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, socket.get(), fd_of_passt);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, "passt", &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT)
    return Error(
        "there is no passt on this host: install Debian's package passt, or use --net user, which needs nothing");
  if (error != 0) return Error::from_errno("starting passt", error);
  theirs.reset();
  saying.reset();
  pipe.reset();
  socket.reset();

  // Once all is open it goes into the background, and the process that was started ends.
  int status = 0;
  const std::string text = read_words(said, child, status);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return Error(fmt::format("passt did not start: {}", complaint(text)));
  return make_stream_end(std::move(ours), "passt, started with this machine");
}

}  // namespace

std::vector<std::string> passt_arguments(const PasstOptions& options, int fd) {
  std::vector<std::string> words = {"--quiet", "--fd", std::to_string(fd)};
  if (!options.ipv6) words.emplace_back("--ipv4-only");
  for (const PortForward& forward : options.forwards) {
    const std::string address = forward.ipv6 ? format_ipv6(forward.host_address6) : format_ipv4(forward.host_address);
    const std::string ports = forward.host_port == forward.guest_port
                                  ? std::to_string(forward.host_port)
                                  : fmt::format("{}:{}", forward.host_port, forward.guest_port);
    words.emplace_back(forward.udp ? "--udp-ports" : "--tcp-ports");
    words.push_back(fmt::format("{}/{}", address, ports));
  }
  return words;
}

Result<std::unique_ptr<HostEnd>> make_passt_end(const PasstOptions& options) {
  return options.socket.empty() ? start(options) : connect_to(options.socket);
}

}  // namespace veneer::net
