// Running programs of the host: one, or several joined by pipes.
#include "image/command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "base/fd.h"

namespace veneer::image {
namespace {

constexpr std::size_t lines_kept = 12;
constexpr int poll_ms = 100;
constexpr std::chrono::seconds patience{20};
constexpr int status_no_program = 127;

struct Pipe {
  Fd read, write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("making a pipe", errno);
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

/// A descriptor from which the text can be read.
Result<Fd> readable(std::string_view text) {
  Fd file(::memfd_create("input", MFD_CLOEXEC));
  if (!file.valid()) return Error::from_errno("making a file in memory", errno);
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::lseek(file.get(), 0, SEEK_SET) != 0)
    return Error::from_errno("filling a file in memory", errno);
  return file;
}

/// In the child: becomes the program. `group` is 0 for the first of the commands.
[[noreturn]] void become(const Command& command, const std::string& program, pid_t group, std::array<int, 3> standard,
                         pid_t parent) {
  ::setpgid(0, group);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(status_no_program);
  for (int number = 0; number < 3; ++number) ::dup2(standard[static_cast<std::size_t>(number)], number);
  for (const std::string& setting : command.environment) ::putenv(const_cast<char*>(setting.c_str()));
  std::vector<char*> argv;
  for (const std::string& word : command.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  ::_exit(status_no_program);
}

/// The running commands, and what they say.
class Group {
 public:
  ~Group() {
    if (!children_.empty()) signal(SIGKILL);
    for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
  }

  Result<void> start(const std::vector<Command>& commands, std::string_view input) {
    TRY(Fd next_input, readable(input));
    TRY(Pipe collected, make_pipe());
    for (const Command& command : commands) {
      const std::string program = find_program(command.argv.front());
      if (program.empty()) return Error(fmt::format("there is no program {} on this host", command.argv.front()));
      const bool last = &command == &commands.back();
      Pipe to_next;
      if (!last) {
        TRY(to_next, make_pipe());
      }
      const int out = last ? collected.write.get() : to_next.write.get();
      const pid_t parent = ::getpid();
      const pid_t child = ::fork();
      if (child < 0) return Error::from_errno(fmt::format("starting {}", command.argv.front()), errno);
      if (child == 0) become(command, program, group_, {next_input.get(), out, collected.write.get()}, parent);
      if (group_ == 0) group_ = child;
      ::setpgid(child, group_);  // here too: whoever comes first
      children_.push_back(child);
      next_input = std::move(to_next.read);
    }
    output_ = std::move(collected.read);
    return {};
  }

  /// Reads until all of them have closed their output; false: cancelled.
  bool read_all(const CommandWatch& watch) {
    using Clock = std::chrono::steady_clock;
    bool cancelled = false;
    auto deadline = Clock::time_point::max();
    for (;;) {
      if (!cancelled && watch.cancelled && watch.cancelled()) {
        cancelled = true;
        signal(SIGTERM);
        deadline = Clock::now() + patience;
      }
      if (Clock::now() > deadline) return false;  // the destructor kills
      pollfd poll{output_.get(), POLLIN, 0};
      if (::poll(&poll, 1, poll_ms) <= 0) continue;
      std::array<char, 4096> buffer;
      const ssize_t n = ::read(output_.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return !cancelled;
      take({buffer.data(), static_cast<std::size_t>(n)}, watch);
    }
  }

  /// Waits for all; an error for the first that failed.
  Result<void> finish(const std::vector<Command>& commands) {
    Result<void> result;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      int status = 0;
      while (::waitpid(children_[i], &status, 0) < 0 && errno == EINTR) {
      }
      const bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      // SIGPIPE is the fault of the one behind.
      if (good || !result || (WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE)) continue;
      std::string what = WIFEXITED(status) ? fmt::format("ended with status {}", WEXITSTATUS(status))
                                           : fmt::format("was ended by signal {}", WTERMSIG(status));
      for (const std::string& line : last_lines_) what += "\n  " + line;
      result = Error(fmt::format("{} {}", commands[i].argv.front(), what));
    }
    children_.clear();
    return result;
  }

 private:
  void signal(int number) const { ::kill(-group_, number); }

  void take(std::string_view text, const CommandWatch& watch) {
    for (const char c : text) {
      if (c != '\n' && c != '\r') {
        line_ += c;
        continue;
      }
      if (!line_.empty()) {
        if (watch.line) watch.line(line_);
        last_lines_.push_back(std::move(line_));
        if (last_lines_.size() > lines_kept) last_lines_.pop_front();
      }
      line_.clear();
    }
  }

  pid_t group_ = 0;
  std::vector<pid_t> children_;
  Fd output_;
  std::string line_;
  std::deque<std::string> last_lines_;
};

}  // namespace

Result<void> run_commands(const std::vector<Command>& commands, std::string_view input, const CommandWatch& watch) {
  Group group;
  TRY_VOID(group.start(commands, input));
  if (!group.read_all(watch)) return Error("stopped").with_code(ECANCELED);
  return group.finish(commands);
}

Result<std::string> output_of(const std::vector<std::string>& argv) {
  std::string text;
  CommandWatch watch;
  watch.line = [&text](std::string_view line) { (text += line) += '\n'; };
  TRY_VOID(run_commands({{argv, {}}}, "", watch));
  return text;
}

std::string find_program(std::string_view name) {
  if (name.find('/') != std::string_view::npos) return std::string(name);
  const char* path = std::getenv("PATH");
  const std::string folders = fmt::format("{}:/usr/sbin:/sbin", path != nullptr ? path : "/usr/bin:/bin");
  for (std::size_t begin = 0; begin <= folders.size();) {
    const std::size_t end = std::min(folders.find(':', begin), folders.size());
    std::string candidate = fmt::format("{}/{}", folders.substr(begin, end - begin), name);
    if (end > begin && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    begin = end + 1;
  }
  return "";
}

}  // namespace veneer::image
