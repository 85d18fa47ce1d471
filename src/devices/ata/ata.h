// Registers and bits of the ATA command and control blocks (ATA/ATAPI-6 chapter 7).
#pragma once

#include <array>
#include <cstdint>

namespace veneer::devices {

/// The registers that a command is given, and answers in. [1] of each is what was written before (48-bit addresses,
/// ATA-6 6.2).
struct TaskFile {
  using Pair = std::array<std::uint8_t, 2>;
  Pair features{}, count{}, low{}, mid{}, high{};
  std::uint8_t device = 0;

  std::uint64_t address48() const {
    return low[0] | std::uint64_t{mid[0]} << 8 | std::uint64_t{high[0]} << 16 | std::uint64_t{low[1]} << 24 |
           std::uint64_t{mid[1]} << 32 | std::uint64_t{high[1]} << 40;
  }
  std::uint16_t count16() const { return static_cast<std::uint16_t>(count[0] | count[1] << 8); }
  std::uint16_t features16() const { return static_cast<std::uint16_t>(features[0] | features[1] << 8); }
};

}  // namespace veneer::devices

namespace veneer::devices::ata {

enum Register : unsigned {
  DATA = 0,
  ERROR_FEATURES = 1,
  SECTOR_COUNT = 2,
  LBA_LOW = 3,
  LBA_MID = 4,
  LBA_HIGH = 5,
  DEVICE = 6,
  STATUS_COMMAND = 7,
};

// Status
inline constexpr std::uint8_t BSY = 0x80, DRDY = 0x40, DSC = 0x10, DRQ = 0x08, ERR = 0x01;
// Error
inline constexpr std::uint8_t UNC = 0x40, IDNF = 0x10, ABRT = 0x04;
// Device control
inline constexpr std::uint8_t NIEN = 0x02, SRST = 0x04, HOB = 0x80;
// Device
inline constexpr std::uint8_t LBA = 0x40;
// Interrupt reason of packet commands, in the sector count register
inline constexpr std::uint8_t COMMAND_PHASE = 0x01, IO_TO_HOST = 0x02;
// Sense keys (MMC-3, annex)
inline constexpr std::uint8_t SENSE_NOT_READY = 2, SENSE_MEDIUM_ERROR = 3, SENSE_ILLEGAL_REQUEST = 5,
                              SENSE_ABORTED = 11;

}  // namespace veneer::devices::ata
