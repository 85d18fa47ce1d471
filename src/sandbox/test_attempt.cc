// Attempts of forbidden calls, so that a test sees the real threads being stopped.
#include "sandbox/test_attempt.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <iterator>
#include <string_view>

namespace veneer::sandbox {
namespace {

constexpr std::array<const char*, thread_kind_count> kind_names = {"main",     "vcpu",    "events", "worker",
                                                                   "console",  "signals", "output", "server",
                                                                   "watchdog", "remote",  "net",    "netfiles"};

struct Attempt {
  const char* name;
  long (*make)();
};

constexpr Attempt attempts[] = {
    {"execve",
     [] {
       char* const arguments[] = {nullptr};
       return static_cast<long>(::execve("/bin/true", arguments, arguments));
     }},
    {"open", [] { return static_cast<long>(::open("/etc/passwd", O_RDONLY | O_CLOEXEC)); }},
    {"socket", [] { return static_cast<long>(::socket(AF_INET, SOCK_STREAM, 0)); }},
    {"fork", [] { return ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
    {"ptrace", [] { return ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
    {"kill", [] { return static_cast<long>(::kill(1, 0)); }},
    {"exec-memory",
     [] {
       return reinterpret_cast<long>(
           ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
     }},
    {"type", [] { return static_cast<long>(::ioctl(STDIN_FILENO, TIOCSTI, "x")); }},
};

const Attempt* planned = nullptr;
ThreadKind planned_kind = ThreadKind::Main;

}  // namespace

const char* kind_name(ThreadKind kind) { return kind_names[static_cast<std::size_t>(kind)]; }

Result<void> plan_test_attempt(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string_view kind = std::string_view(text).substr(0, colon);
  const std::string_view call = colon == std::string::npos ? "" : std::string_view(text).substr(colon + 1);
  for (std::size_t i = 0; i < kind_names.size(); ++i) {
    if (kind != kind_names[i]) continue;
    for (const Attempt& attempt : attempts) {
      if (call != attempt.name) continue;
      planned = &attempt;
      planned_kind = static_cast<ThreadKind>(i);
      return {};
    }
  }
  return Error(fmt::format("\"{}\" is no KIND:CALL", text));
}

void attempt_if_planned(ThreadKind kind) {
  if (planned == nullptr || kind != planned_kind) return;
  const long result = planned->make();
  constexpr std::string_view message = "veneer: the forbidden call came back\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, message.data(), message.size());
  ::_exit(result == -1 ? 98 : 99);
}

}  // namespace veneer::sandbox
