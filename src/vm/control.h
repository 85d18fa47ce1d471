// Control: what users and devices ask of a running machine, and what the thread in Machine::run() finds to do.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "machine/power.h"

namespace veneer::vm {

/// How a machine ended.
struct MachineExit {
  enum class Reason {
    PoweredOff,  ///< ACPI S5
    Reset,       ///< a reset under no_reboot
    GuestExit,   ///< the debug exit port
    Crashed,     ///< a triple fault under no_reboot
    Stopped,     ///< request_stop()
    Failed,      ///< the host failed; see message
  };
  Reason reason = Reason::Stopped;
  int status = 0;       ///< exit status for the process (docs/command-line.md, "Ends")
  std::string message;  ///< for Crashed and Failed
};

/// Thread-safe; every request returns at once. The mutex is a leaf below the board lock.
class Control final : public machine::PowerControl {
 public:
  explicit Control(bool no_reboot) : no_reboot_(no_reboot) {}

  // machine::PowerControl
  void power_off() override { end({MachineExit::Reason::PoweredOff, 0, {}}); }
  void reset() override;
  void guest_exit(int status) override { end({MachineExit::Reason::GuestExit, status, {}}); }

  void pause() { set_pause_wanted(true); }
  void resume() { set_pause_wanted(false); }
  void stop(int status) { end({MachineExit::Reason::Stopped, status, {}}); }
  /// A vCPU went into shutdown (triple fault).
  void crashed(const std::string& message);
  void failed(const std::string& message) { end({MachineExit::Reason::Failed, 1, message}); }

  enum class Work { Pause, Resume, Reset, End };
  /// Waits for something to do. End stays.
  Work wait();
  /// Reports that a Pause or Resume was carried out.
  void set_paused(bool paused);

  bool paused() const;
  /// pause() was called, and no resume() after it.
  bool pause_wanted() const;
  /// Called by whoever asks for an end or a reset, before the request is there. Set before the machine runs.
  void set_end_listener(std::function<void()> listener) { end_listener_ = std::move(listener); }
  bool wait_paused(bool wanted, std::chrono::milliseconds limit);
  /// How it ended; only after wait() gave End.
  MachineExit result() const;

 private:
  void end(MachineExit how);
  void set_pause_wanted(bool wanted);

  const bool no_reboot_;
  std::function<void()> end_listener_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<MachineExit> end_;  // the first one wins
  bool reset_wanted_ = false;
  bool pause_wanted_ = false;
  bool paused_ = false;
};

}  // namespace veneer::vm
