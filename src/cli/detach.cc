// Detachment: the fork, and what the parent does meanwhile.
#include "cli/detach.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace veneer::cli {
namespace {

constexpr int status_failed = 1;

[[noreturn]] void wait_for_child(pid_t child, const Fd& from_child) {
  std::string name;
  std::array<char, 256> buffer;
  for (;;) {
    const ssize_t n = ::read(from_child.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    name.append(buffer.data(), static_cast<std::size_t>(n));
  }
  if (name.ends_with('\n')) {
    std::fputs(name.c_str(), stdout);
    std::exit(std::fflush(stdout) == 0 ? 0 : status_failed);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status))
    fmt::print(stderr, "veneer: the machine's process was ended by signal {} ({}) while it started\n", WTERMSIG(status),
               strsignal(WTERMSIG(status)));
  std::exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : status_failed);
}

}  // namespace

Result<Detachment> Detachment::begin() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("running in the background: pipe", errno);
  Fd from_child(ends[0]);
  Fd to_parent(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return Error::from_errno("running in the background: fork", errno);
  if (child > 0) {
    to_parent.reset();
    wait_for_child(child, from_child);
  }
  ::setsid();
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return Error::from_errno("opening /dev/null", errno);
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(null.get(), STDOUT_FILENO);
  return Detachment(std::move(to_parent));
}

Result<void> Detachment::ready(const std::string& name, const std::string& log_path) {
  const Fd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) return Error::from_errno("opening " + log_path, errno);
  ::dup2(log.get(), STDERR_FILENO);
  const std::string line = name + "\n";
  const bool told = ::write(to_parent_.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size());
  to_parent_.reset();
  if (!told) return Error("the process that started this machine in the background has gone");
  return {};
}

}  // namespace veneer::cli
