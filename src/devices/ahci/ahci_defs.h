// Registers, bits and structures in memory of an AHCI host bus adapter (AHCI 1.3.1 chapters 3 and 4, SATA 3.1 10.3).
#pragma once

#include <cstdint>

namespace veneer::devices::ahci {

// Generic host control (3.1)
enum HostRegister : std::uint32_t { CAP = 0x00, GHC = 0x04, IS = 0x08, PI = 0x0c, VS = 0x10 };
inline constexpr std::uint32_t PORTS_BASE = 0x100, PORT_BYTES = 0x80;

inline constexpr std::uint32_t CAP_S64A = 1u << 31, CAP_SNCQ = 1u << 30, CAP_SCLO = 1u << 24, CAP_SAM = 1u << 18;
inline constexpr std::uint32_t CAP_ISS_3G = 2u << 20;
inline constexpr std::uint32_t GHC_HR = 1u << 0, GHC_IE = 1u << 1, GHC_AE = 1u << 31;
inline constexpr std::uint32_t VS_1_3 = 0x0001'0300;

// A port (3.3)
enum PortRegister : std::uint32_t {
  PxCLB = 0x00,
  PxCLBU = 0x04,
  PxFB = 0x08,
  PxFBU = 0x0c,
  PxIS = 0x10,
  PxIE = 0x14,
  PxCMD = 0x18,
  PxTFD = 0x20,
  PxSIG = 0x24,
  PxSSTS = 0x28,
  PxSCTL = 0x2c,
  PxSERR = 0x30,
  PxSACT = 0x34,
  PxCI = 0x38,
};

// PxIS and PxIE
inline constexpr std::uint32_t IS_DHRS = 1u << 0, IS_PSS = 1u << 1, IS_SDBS = 1u << 3, IS_PCS = 1u << 6;
inline constexpr std::uint32_t IS_PRCS = 1u << 22, IS_OFS = 1u << 24, IS_HBDS = 1u << 28, IS_HBFS = 1u << 29;
inline constexpr std::uint32_t IS_TFES = 1u << 30;
inline constexpr std::uint32_t IE_BITS = 0xfdc0'00ff;

// PxCMD
inline constexpr std::uint32_t CMD_ST = 1u << 0, CMD_SUD = 1u << 1, CMD_POD = 1u << 2, CMD_CLO = 1u << 3;
inline constexpr std::uint32_t CMD_FRE = 1u << 4, CMD_FR = 1u << 14, CMD_CR = 1u << 15, CMD_ATAPI = 1u << 24;
inline constexpr std::uint32_t CMD_DLAE = 1u << 25;
inline constexpr unsigned CMD_CCS_SHIFT = 8;

// PxSSTS, PxSCTL: DET, SPD, IPM
inline constexpr std::uint32_t SSTS_CONNECTED = 0x123;  // a device, its link up at 3 Gbit/s, active
inline constexpr std::uint32_t SCTL_DET = 0xf, SCTL_BITS = 0xfff;
inline constexpr std::uint32_t DET_NONE = 0, DET_RESET = 1, DET_OFFLINE = 4;
// PxSERR
inline constexpr std::uint32_t SERR_N = 1u << 16, SERR_X = 1u << 26;

inline constexpr std::uint32_t SIG_NONE = 0xffff'ffff;

/// Entry of the command list (4.2.2).
struct CommandHeader {
  std::uint16_t flags;
  std::uint16_t prdtl;
  std::uint32_t prdbc;
  std::uint64_t table;
  std::uint32_t reserved[4];
};
static_assert(sizeof(CommandHeader) == 32);
inline constexpr std::uint16_t HEADER_C = 1u << 10;  // clear BSY when the FIS has arrived
inline constexpr std::uint64_t PRDBC_OFFSET = 4;

/// In the command table (4.2.3).
inline constexpr std::uint64_t TABLE_PACKET = 0x40, TABLE_PRDT = 0x80;
struct PhysicalRegion {
  std::uint64_t address;
  std::uint32_t reserved;
  std::uint32_t count;  // bytes - 1 in bits 21 to 0
};
static_assert(sizeof(PhysicalRegion) == 16);
inline constexpr std::uint32_t PRD_BYTES = 0x3f'ffff;

/// In the received FIS area (4.2.1).
inline constexpr std::uint64_t RX_PIO_SETUP = 0x20, RX_D2H_REGISTER = 0x40, RX_SET_DEVICE_BITS = 0x58;

// FISes
inline constexpr std::uint8_t FIS_H2D = 0x27, FIS_D2H = 0x34, FIS_SET_DEVICE_BITS = 0xa1, FIS_PIO_SETUP = 0x5f;
inline constexpr std::uint8_t FIS_COMMAND = 0x80, FIS_INTERRUPT = 0x40, FIS_TO_HOST = 0x20;

}  // namespace veneer::devices::ahci
