// Stand-ins for what a device is plugged into: a wire that remembers, a bus lock, byte-wide register access.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "machine/char_sink.h"
#include "machine/device.h"
#include "machine/irq_line.h"
#include "machine/power.h"
#include "machine/snapshot.h"

namespace veneer::devices::testing {

/// Counts rising edges and keeps the level.
class FakeIrqLine final : public machine::IrqLine {
 public:
  void set(bool value) override {
    if (value && !level) ++rises;
    level = value;
  }
  bool level = false;
  unsigned rises = 0;
};

class FakeCharSink final : public machine::CharSink {
 public:
  void write(std::span<const std::uint8_t> data) override { text.append(data.begin(), data.end()); }
  std::string text;
};

class FakePower final : public machine::PowerControl {
 public:
  void power_off() override { ++power_offs; }
  void reset() override { ++resets; }
  void guest_exit(int status) override { exit_status = status; }
  unsigned power_offs = 0, resets = 0;
  int exit_status = -1;
};

inline std::vector<std::byte> saved(const machine::Device& device) {
  machine::SnapshotWriter out;
  device.save(out);
  return out.data();
}

/// True when the device took the state without complaint.
inline bool restore(machine::Device& device, std::span<const std::byte> state) {
  machine::SnapshotReader in(state);
  device.restore(in);
  return in.ok();
}

inline std::uint8_t in8(machine::Device& device, std::uint64_t offset) {
  return static_cast<std::uint8_t>(device.read(offset, 1));
}
inline void out8(machine::Device& device, std::uint64_t offset, std::uint8_t value) { device.write(offset, 1, value); }

}  // namespace veneer::devices::testing
