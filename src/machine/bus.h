// A bus: which device answers at which address. One class serves ports and memory-mapped registers.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/device.h"

namespace veneer::machine {

/// The board lock: held whenever a device's code runs. Order: board lock, then nothing else but a leaf lock that
/// a device or backend owns. Guest code runs without it.
using BoardLock = std::recursive_mutex;

/// Maps address ranges to devices. Addresses where nothing answers read as all ones, writes go nowhere.
/// read/write take the board lock themselves; map/unmap are called with it held, or before any vCPU runs.
class Bus {
 public:
  Bus(std::string name, BoardLock& lock) : name_(std::move(name)), lock_(lock) {}

  /// Puts `device` at [base, base + size). Refuses an overlap, naming both.
  Result<void> map(std::uint64_t base, std::uint64_t size, Device& device, std::string label);
  /// Takes away the range that starts at base. Does nothing when there is none.
  void unmap(std::uint64_t base);

  /// Reads 1, 2, 4 or 8 bytes. An access that leaves the device's range is split into bytes.
  std::uint64_t read(std::uint64_t address, unsigned size_bytes);
  void write(std::uint64_t address, unsigned size_bytes, std::uint64_t value);

  /// True when a device answers at this address.
  bool has_device(std::uint64_t address) const;

 private:
  struct Range {
    std::uint64_t base;
    std::uint64_t size;
    Device* device;
    std::string label;
  };
  const Range* find(std::uint64_t address) const;

  std::string name_;
  BoardLock& lock_;
  std::vector<Range> ranges_;  // sorted by base; guarded by lock_
};

}  // namespace veneer::machine
