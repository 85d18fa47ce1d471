// The monitor: what the commands at the (veneer) prompt are, and what they do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "devices/input/keys.h"

namespace veneer::cli {

/// What the monitor needs of a machine. Called on the console thread; answers within a moment, whatever the guest does.
class MonitorTarget {
 public:
  virtual ~MonitorTarget() = default;
  virtual unsigned vcpu_count() const = 0;
  virtual std::string registers(unsigned vcpu) = 0;
  virtual std::string tlb(unsigned vcpu) = 0;
  virtual std::string jit(unsigned vcpu) = 0;
  virtual std::string events(unsigned vcpu) = 0;
  virtual std::string status() = 0;
  virtual std::string disks() = 0;
  /// Makes a disk larger, and says so; `name` as in disks().
  virtual std::string grow_disk(std::string name, std::uint64_t size_bytes) = 0;
  /// Gives the guest the size that the disk's image has now, and says it.
  virtual std::string refresh_disk(std::string name) = 0;
  virtual std::string network() = 0;
  /// What goes back and forth between the guest's memory and the host's.
  virtual std::string balloon() = 0;
  /// Asks the guest to make do with so much memory, and says what is wrong.
  virtual std::string set_guest_memory(std::uint64_t bytes) = 0;
  /// Plugs in or pulls out the cable of a card, and says what is wrong; `name` as in network().
  virtual std::string set_link(std::string name, bool up) = 0;
  /// What the screen shows, as text.
  virtual std::string screen() = 0;
  /// Types on the guest's keyboard, and says what is wrong.
  virtual std::string press_keys(std::vector<devices::KeyEvent> events) = 0;
  /// Right and down are positive, a wheel turned towards the user too; says what is wrong.
  virtual std::string move_mouse(int dx, int dy, int wheel) = 0;
  /// All that are down now: devices::Ps2Mouse::Button.
  virtual std::string set_mouse_buttons(std::uint8_t buttons) = 0;
  virtual void pause() = 0;
  virtual void resume() = 0;
  virtual void reset() = 0;
  virtual void power_button() = 0;
  virtual void quit() = 0;
};

class Monitor {
 public:
  explicit Monitor(MonitorTarget& target) : target_(target) {}

  static constexpr const char* prompt = "(veneer) ";

  /// Carries out one line and returns what to print. Knows commands by any unambiguous beginning.
  std::string execute(std::string_view line);

 private:
  std::string info(std::string_view what, std::string_view argument);
  std::string grow(std::string_view disk, std::string_view size);
  std::string balloon(std::string_view size);
  std::string link(std::string_view card, std::string_view state);
  std::string send_keys(std::string_view chords);
  std::string type(std::string_view text);
  std::string move_mouse(std::string_view numbers);
  std::string mouse_button(std::string_view names);
  MonitorTarget& target_;
};

}  // namespace veneer::cli
