// A trial: the child process and its pipe.
#include "cli/doctor/trial.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <system_error>

#include "base/fd.h"

namespace veneer::cli {
namespace {

[[noreturn]] void child(int out, const std::function<TrialResult()>& trial) {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const TrialResult result = trial();
  // A failure to write shows as a missing answer in the parent.
  [[maybe_unused]] const ssize_t n = ::write(out, result.text.data(), std::min<std::size_t>(result.text.size(), 4096));
  _exit(result.ok ? 0 : 1);
}

/// Reads until the child closes the pipe; false when the time is over.
bool collect(int in, unsigned seconds, std::string& text) {
  for (;;) {
    pollfd ready{in, POLLIN, 0};
    const int n = ::poll(&ready, 1, static_cast<int>(seconds) * 1000);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    std::array<char, 4096> buffer;
    const ssize_t got = ::read(in, buffer.data(), buffer.size());
    if (got <= 0) return true;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

TrialResult run_trial(unsigned seconds, const std::function<TrialResult()>& trial) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return {false, errno_text("pipe")};
  Fd in(ends[0]);
  Fd out(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return {false, errno_text("fork")};
  if (pid == 0) child(out.get(), trial);
  out.reset();

  TrialResult result;
  const bool answered = collect(in.get(), seconds, result.text);
  if (!answered) kill(pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!answered) return {false, fmt::format("no answer within {} s", seconds)};
  if (WIFSIGNALED(status))
    return {false, fmt::format("ended by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)))};
  result.ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return result;
}

std::string errno_text(const std::string& what) {
  return fmt::format("{}: {}", what, std::generic_category().message(errno));
}

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace veneer::cli
