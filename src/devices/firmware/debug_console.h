// The debug port at 402h, where firmware for virtual machines writes what it does.
//
// State: the line that is not complete yet (not saved). Spec: SeaBIOS and OVMF, "debugcon": reads give E9h.
#pragma once

#include <string>

#include "machine/byte_device.h"

namespace veneer::devices {

/// One port. Lines show with --trace firmware.
class DebugConsole final : public machine::ByteDevice {
 public:
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override { line_.clear(); }

 protected:
  std::uint8_t read_byte(unsigned) override { return 0xe9; }
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  static constexpr std::size_t longest_line = 500;
  std::string line_;
};

}  // namespace veneer::devices
