// Signals as events: a thread waits for them, so that no handler has to be careful.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <thread>

namespace veneer::cli {

/// From construction on SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGTTIN, SIGTTOU and SIGWINCH are blocked
/// in this thread and all that it starts later, SIGPIPE is ignored, and the thread "_signals" takes care:
/// - SIGTSTP gives the terminal back and stops the process; SIGCONT makes the terminal raw again if it was;
/// - SIGTERM asks the guest to end, again every few seconds, and when the grace is over ends it;
/// - SIGINT, SIGHUP and SIGQUIT end it, and so does a second SIGTERM a second later or more;
/// - another one, a second later, ends the process at once with status 1;
/// - when the process is still there `patience` seconds after expect_end(), it is ended (a bug of ours), with a dump.
/// Make it before other threads, and once.
class Signals {
 public:
  static constexpr int patience_seconds = 10;

  /// What signals mean; all are called on the "_signals" thread.
  struct Listener {
    /// Ends the machine, because of this signal.
    std::function<void(int signal_number)> end;
    /// Tells the guest that it is to end. Null: SIGTERM is as the others.
    std::function<void(int signal_number)> ask = nullptr;
    std::chrono::seconds grace{0};  ///< how long it may take then
    /// The terminal has another size.
    std::function<void()> resized = nullptr;
  };
  explicit Signals(Listener listener);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  /// The process is about to end; if that takes too long, it is ended. Any thread.
  void expect_end() { end_expected_ = true; }

 private:
  void run();
  void handle(int signal_number);
  void handle_end(int signal_number);
  void ask(int signal_number);
  void look_at_grace();
  [[noreturn]] void end_now(const char* why);

  using Clock = std::chrono::steady_clock;

  Listener listener_;
  std::atomic<bool> end_expected_{false};
  std::atomic<bool> quitting_{false};
  // Used by the thread only:
  std::optional<Clock::time_point> newest_;       // signal that wants an end
  std::optional<Clock::time_point> grace_until_;  // the guest has been asked
  Clock::time_point ask_again_;
  std::thread thread_;
};

}  // namespace veneer::cli
