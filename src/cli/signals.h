// Signals as events: a thread waits for them, so that no handler has to be careful.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <thread>

namespace veneer::cli {

/// From construction on SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGTTIN and SIGTTOU are blocked in this
/// thread and all that it starts later, SIGPIPE is ignored, and the thread "_signals" takes care:
/// - SIGTSTP gives the terminal back and stops the process; SIGCONT makes the terminal raw again if it was;
/// - SIGINT, SIGTERM, SIGHUP and SIGQUIT call the listener, and again a second later end the process at once with
/// status 1;
/// - when the process is still there `patience` seconds after expect_end(), it is ended (a bug of ours), with a dump.
/// Make it before other threads, and once.
class Signals {
 public:
  static constexpr int patience_seconds = 10;

  /// `on_end` runs on the "_signals" thread with the signal's number.
  explicit Signals(std::function<void(int)> on_end);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  /// The process is about to end; if that takes too long, it is ended. Any thread.
  void expect_end() { end_expected_ = true; }

 private:
  void run();
  void handle(int signal_number);
  [[noreturn]] void end_now(const char* why);

  std::function<void(int)> on_end_;
  std::atomic<bool> end_expected_{false};
  std::atomic<bool> quitting_{false};
  std::optional<std::chrono::steady_clock::time_point> first_;  // used by the thread only
  std::thread thread_;
};

}  // namespace veneer::cli
