// Registers, tables, commands and events of AMD's IOMMU, as its specification has them (48882, revision 3.0x).
#pragma once

#include <cstdint>

#include "base/bits.h"

namespace veneer::devices::amd_iommu {

inline constexpr std::uint64_t registers_bytes = 0x4000;

/// MMIO registers (3.4), each of 64 bits.
enum Register : std::uint64_t {
  DEVICE_TABLE_BASE = 0x0000,
  COMMAND_BUFFER_BASE = 0x0008,
  EVENT_LOG_BASE = 0x0010,
  CONTROL = 0x0018,
  EXCLUSION_BASE = 0x0020,
  EXCLUSION_LIMIT = 0x0028,
  EXTENDED_FEATURE = 0x0030,
  COMMAND_HEAD = 0x2000,
  COMMAND_TAIL = 0x2008,
  EVENT_HEAD = 0x2010,
  EVENT_TAIL = 0x2018,
  STATUS = 0x2020,
};

using TableAddress = Bits<51, 12>;

// DEVICE_TABLE_BASE: in units of 4 KiB, less one.
using DeviceTableSize = Bits<8, 0>;
// COMMAND_BUFFER_BASE and EVENT_LOG_BASE: 2^n entries, n from 8 to 15.
using RingLength = Bits<59, 56>;
inline constexpr unsigned ring_length_min = 8;
inline constexpr std::uint64_t ring_entry_bytes = 16;
using RingPointer = Bits<18, 4>;

// CONTROL
inline constexpr std::uint64_t CONTROL_IOMMU_EN = bit(0);
inline constexpr std::uint64_t CONTROL_EVENT_LOG_EN = bit(2);
inline constexpr std::uint64_t CONTROL_EVENT_INT_EN = bit(3);
inline constexpr std::uint64_t CONTROL_COM_WAIT_INT_EN = bit(4);
inline constexpr std::uint64_t CONTROL_CMD_BUF_EN = bit(12);
/// With HtTunEn, InvTimeOut, PassPW, ResPassPW, Coherent and Isoc, which change nothing here.
inline constexpr std::uint64_t CONTROL_WRITABLE = 0x1fff;

// EXCLUSION_BASE
inline constexpr std::uint64_t EXCLUSION_EN = bit(0);
inline constexpr std::uint64_t EXCLUSION_ALLOW_ALL = bit(1);

// EXTENDED_FEATURE
inline constexpr std::uint64_t FEATURE_IA_SUP = bit(6);  // INVALIDATE_IOMMU_ALL
using HostLevels = Bits<11, 10>;                         // 2: six levels
inline constexpr std::uint64_t FEATURES = FEATURE_IA_SUP | std::uint64_t{2} << 10;

// STATUS
inline constexpr std::uint64_t STATUS_EVENT_OVERFLOW = bit(0);
inline constexpr std::uint64_t STATUS_EVENT_LOG_INT = bit(1);
inline constexpr std::uint64_t STATUS_COM_WAIT_INT = bit(2);
inline constexpr std::uint64_t STATUS_EVENT_LOG_RUN = bit(3);
inline constexpr std::uint64_t STATUS_CMD_BUF_RUN = bit(4);
inline constexpr std::uint64_t STATUS_WRITE_1_CLEARS =
    STATUS_EVENT_OVERFLOW | STATUS_EVENT_LOG_INT | STATUS_COM_WAIT_INT;

// Device table entry (2.2.2), by quadword.
inline constexpr std::uint64_t device_entry_bytes = 32;
inline constexpr std::uint64_t DTE0_V = bit(0);
inline constexpr std::uint64_t DTE0_TV = bit(1);
using Dte0Mode = Bits<11, 9>;
inline constexpr std::uint64_t DTE0_GV = bit(55);
inline constexpr std::uint64_t DTE0_IR = bit(61);
inline constexpr std::uint64_t DTE0_IW = bit(62);
using Dte1Domain = Bits<15, 0>;
inline constexpr std::uint64_t DTE1_SA = bit(34);  // suppress all I/O page fault events
inline constexpr std::uint64_t DTE1_EX = bit(39);  // the exclusion range holds for this device
inline constexpr std::uint64_t DTE2_IV = bit(0);
using Dte2TableLength = Bits<4, 1>;               // 2^n entries
inline constexpr std::uint64_t DTE2_IG = bit(5);  // no events for unmapped interrupts
using Dte2Table = Bits<51, 6>;
inline constexpr std::uint64_t DTE2_INIT_PASS = bit(56);
inline constexpr std::uint64_t DTE2_EINT_PASS = bit(57);
inline constexpr std::uint64_t DTE2_NMI_PASS = bit(58);
using Dte2IntControl = Bits<61, 60>;
inline constexpr unsigned table_length_max = 11;
enum IntControl : std::uint64_t { INT_ABORT = 0, INT_FORWARD = 1, INT_REMAP = 2 };

// Page table and page directory entries (2.2.3).
inline constexpr std::uint64_t PTE_PR = bit(0);
using PteNextLevel = Bits<11, 9>;
inline constexpr std::uint64_t PTE_IR = bit(61);
inline constexpr std::uint64_t PTE_IW = bit(62);
inline constexpr unsigned levels_max = 6;
inline constexpr unsigned next_level_sized_page = 7;

// Interrupt remapping table entry of 32 bits (2.2.5).
inline constexpr std::uint64_t interrupt_entry_bytes = 4;
inline constexpr std::uint32_t IRTE_REMAP_EN = 1u << 0;
inline constexpr std::uint32_t IRTE_SUP_IOPF = 1u << 1;
using IrteType = Bits<4, 2>;
inline constexpr std::uint32_t IRTE_LOGICAL = 1u << 6;
using IrteDestination = Bits<15, 8>;
using IrteVector = Bits<23, 16>;

// Commands (2.4), events (2.5): the code is bits 63 to 60 of the first quadword.
using Code = Bits<63, 60>;
enum class Command : std::uint8_t {
  CompletionWait = 1,
  InvalidateDevtabEntry = 2,
  InvalidateIommuPages = 3,
  InvalidateIotlbPages = 4,
  InvalidateInterruptTable = 5,
  PrefetchIommuPages = 6,
  CompletePprRequest = 7,
  InvalidateIommuAll = 8,
};
inline constexpr std::uint64_t WAIT_STORE = bit(0);
inline constexpr std::uint64_t WAIT_INTERRUPT = bit(1);
using WaitAddress = Bits<51, 3>;

enum class Event : std::uint8_t {
  IllegalDevTableEntry = 1,
  IoPageFault = 2,
  DevTabHardwareError = 3,
  PageTabHardwareError = 4,
  IllegalCommandError = 5,
  CommandHardwareError = 6,
};
// Flags of the first quadword of an event (2.5.2 to 2.5.4)
inline constexpr std::uint64_t EVENT_I = bit(51);   // an interrupt request
inline constexpr std::uint64_t EVENT_PR = bit(52);  // it was present (a mapped page, an enabled interrupt)
inline constexpr std::uint64_t EVENT_RW = bit(53);  // a write
inline constexpr std::uint64_t EVENT_PE = bit(54);  // without the permission
inline constexpr std::uint64_t EVENT_RZ = bit(55);  // because of reserved bits or an impossible level

}  // namespace veneer::devices::amd_iommu
