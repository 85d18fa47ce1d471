// Offsets and bits of PCI configuration space (PCI Local Bus 3.0, chapter 6.1 and appendix H).
#pragma once

#include <cstdint>

namespace veneer::devices::pci {

enum ConfigOffset : unsigned {
  VENDOR_ID = 0x00,
  DEVICE_ID = 0x02,
  COMMAND = 0x04,
  STATUS = 0x06,
  REVISION_ID = 0x08,
  CLASS_CODE = 0x09,  // three bytes
  CACHE_LINE_SIZE = 0x0c,
  LATENCY_TIMER = 0x0d,
  HEADER_TYPE = 0x0e,
  BAR0 = 0x10,  // to BAR5 at 0x24
  SUBSYSTEM_VENDOR_ID = 0x2c,
  SUBSYSTEM_ID = 0x2e,
  EXPANSION_ROM = 0x30,
  CAPABILITIES = 0x34,
  INTERRUPT_LINE = 0x3c,
  INTERRUPT_PIN = 0x3d,
  FIRST_CAPABILITY = 0x40,
};
/// Bus 0, device, function, as transactions carry them (PCI Express 4.0 2.2.6.2).
constexpr std::uint16_t requester_id(unsigned slot, unsigned function) {
  return static_cast<std::uint16_t>(slot << 3 | function);
}

inline constexpr unsigned config_bytes = 256;
inline constexpr unsigned bar_count = 6;
inline constexpr unsigned rom_index = bar_count;  // the expansion ROM's, behind the BARs

inline constexpr std::uint16_t COMMAND_IO = 1u << 0;
inline constexpr std::uint16_t COMMAND_MEMORY = 1u << 1;
inline constexpr std::uint16_t COMMAND_MASTER = 1u << 2;
inline constexpr std::uint16_t COMMAND_PARITY = 1u << 6;
inline constexpr std::uint16_t COMMAND_SERR = 1u << 8;
inline constexpr std::uint16_t COMMAND_INTX_DISABLE = 1u << 10;

inline constexpr std::uint16_t STATUS_INTERRUPT = 1u << 3;
inline constexpr std::uint16_t STATUS_CAPABILITIES = 1u << 4;

inline constexpr std::uint32_t BAR_IO = 1u << 0;
inline constexpr std::uint32_t BAR_MEMORY_64 = 2u << 1;
inline constexpr std::uint32_t BAR_PREFETCHABLE = 1u << 3;
inline constexpr std::uint32_t ROM_ENABLE = 1u << 0;

inline constexpr std::uint8_t CAP_MSI = 0x05;
inline constexpr std::uint8_t CAP_VENDOR = 0x09;
inline constexpr std::uint8_t CAP_MSIX = 0x11;

}  // namespace veneer::devices::pci
