// ByteDevice: a device whose registers are one byte wide, as on the ISA bus.
#pragma once

#include <cstdint>

#include "machine/device.h"

namespace veneer::machine {

/// Wider accesses become byte accesses at rising offsets, as the chipset's ISA bridge does it.
class ByteDevice : public Device {
 public:
  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) final {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size_bytes; ++i)
      value |= std::uint64_t{read_byte(static_cast<unsigned>(offset) + i)} << (8 * i);
    return value;
  }
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) final {
    for (unsigned i = 0; i < size_bytes; ++i)
      write_byte(static_cast<unsigned>(offset) + i, static_cast<std::uint8_t>(value >> (8 * i)));
  }

 protected:
  virtual std::uint8_t read_byte(unsigned offset) = 0;
  virtual void write_byte(unsigned offset, std::uint8_t value) = 0;
};

}  // namespace veneer::machine
