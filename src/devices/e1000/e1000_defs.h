// Registers, bits and descriptors of the 82540EM ("PCI/PCI-X Family of Gigabit Ethernet Controllers Software
// Developer's Manual", chapters 3, 5 and 13).
#pragma once

#include <cstdint>

namespace veneer::devices::e1000 {

// Registers (13.2)
enum Register : std::uint32_t {
  CTRL = 0x0000,
  STATUS = 0x0008,
  EECD = 0x0010,
  EERD = 0x0014,
  CTRL_EXT = 0x0018,
  MDIC = 0x0020,
  FCAL = 0x0028,
  FCAH = 0x002c,
  FCT = 0x0030,
  VET = 0x0038,
  ICR = 0x00c0,
  ITR = 0x00c4,
  ICS = 0x00c8,
  IMS = 0x00d0,
  IMC = 0x00d8,
  RCTL = 0x0100,
  FCTTV = 0x0170,
  TXCW = 0x0178,
  RXCW = 0x0180,
  TCTL = 0x0400,
  TIPG = 0x0410,
  AIFS = 0x0458,
  LEDCTL = 0x0e00,
  PBA = 0x1000,
  FCRTL = 0x2160,
  FCRTH = 0x2168,
  RDBAL = 0x2800,
  RDBAH = 0x2804,
  RDLEN = 0x2808,
  RDH = 0x2810,
  RDT = 0x2818,
  RDTR = 0x2820,
  RXDCTL = 0x2828,
  RADV = 0x282c,
  RSRPD = 0x2c00,
  TDBAL = 0x3800,
  TDBAH = 0x3804,
  TDLEN = 0x3808,
  TDH = 0x3810,
  TDT = 0x3818,
  TIDV = 0x3820,
  TXDCTL = 0x3828,
  TADV = 0x382c,
  TSPMT = 0x3830,
  STATISTICS = 0x4000,  // to 0x40fc: read clears
  MPC = 0x4010,
  GPRC = 0x4074,
  GPTC = 0x4080,
  GORCL = 0x4088,
  GORCH = 0x408c,
  GOTCL = 0x4090,
  GOTCH = 0x4094,
  TPR = 0x40d0,
  TPT = 0x40d4,
  STATISTICS_END = 0x4100,
  RXCSUM = 0x5000,
  MTA = 0x5200,   // 128 words
  RAL0 = 0x5400,  // 16 pairs of RAL and RAH
  RA_END = 0x5480,
  VFTA = 0x5600,  // 128 words
  WUC = 0x5800,
  WUFC = 0x5808,
  MANC = 0x5820,
  // Of later members of the family; U-Boot's driver takes these semaphores on every one.
  SWSM = 0x5b50,
  SW_FW_SYNC = 0x5b5c,
  REGISTERS_END = 0x5b60,
};
inline constexpr std::uint32_t MTA_WORDS = 128, VFTA_WORDS = 128, RECEIVE_ADDRESSES = 16;

inline constexpr std::uint32_t CTRL_FD = 1u << 0, CTRL_ASDE = 1u << 5, CTRL_SLU = 1u << 6, CTRL_RST = 1u << 26,
                               CTRL_PHY_RST = 1u << 31;
inline constexpr std::uint32_t STATUS_FD = 1u << 0, STATUS_LU = 1u << 1, STATUS_SPEED_1000 = 2u << 6;
inline constexpr std::uint32_t EECD_SK = 1, EECD_CS = 2, EECD_DI = 4, EECD_DO = 8, EECD_REQ = 0x40, EECD_GNT = 0x80,
                               EECD_PRES = 0x100, EECD_WRITABLE = 0x77;
inline constexpr std::uint32_t EERD_START = 1, EERD_DONE = 0x10;
inline constexpr std::uint32_t MDIC_OP_WRITE = 1u << 26, MDIC_OP_READ = 2u << 26, MDIC_OP_MASK = 3u << 26,
                               MDIC_R = 1u << 28, MDIC_I = 1u << 29, MDIC_E = 1u << 30;
// Interrupt causes (13.4.17)
inline constexpr std::uint32_t CAUSE_TXDW = 1u << 0, CAUSE_TXQE = 1u << 1, CAUSE_LSC = 1u << 2, CAUSE_RXDMT0 = 1u << 4,
                               CAUSE_RXT0 = 1u << 7, CAUSE_MDAC = 1u << 9;
inline constexpr std::uint32_t RCTL_EN = 1u << 1, RCTL_UPE = 1u << 3, RCTL_MPE = 1u << 4, RCTL_LPE = 1u << 5,
                               RCTL_BAM = 1u << 15, RCTL_BSEX = 1u << 25, RCTL_SECRC = 1u << 26;
inline constexpr std::uint32_t TCTL_EN = 1u << 1;
inline constexpr std::uint32_t RXCSUM_IPOFL = 1u << 8, RXCSUM_TUOFL = 1u << 9;
inline constexpr std::uint32_t RAH_AV = 1u << 31;

inline constexpr std::uint64_t descriptor_bytes = 16;

// Receive descriptor (3.2.3)
inline constexpr std::uint8_t RX_DD = 1, RX_EOP = 2, RX_IXSM = 4, RX_TCPCS = 0x20, RX_IPCS = 0x40;
struct ReceiveDescriptor {
  std::uint64_t address;
  std::uint16_t length;
  std::uint16_t checksum;
  std::uint8_t status;
  std::uint8_t errors;
  std::uint16_t special;
};
static_assert(sizeof(ReceiveDescriptor) == descriptor_bytes);

// Transmit descriptors (3.3): legacy, context and data share the places of their command bits.
inline constexpr std::uint8_t TX_EOP = 1, TX_IC = 4, TX_TSE = 4, TX_RS = 8, TX_DEXT = 0x20, TX_VLE = 0x40;
inline constexpr std::uint8_t TUCMD_TCP = 1, TUCMD_IP = 2;
inline constexpr std::uint8_t POPTS_IXSM = 1, POPTS_TXSM = 2;
inline constexpr std::uint32_t TX_DD = 1;
struct TransmitDescriptor {
  std::uint64_t address;
  std::uint32_t lower;  // length, then DTYP or CSO, then the command in the highest byte
  std::uint32_t upper;  // status, then POPTS or CSS, then the VLAN tag
};
static_assert(sizeof(TransmitDescriptor) == descriptor_bytes);

/// Registers of the PHY, a Marvell 88E1000 (13.4.7 ff.)
inline constexpr unsigned PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID1 = 2, PHY_ID2 = 3, PHY_ADVERTISE = 4, PHY_PARTNER = 5,
                          PHY_1000T_CONTROL = 9, PHY_1000T_STATUS = 10, PHY_SPECIFIC_STATUS = 17;
inline constexpr unsigned phy_registers = 32, phy_address = 1;

}  // namespace veneer::devices::e1000
