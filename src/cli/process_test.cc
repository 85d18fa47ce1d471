// Whole-process matters: the terminal and signals, each tried in a child on a pseudo-terminal.
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "base/fd.h"
#include "cli/doctor/trial.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace veneer::cli {
namespace {

/// A child whose standard input is a new terminal, and our end of it.
struct Child {
  explicit Child(const std::function<int()>& body) {
    int fd = -1;
    pid = forkpty(&fd, nullptr, nullptr, nullptr);
    if (pid == 0) _exit(body());
    terminal = Fd(fd);
  }
  ~Child() {
    if (!reaped) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  bool raw() const {
    termios settings{};
    tcgetattr(terminal.get(), &settings);
    return (settings.c_lflag & ICANON) == 0;
  }
  /// Waits up to five seconds for the terminal to be raw or not.
  bool becomes(bool wanted) const {
    for (int i = 0; i < 500 && raw() != wanted; ++i) usleep(10'000);
    return raw() == wanted;
  }
  int wait() {
    int status = 0;
    waitpid(pid, &status, 0);
    reaped = true;
    return status;
  }
  pid_t pid = -1;
  Fd terminal;
  bool reaped = false;
};

/// The body of veneer run, without a machine: raw until a signal ends it.
int raw_until_signal() {
  terminal::remember();
  static int ended_by = 0;
  static int done[2];
  if (pipe(done) != 0) return 99;
  Signals signals({.end = [](int number) {
    ended_by = number;
    close(done[1]);
  }});
  terminal::enter_raw();
  char byte = 0;
  while (read(done[0], &byte, 1) != 0) {
  }
  terminal::restore();
  return ended_by;
}

TEST(Terminal, IsRawAndGivenBackAfterSigterm) {
  Child child(raw_until_signal);
  ASSERT_TRUE(child.becomes(true));
  kill(child.pid, SIGTERM);
  EXPECT_TRUE(child.becomes(false));
  EXPECT_EQ(WEXITSTATUS(child.wait()), SIGTERM);
}
TEST(Terminal, IsGivenBackWhileStoppedAndTakenAgain) {
  Child child(raw_until_signal);
  ASSERT_TRUE(child.becomes(true));
  kill(child.pid, SIGTSTP);
  EXPECT_TRUE(child.becomes(false));
  kill(child.pid, SIGCONT);
  EXPECT_TRUE(child.becomes(true));
}
TEST(Terminal, IsGivenBackAtExit) {
  Child child([]() -> int {
    terminal::remember();
    terminal::enter_raw();
    std::exit(7);
  });
  EXPECT_EQ(WEXITSTATUS(child.wait()), 7);
  EXPECT_FALSE(child.raw());
}

TEST(Trial, GivesTheText) {
  const TrialResult result = run_trial(5, [] { return TrialResult{true, "fine"}; });
  EXPECT_TRUE(result.ok);
  EXPECT_EQ(result.text, "fine");
}
TEST(Trial, CrashIsAFailure) {
  const TrialResult result = run_trial(5, []() -> TrialResult {
    raise(SIGILL);
    return {true, {}};
  });
  EXPECT_FALSE(result.ok);
  EXPECT_NE(result.text.find("ended by signal 4"), std::string::npos);
}
TEST(Trial, HangIsAFailure) {
  const TrialResult result = run_trial(1, []() -> TrialResult {
    for (;;) pause();
  });
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.text, "no answer within 1 s");
}

}  // namespace
}  // namespace veneer::cli
