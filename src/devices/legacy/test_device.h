// What test kernels poke beside the debug exit port: a port that remembers, interrupt lines to pull, register memory.
//
// State: the four port bytes, the lines' levels, 64 KiB of memory. Missing: nothing.
// Differs from the spec: a write to the page flush port does nothing; guest memory does not go away for a moment.
// Spec: none; register-compatible with QEMU's pc-testdev, which public suites of test kernels are written for.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "machine/device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Twelve ports: 0 to 3 keep what is written in 1, 2 or 4 bytes; 4 to 7 flush a page; 8 to 11 are 0 to 3 again.
class TestPorts final : public machine::Device {
 public:
  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override { data_ = 0; }

 private:
  std::uint32_t data_ = 0;
};

/// One port for each ISA interrupt: anything but 0 raises its line.
class TestLines final : public machine::Device {
 public:
  static constexpr unsigned line_count = 16;
  using Lines = std::array<machine::IrqLine*, line_count>;
  explicit TestLines(const Lines& lines) : lines_(lines) {}

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  const Lines lines_;
  std::uint16_t levels_ = 0;
};

/// Memory that answers as registers do: every access comes to the board.
class TestMemory final : public machine::Device {
 public:
  static constexpr std::uint64_t size_bytes = 0x10000;

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  std::vector<std::uint8_t> bytes_ = std::vector<std::uint8_t>(size_bytes);
};

}  // namespace veneer::devices
