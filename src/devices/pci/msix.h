// The MSI-X table and pending bits of a PCI function.
//
// State: table entries, pending bits, enable and function mask.
// Missing: nothing. Differs from the spec: accesses other than aligned 4 and 8 bytes (undefined there) read as zero.
// Spec: PCI Local Bus 3.0, 6.8.2.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "machine/device.h"

namespace veneer::devices {

/// One BAR's contents: the table at offset 0, the pending bit array at pba_offset.
class MsixTable final : public machine::Device {
 public:
  static constexpr unsigned entry_bytes = 16;
  static constexpr unsigned max_vectors = 128;
  static constexpr std::uint64_t pba_offset = 0x800;
  static constexpr std::uint64_t bar_bytes = 0x1000;

  /// `send` puts a message on the bus.
  MsixTable(unsigned vectors, std::function<void(std::uint64_t address, std::uint32_t data)> send);

  unsigned vectors() const { return static_cast<unsigned>(entries_.size()); }
  bool enabled() const { return enabled_; }
  /// Message control register bits 15 and 14.
  void set_control(bool enabled, bool function_masked);
  /// The function wants to interrupt: sent now, or pending while masked. A vector out of range is ignored.
  void signal(unsigned vector);

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  struct Entry {
    std::uint32_t address_low = 0, address_high = 0, data = 0, control = 1;  // vector control bit 0: masked
  };
  bool masked(const Entry& entry) const { return function_masked_ || (entry.control & 1); }
  void send_pending();
  std::uint32_t read_dword(std::uint64_t offset) const;
  void write_dword(std::uint64_t offset, std::uint32_t value);

  std::function<void(std::uint64_t, std::uint32_t)> send_;
  std::vector<Entry> entries_;
  std::vector<bool> pending_;
  bool enabled_ = false;
  bool function_masked_ = false;
};

}  // namespace veneer::devices
