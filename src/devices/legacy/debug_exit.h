// The debug exit port (F4h by convention): a test guest ends the monitor with a status.
//
// State: none. Missing: nothing. Spec: none; the status is (value << 1) | 1, so that 0 stays "powered off".
#pragma once

#include <cstdint>

#include "machine/device.h"
#include "machine/power.h"

namespace veneer::devices {

/// One port of any width; only present when asked for (--debug-exit).
class DebugExit final : public machine::Device {
 public:
  explicit DebugExit(machine::PowerControl& power) : power_(power) {}

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override {}

 private:
  machine::PowerControl& power_;
};

}  // namespace veneer::devices
