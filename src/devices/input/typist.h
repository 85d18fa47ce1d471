// The typist: presses keys one after the other, no faster than the guest takes them.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>

#include "base/clock.h"
#include "base/result.h"
#include "devices/input/ps2_keyboard.h"

namespace veneer::devices {

/// Board lock held in all calls.
class Typist {
 public:
  static constexpr std::uint64_t pause_ns = 10'000'000;
  static constexpr unsigned patience = 500;  ///< pauses; a guest that takes no key for that long gets none
  static constexpr std::size_t most_events = 16384;

  /// `keyboard_idle`: the guest has taken all there was.
  Typist(TimerService& timers, Ps2Keyboard& keyboard, std::function<bool()> keyboard_idle);

  /// Behind what is being typed already. All or nothing.
  Result<void> type(std::span<const KeyEvent> events);
  bool busy() const { return !events_.empty(); }

  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);
  void reset();

 private:
  void step();

  const Clock& clock_;
  Ps2Keyboard& keyboard_;
  std::function<bool()> keyboard_idle_;
  std::unique_ptr<Timer> timer_;
  std::deque<KeyEvent> events_;
  unsigned waited_ = 0;
};

}  // namespace veneer::devices
