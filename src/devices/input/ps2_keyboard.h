// A PS/2 keyboard with 102 keys.
//
// State: settings, scan code set, which keys are down, the key that repeats, bytes on their way.
// Missing: keys beyond the 102 (multimedia, power); the shift codes that real keyboards send around the gray keys while
//   Num Lock or Shift is on.
// Differs from the spec: passes its self-test at once; what does not fit into its buffer is dropped without an overrun
//   code.
// Spec: IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and 102-key)".
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "devices/input/keys.h"
#include "devices/input/ps2_device.h"

namespace veneer::devices {

class Ps2Keyboard final : public Ps2Device {
 public:
  explicit Ps2Keyboard(TimerService& timers);

  /// A key of the host's keyboard. One that is down already is not pressed again: this keyboard repeats by itself.
  void key(Key key, bool down);
  /// Bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
  std::uint8_t leds() const { return leds_; }

  void receive(std::uint8_t byte) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  /// What a key of set 3 reports besides its make code.
  enum KeyMode : std::uint8_t { MAKE_ONLY = 0, TYPEMATIC = 1, BREAK = 2 };
  static constexpr std::size_t set3_codes = 0x90;

  void set_defaults();
  void reply(std::uint8_t byte);
  void argument(std::uint8_t command, std::uint8_t value);
  void set_all_modes(std::uint8_t mode);
  void report(Key key, bool down);
  void report_special(Key key, bool down);
  void repeat();
  void stop_repeating();

  const Clock& clock_;
  std::unique_ptr<Timer> repeat_timer_;
  std::uint8_t command_ = 0;  ///< waits for its argument
  std::uint8_t leds_ = 0, typematic_ = 0, scan_code_set_ = 2, last_reply_ = 0;
  bool scanning_ = true;
  std::array<std::uint8_t, set3_codes> modes_{};
  std::bitset<256> down_;       ///< by enum Key
  std::uint8_t repeating_ = 0;  ///< enum Key; 0: none
  std::uint64_t next_repeat_ns_ = 0;
};

}  // namespace veneer::devices
