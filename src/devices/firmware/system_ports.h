// Small registers of a PC's system board: port 92h and the APM ports.
//
// State: the registers.
// Missing: masking of A20 (it is always open, and the bit only remembers); system management interrupts.
// Spec: IBM PS/2 Hardware Interface Technical Reference, "System control port A"; 82371AB (PIIX4) 4.2.7 (APMC, APMS).
#pragma once

#include <cstdint>
#include <functional>

#include "machine/byte_device.h"

namespace veneer::devices {

/// Port 92h: bit 0 rising resets, bit 1 is A20.
class SystemControlPort final : public machine::ByteDevice {
 public:
  explicit SystemControlPort(std::function<void()> on_reset) : on_reset_(std::move(on_reset)) {}
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override { value_ = a20; }

 protected:
  std::uint8_t read_byte(unsigned) override { return value_; }
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  static constexpr std::uint8_t fast_reset = 1, a20 = 2;
  std::function<void()> on_reset_;
  std::uint8_t value_ = a20;
};

/// Ports B2h and B3h: command and status of advanced power management, which firmware uses as two bytes of memory.
class ApmPorts final : public machine::ByteDevice {
 public:
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override { values_[0] = values_[1] = 0; }

 protected:
  std::uint8_t read_byte(unsigned offset) override { return values_[offset & 1]; }
  void write_byte(unsigned offset, std::uint8_t value) override { values_[offset & 1] = value; }

 private:
  std::uint8_t values_[2] = {};
};

}  // namespace veneer::devices
