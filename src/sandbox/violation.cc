// The SIGSYS handler. Only async-signal-safe calls, all of them in the policy of every kind of thread.
#include "sandbox/violation.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <string_view>

#include "base/thread_start.h"
#include "sandbox/syscall_names.h"

namespace veneer::sandbox {
namespace {

void (*before_end_hook)() = nullptr;

class Text {
 public:
  Text& operator<<(std::string_view text) {
    for (const char c : text)
      if (used_ < buffer_.size()) buffer_[used_++] = c;
    return *this;
  }
  Text& operator<<(unsigned number) {
    std::array<char, 10> digits;
    std::size_t count = 0;
    do digits[count++] = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    while (count != 0) *this << std::string_view(&digits[--count], 1);
    return *this;
  }
  std::string_view view() const { return {buffer_.data(), used_}; }

 private:
  std::array<char, 600> buffer_;
  std::size_t used_ = 0;
};

void on_violation(int, siginfo_t* info, void*) {
  if (before_end_hook != nullptr) before_end_hook();
  const std::string_view name = syscall_name(info->si_syscall);
  Text text;
  text << "veneer: the sandbox stopped the thread \"" << current_thread_name() << "\" at the system call "
       << (name.empty() ? std::string_view("number ") : name) << (name.empty() ? "" : " (number ")
       << static_cast<unsigned>(info->si_syscall) << (name.empty() ? "" : ")")
       << ", which its kind has no use for.\nveneer: either Veneer has a bug or the guest attacks it; the machine is "
          "ended. Please report this. To look into it with a guest that you trust: --sandbox off\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.view().data(), text.view().size());
  ::_exit(1);
}

}  // namespace

void install_violation_handler(void (*before_end)()) {
  before_end_hook = before_end;
  struct sigaction action {};
  action.sa_sigaction = on_violation;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGSYS, &action, nullptr);
}

}  // namespace veneer::sandbox
