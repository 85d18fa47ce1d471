// The console: standard input, shared between the guest's serial port and the monitor prompt.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "cli/escape_keys.h"
#include "cli/guest_input.h"
#include "cli/line_editor.h"
#include "cli/monitor.h"
#include "cli/output_queue.h"
#include "cli/wake_fd.h"

namespace veneer::cli {

/// Reads standard input on the thread "_console". What is typed goes to the guest, except for the escape keys and for
/// lines at the monitor prompt. The end of standard input only ends the reading.
class Console {
 public:
  /// All three must outlive stop().
  Console(OutputQueue& out, GuestInput& guest, MonitorTarget& target);
  ~Console() { stop(); }
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void start();
  /// Ends the thread. Not to be called on it.
  void stop();

 private:
  void run();
  bool read_some();
  void handle(std::span<const std::uint8_t> bytes);
  void handle_plain(std::span<const std::uint8_t> bytes);
  void handle_monitor_key(std::uint8_t byte);
  void act(EscapeKeys::Action action);
  void toggle_monitor();
  void flush_pending();
  void print(std::string_view text);

  OutputQueue& out_;
  GuestInput& guest_;
  MonitorTarget& target_;
  Monitor monitor_;
  EscapeKeys keys_;
  LineEditor editor_;
  bool in_monitor_ = false;
  bool end_of_input_ = false;
  std::vector<std::uint8_t> pending_;  // for the guest, when its queue was full

  WakeFd wake_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace veneer::cli
