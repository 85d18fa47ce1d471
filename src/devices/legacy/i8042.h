// The 8042 keyboard controller with a PS/2 keyboard.
//
// State: status, configuration byte, output port, output queue, keyboard settings.
// Missing: the auxiliary (mouse) port: its test reports an error, as on boards without one. Test inputs.
// Differs from the spec: bytes move at once; a reset keyboard passes its self-test at once.
// Spec: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller" and "Keyboard".
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "machine/byte_device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

class Ps2Controller8042 final {
 public:
  /// `on_reset` is called when the guest pulses the processor's reset line. Board lock held; must return at once.
  Ps2Controller8042(machine::IrqLine& irq1, std::function<void()> on_reset);

  machine::Device& data_port() { return data_port_; }        ///< port 60h; saves and restores the whole controller
  machine::Device& command_port() { return command_port_; }  ///< port 64h

  /// Scan code bytes (set 2) from the host's keyboard; dropped when the guest does not take them.
  void key(std::span<const std::uint8_t> scan_codes);
  bool a20_enabled() const { return (output_port_ & 2) != 0; }

 private:
  struct DataPort final : machine::ByteDevice {
    explicit DataPort(Ps2Controller8042& owner) : controller(owner) {}
    std::uint8_t read_byte(unsigned offset) override;
    void write_byte(unsigned offset, std::uint8_t value) override;
    void save(machine::SnapshotWriter& out) const override;
    void restore(machine::SnapshotReader& in) override;
    void reset() override;
    Ps2Controller8042& controller;
  };
  struct CommandPort final : machine::ByteDevice {
    explicit CommandPort(Ps2Controller8042& owner) : controller(owner) {}
    std::uint8_t read_byte(unsigned offset) override;
    void write_byte(unsigned offset, std::uint8_t value) override;
    void save(machine::SnapshotWriter&) const override {}
    void restore(machine::SnapshotReader&) override {}
    void reset() override {}
    Ps2Controller8042& controller;
  };

  std::uint8_t status() const;
  std::uint8_t read_data();
  void write_data(std::uint8_t value);
  void write_command(std::uint8_t command);
  void controller_reply(std::uint8_t value);
  void keyboard_byte(std::uint8_t value);
  void keyboard_argument(std::uint8_t value);
  void keyboard_reply(std::uint8_t value);
  void keyboard_defaults();
  void push(std::uint8_t value);
  std::uint8_t translate(std::uint8_t value);
  void refill();
  void write_output_port(std::uint8_t value);
  bool keyboard_disabled() const;
  void reset();
  void update();

  machine::IrqLine& irq1_;
  std::function<void()> on_reset_;
  DataPort data_port_;
  CommandPort command_port_;

  static constexpr std::size_t queue_bytes = 32;
  std::array<std::uint8_t, queue_bytes> queue_{};
  std::uint8_t queue_head_ = 0, queue_count_ = 0;  ///< set 2 bytes from the keyboard that wait
  std::uint8_t output_ = 0;                        ///< the output buffer at port 60h
  std::uint8_t output_raw_ = 0;                    ///< ... before translation
  bool output_full_ = false;
  bool output_from_keyboard_ = false;
  std::array<std::uint8_t, 32> ram_{};  ///< byte 0 is the configuration ("command") byte
  std::uint8_t output_port_ = 0;
  std::uint8_t command_ = 0;  ///< controller command that waits for its data byte
  bool last_write_was_command_ = false;
  bool self_test_done_ = false;
  // Keyboard
  std::uint8_t keyboard_command_ = 0;  ///< keyboard command that waits for its argument
  std::uint8_t leds_ = 0, typematic_ = 0x2b, scan_code_set_ = 2, last_reply_ = 0;
  bool scanning_ = true;
  bool break_prefix_ = false;  ///< translation saw F0h
};

}  // namespace veneer::devices
