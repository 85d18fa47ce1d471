// Signals as events: the thread that waits for them.
#include "cli/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <utility>

#include "base/log.h"
#include "base/thread_start.h"
#include "cli/terminal.h"
#include "debug/flight_dump.h"

namespace veneer::cli {
namespace {

constexpr unsigned dump_events = 32;
/// timeout(1) and terminals signal a process and its group, so that one wish arrives twice.
constexpr std::chrono::seconds same_signal{1};
/// A guest that boots hears its power button only once it listens.
constexpr std::chrono::seconds ask_again_after{5};
constexpr int wake_signal = SIGUSR2;  // ends the thread's wait in the destructor

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGTTIN, SIGTTOU, SIGWINCH, wake_signal})
    sigaddset(&set, number);
  return set;
}

}  // namespace

Signals::Signals(Listener listener) : listener_(std::move(listener)) {
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
    look_at_grace();
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
    case SIGWINCH:
      if (listener_.resized) listener_.resized();
      break;
    case SIGQUIT:
      if (!newest_) debug::dump_flight_recorder(STDERR_FILENO, dump_events);
      [[fallthrough]];
    case SIGINT:
    case SIGTERM:
    case SIGHUP:
      handle_end(signal_number);
      break;
    default:
      break;
  }
}

void Signals::handle_end(int signal_number) {
  const auto now = Clock::now();
  const auto before = std::exchange(newest_, now);
  if (!before && signal_number == SIGTERM && listener_.ask && listener_.grace.count() != 0) {
    grace_until_ = now + listener_.grace;
    log_info("asking the guest to power off; it has {} s (another SIGTERM ends it at once)", listener_.grace.count());
    return ask(signal_number);
  }
  if (before && now - *before <= same_signal) return;
  if (before && (!grace_until_ || end_expected_)) end_now("veneer: ended by a second signal\n");
  listener_.end(signal_number);
}

void Signals::ask(int signal_number) {
  ask_again_ = Clock::now() + ask_again_after;
  listener_.ask(signal_number);
}

void Signals::look_at_grace() {
  if (!grace_until_ || end_expected_) return;
  if (Clock::now() >= *grace_until_) {
    log_warning("the guest did not power off within {} s (--grace SECONDS gives it more)", listener_.grace.count());
    listener_.end(SIGTERM);
  } else if (Clock::now() >= ask_again_) {
    ask(SIGTERM);
  }
}

void Signals::end_now(const char* why) {
  terminal::restore();
  std::fputs(why, stderr);
  _exit(1);
}

}  // namespace veneer::cli
