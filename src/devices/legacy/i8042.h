// The 8042 keyboard controller with its two PS/2 ports.
//
// State: status, configuration byte, output port, output buffer; saves the devices on its ports, too.
// Missing: test inputs, passwords.
// Differs from the spec: bytes move at once.
// Spec: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "devices/input/ps2_device.h"
#include "machine/byte_device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

class Ps2Controller8042 final {
 public:
  /// `on_reset` is called when the guest pulses the processor's reset line. Board lock held; must return at once.
  Ps2Controller8042(machine::IrqLine& irq1, machine::IrqLine& irq12, Ps2Device& keyboard, Ps2Device& mouse,
                    std::function<void()> on_reset);

  machine::Device& data_port() { return data_port_; }        ///< port 60h; saves and restores the whole controller
  machine::Device& command_port() { return command_port_; }  ///< port 64h

  /// The guest has taken all that the keyboard sent, and lets it send.
  bool keyboard_idle() const;
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

  /// Whose byte stands in the output buffer.
  enum class Source : std::uint8_t { Controller, Keyboard, Aux };

  std::uint8_t status() const;
  std::uint8_t read_data();
  void write_data(std::uint8_t value);
  void write_command(std::uint8_t command);
  void controller_reply(std::uint8_t value, Source source = Source::Controller);
  std::uint8_t translate(std::uint8_t value);
  bool fill_from(Ps2Device& device, Source source);
  void refill();
  void write_output_port(std::uint8_t value);
  bool keyboard_disabled() const;
  bool aux_disabled() const;
  void reset();
  void update();

  machine::IrqLine& irq1_;
  machine::IrqLine& irq12_;
  Ps2Device& keyboard_;
  Ps2Device& mouse_;
  std::function<void()> on_reset_;
  DataPort data_port_;
  CommandPort command_port_;

  std::uint8_t output_ = 0;      ///< the output buffer at port 60h
  std::uint8_t output_raw_ = 0;  ///< ... before translation
  bool output_full_ = false;
  bool output_released_ = false;  ///< ... F0h came before it
  Source source_ = Source::Controller;
  std::array<std::uint8_t, 32> ram_{};  ///< byte 0 is the configuration ("command") byte
  std::uint8_t output_port_ = 0;
  std::uint8_t command_ = 0;  ///< controller command that waits for its data byte
  bool last_write_was_command_ = false;
  bool self_test_done_ = false;
  bool break_prefix_ = false;  ///< translation saw F0h
};

}  // namespace veneer::devices
