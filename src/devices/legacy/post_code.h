// Port 80h, where firmware writes how far it got.
//
// State: the last value. Missing: nothing. Spec: IBM AT Technical Reference, manufacturing diagnostic port.
#pragma once

#include <cstdint>

#include "machine/byte_device.h"

namespace veneer::devices {

/// One port. Values show with --trace boot. Kernels also write it for a short delay.
class PostCode final : public machine::ByteDevice {
 public:
  std::uint8_t last() const { return last_; }

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override { last_ = 0; }

 protected:
  std::uint8_t read_byte(unsigned) override { return last_; }
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  std::uint8_t last_ = 0;
};

}  // namespace veneer::devices
