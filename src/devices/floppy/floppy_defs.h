// Registers, commands and status bits of the 82077AA.
#pragma once

#include <cstdint>

namespace veneer::devices::floppy {

enum Port : unsigned { STATUS_A, STATUS_B, DIGITAL_OUTPUT, TAPE, MAIN_STATUS, FIFO };

// Main status
inline constexpr std::uint8_t RQM = 0x80, DIO = 0x40, CMD_BUSY = 0x10;
// Digital output
inline constexpr std::uint8_t NOT_RESET = 0x04, DMA_GATE = 0x08;
// Digital input
inline constexpr std::uint8_t DISK_CHANGE = 0x80;
// Configuration
inline constexpr std::uint8_t IMPLIED_SEEK = 0x40;
// Status 0
inline constexpr std::uint8_t ABNORMAL = 0x40, INVALID = 0x80, READY_CHANGED = 0xc0, SEEK_DONE = 0x20,
                              EQUIPMENT_CHECK = 0x10;
// Status 1
inline constexpr std::uint8_t MISSING_ADDRESS_MARK = 0x01, NOT_WRITABLE = 0x02, NO_DATA = 0x04, OVERRUN = 0x10,
                              DATA_ERROR = 0x20, END_OF_CYLINDER = 0x80;
// Status 2
inline constexpr std::uint8_t WRONG_CYLINDER = 0x10, DATA_ERROR_IN_DATA = 0x20, CONTROL_MARK = 0x40;
// Status 3
inline constexpr std::uint8_t WRITE_PROTECTED = 0x40, ALWAYS_READY = 0x28, TRACK_0 = 0x10;

enum Command : std::uint8_t {
  READ_TRACK = 0x02,
  SPECIFY = 0x03,
  SENSE_DRIVE = 0x04,
  WRITE_DATA = 0x05,
  READ_DATA = 0x06,
  RECALIBRATE = 0x07,
  SENSE_INTERRUPT = 0x08,
  WRITE_DELETED = 0x09,
  READ_ID = 0x0a,
  READ_DELETED = 0x0c,
  FORMAT_TRACK = 0x0d,
  DUMP_REGISTERS = 0x0e,
  SEEK = 0x0f,
  VERSION = 0x10,
  PERPENDICULAR = 0x12,
  CONFIGURE = 0x13,
  LOCK = 0x14,
  VERIFY = 0x16,
};
// Beside the command
inline constexpr std::uint8_t MULTI_TRACK = 0x80;
inline constexpr std::uint8_t size_code_512 = 2;

}  // namespace veneer::devices::floppy
