// Signals as events: the thread that waits for them.
#include "cli/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <utility>

#include "base/thread_start.h"
#include "cli/terminal.h"
#include "debug/flight_dump.h"

namespace veneer::cli {
namespace {

constexpr unsigned dump_events = 32;
/// timeout(1) and terminals signal a process and its group, so that one wish arrives twice.
constexpr std::chrono::seconds same_signal{1};
constexpr int wake_signal = SIGUSR2;  // ends the thread's wait in the destructor

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGTTIN, SIGTTOU, wake_signal})
    sigaddset(&set, number);
  return set;
}

}  // namespace

Signals::Signals(std::function<void(int)> on_end) : on_end_(std::move(on_end)) {
  std::signal(SIGPIPE, SIG_IGN);
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { run(); });
}

Signals::~Signals() {
  quitting_ = true;
  pthread_kill(thread_.native_handle(), wake_signal);
  thread_.join();
}

void Signals::run() {
  begin_thread(ThreadKind::Signals, "_signals");
  const sigset_t set = watched_signals();
  int seconds_left = patience_seconds;
  while (!quitting_) {
    const timespec second{1, 0};
    const int number = sigtimedwait(&set, nullptr, &second);
    if (number > 0) {
      handle(number);
    } else if (errno == EAGAIN && end_expected_ && --seconds_left == 0) {
      debug::dump_flight_recorder(STDERR_FILENO, dump_events);
      end_now("veneer: bug: the machine does not end; ending the process\n");
    }
  }
}

void Signals::handle(int signal_number) {
  switch (signal_number) {
    case SIGTSTP:
      terminal::suspend();
      kill(getpid(), SIGSTOP);
      break;
    case SIGCONT:
      terminal::resume();
      break;
    case SIGQUIT:
      if (!first_) debug::dump_flight_recorder(STDERR_FILENO, dump_events);
      [[fallthrough]];
    case SIGINT:
    case SIGTERM:
    case SIGHUP:
      if (!first_) {
        first_ = std::chrono::steady_clock::now();
        on_end_(signal_number);
      } else if (std::chrono::steady_clock::now() - *first_ > same_signal) {
        end_now("veneer: ended by a second signal\n");
      }
      break;
    default:
      break;
  }
}

void Signals::end_now(const char* why) {
  terminal::restore();
  std::fputs(why, stderr);
  _exit(1);
}

}  // namespace veneer::cli
