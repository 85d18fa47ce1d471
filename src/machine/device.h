// The interface of a device with registers, on a port or a memory bus.
#pragma once

#include <cstdint>

#include "machine/snapshot.h"

namespace veneer::machine {

/// A device knows offsets into its own range, never its address. The bus owns addresses.
/// All calls come with the board lock held (machine/bus.h), on a vCPU thread or the event loop.
class Device {
 public:
  virtual ~Device() = default;

  /// Register read of 1, 2, 4 or 8 bytes. Unused high bits must be zero. What is not there reads as all ones or
  /// zero, as on the hardware; never fails.
  virtual std::uint64_t read(std::uint64_t offset, unsigned size_bytes) = 0;

  /// Register write of 1, 2, 4 or 8 bytes. `value` has no bits set above the size.
  virtual void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) = 0;

  /// Appends the whole guest-visible state. save, disturb, restore, save must give equal bytes.
  virtual void save(SnapshotWriter& out) const = 0;

  /// Takes a state made by save(). Marks the reader as failed when it makes no sense.
  virtual void restore(SnapshotReader& in) = 0;

  /// Power-on (and hard reset) state.
  virtual void reset() = 0;
};

}  // namespace veneer::machine
