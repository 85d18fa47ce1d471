// A PS/2 mouse: three buttons, and a wheel and two more for drivers that ask.
//
// State: settings, mode, movement that has not been reported, bytes on their way.
// Missing: nothing known.
// Differs from the spec: it samples when the guest has taken the last packet, not by its rate; passes its self-test at
//   once; resolution does not scale.
// Spec: IBM PS/2 Hardware Interface Technical Reference, "Mouse"; wheel: Microsoft, "IntelliMouse" (ids 3 and 4 behind
//   the rates 200, 100, 80 and 200, 200, 80).
#pragma once

#include <array>
#include <cstdint>

#include "devices/input/ps2_device.h"

namespace veneer::devices {

class Ps2Mouse final : public Ps2Device {
 public:
  Ps2Mouse() { reset(); }

  enum Button : std::uint8_t { LEFT = 1, RIGHT = 2, MIDDLE = 4, FOURTH = 8, FIFTH = 16 };

  /// The host's mouse: right and down are positive, a wheel turned towards the user too.
  void move(int dx, int dy, int wheel);
  /// All buttons that are down now.
  void set_buttons(std::uint8_t buttons);

  void receive(std::uint8_t byte) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 protected:
  void output_taken() override { report_if_streaming(); }

 private:
  enum class Mode : std::uint8_t { Stream, Remote, Wrap };

  void set_defaults();
  void set_rate(std::uint8_t rate);
  void reply(std::initializer_list<std::uint8_t> bytes);
  void send_status();
  void send_packet(bool scaled);
  void report_if_streaming();

  Mode mode_ = Mode::Stream, mode_before_wrap_ = Mode::Stream;
  bool reporting_ = false;
  bool scaled_ = false;
  std::uint8_t resolution_ = 2, rate_ = 100, id_ = 0, command_ = 0, last_reply_ = 0;
  std::array<std::uint8_t, 2> last_rates_{};  ///< the newest first
  std::uint8_t buttons_ = 0, reported_buttons_ = 0;
  std::int32_t dx_ = 0, dy_ = 0, wheel_ = 0;  ///< not reported yet; up is positive in dy_
};

}  // namespace veneer::devices
