// The reset control register at port CF9h.
//
// State: the register. Missing: nothing. Differs from the spec: a soft reset resets the whole machine too.
// Spec: 82371AB (PIIX4) data sheet 4.2.6, "RC - reset control register".
#pragma once

#include <cstdint>

#include "machine/byte_device.h"
#include "machine/power.h"

namespace veneer::devices {

/// One port.
class ResetPort final : public machine::ByteDevice {
 public:
  explicit ResetPort(machine::PowerControl& power) : power_(power) {}

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override { value_ = 0; }

 protected:
  std::uint8_t read_byte(unsigned) override { return value_; }
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  machine::PowerControl& power_;
  std::uint8_t value_ = 0;
};

}  // namespace veneer::devices
