// The board's floor plan: memory map, I/O ports, interrupt routes and PCI slots, one table each.
//
// The machine is assembled from these tables and the ACPI tables are generated from them, so that what the
// guest is told and what is there cannot drift apart.
#pragma once

#include <array>
#include <cstdint>

#include "base/units.h"

namespace veneer::vm::layout {

// ---- Memory map -------------------------------------------------------------------------------------------------
inline constexpr std::uint64_t CONVENTIONAL_BASE = 0x0;          // RAM
inline constexpr std::uint64_t EBDA_BASE = 0x9'fc00;             // the last KiB of conventional RAM is reserved
inline constexpr std::uint64_t VGA_WINDOW_BASE = 0xa'0000;       // no RAM: the legacy display window
inline constexpr std::uint64_t SHADOW_BASE = 0xc'0000;           // RAM: option ROM and BIOS area
inline constexpr std::uint64_t ACPI_TABLES_BASE = 0xe'0000;      //   ACPI tables; the RSDP is found by scanning, too
inline constexpr std::uint64_t SMBIOS_BASE = 0xf'0000;           //   SMBIOS tables of a kernel that is booted directly
inline constexpr std::uint64_t EXTENDED_BASE = 0x10'0000;        // RAM up to the PCI hole
inline constexpr std::uint64_t PCI_WINDOW32_BASE = 0xc000'0000;  // BARs below 4 GiB; RAM ends here at the latest
inline constexpr std::uint64_t IOAPIC_BASE = 0xfec0'0000;
inline constexpr std::uint64_t IOAPIC_SIZE = 0x1000;
inline constexpr std::uint64_t HPET_BASE = 0xfed0'0000;  // pc
inline constexpr std::uint64_t HPET_SIZE = 0x400;
inline constexpr std::uint64_t IOMMU_BASE = 0xfed8'0000;  // 16 KiB, with an IOMMU
inline constexpr std::uint64_t LAPIC_BASE = 0xfee0'0000;
inline constexpr std::uint64_t LAPIC_SIZE = 0x1000;
inline constexpr std::uint64_t TEST_MEMORY_BASE = 0xff00'0000;  // 64 KiB, pc, only with debug_exit
inline constexpr std::uint64_t ABOVE_4G_BASE = 0x1'0000'0000;   // the rest of the RAM, then 64-bit BARs

inline constexpr std::uint64_t PCI_WINDOW32_SIZE = IOAPIC_BASE - PCI_WINDOW32_BASE;
inline constexpr std::uint64_t ACPI_TABLES_SIZE = EXTENDED_BASE - ACPI_TABLES_BASE;
inline constexpr std::uint64_t MIN_MEMORY = 4 * MiB;
/// Size of the window for 64-bit BARs above the RAM.
inline constexpr std::uint64_t PCI_WINDOW64_SIZE = 32 * GiB;

/// RAM below the PCI hole and above 4 GiB for a given total.
constexpr std::uint64_t ram_below_4g(std::uint64_t total) {
  return total < PCI_WINDOW32_BASE ? total : PCI_WINDOW32_BASE;
}
constexpr std::uint64_t ram_above_4g(std::uint64_t total) { return total - ram_below_4g(total); }
/// Where firmware puts BARs below 4 GiB begins at 2 GiB when there is no RAM (SeaBIOS and OVMF for the 440FX).
constexpr std::uint64_t firmware_window32_base(std::uint64_t total) {
  return ram_below_4g(total) <= 2 * GiB ? 2 * GiB : PCI_WINDOW32_BASE;
}
constexpr std::uint64_t pci_window64_base(std::uint64_t total) {
  return (ABOVE_4G_BASE + ram_above_4g(total) + GiB - 1) / GiB * GiB;
}

// ---- I/O ports --------------------------------------------------------------------------------------------------
inline constexpr std::uint16_t DMA1_PORT = 0x00;            // 16   pc
inline constexpr std::uint16_t PIC_MASTER_PORT = 0x20;      // 2    pc
inline constexpr std::uint16_t PIT_PORT = 0x40;             // 4    pc
inline constexpr std::uint16_t KBC_DATA_PORT = 0x60;        // 1    pc
inline constexpr std::uint16_t PORT_61 = 0x61;              // 1    pc
inline constexpr std::uint16_t KBC_COMMAND_PORT = 0x64;     // 1    pc
inline constexpr std::uint16_t RTC_PORT = 0x70;             // 2    pc
inline constexpr std::uint16_t POST_PORT = 0x80;            // 1
inline constexpr std::uint16_t DMA_PAGE_PORT = 0x81;        // 15   pc
inline constexpr std::uint16_t PORT_92 = 0x92;              // 1    pc
inline constexpr std::uint16_t APM_PORT = 0xb2;             // 2    pc
inline constexpr std::uint16_t PIC_SLAVE_PORT = 0xa0;       // 2    pc
inline constexpr std::uint16_t DMA2_PORT = 0xc0;            // 32   pc
inline constexpr std::uint16_t TEST_PORT = 0xe0;            // 12   pc, only with debug_exit
inline constexpr std::uint16_t COPROCESSOR_PORT = 0xf0;     // 2    pc
inline constexpr std::uint16_t DEBUG_EXIT_PORT = 0xf4;      // 1    only with debug_exit
inline constexpr std::uint16_t DEBUG_CONSOLE_PORT = 0x402;  // 1    pc with firmware
inline constexpr std::uint16_t FW_CFG_PORT = 0x510;         // 12   pc
inline constexpr std::uint16_t IDE1_PORT = 0x1f0;           // 8    pc
inline constexpr std::uint16_t IDE2_PORT = 0x170;           // 8    pc
inline constexpr std::uint16_t VBE_PORT = 0x1ce;            // 3    pc with firmware
inline constexpr std::uint16_t VGA_PORT = 0x3b0;            // 48   pc with firmware
inline constexpr std::uint16_t FLOPPY_PORT = 0x3f0;         // 6    pc with floppy drives
inline constexpr std::uint16_t FLOPPY_CHANGE_PORT = 0x3f7;  // 1    pc with floppy drives
inline constexpr std::uint16_t IDE1_CONTROL_PORT = 0x3f6;   // 1    pc
inline constexpr std::uint16_t IDE2_CONTROL_PORT = 0x376;   // 1    pc
inline constexpr std::uint16_t COM1_PORT = 0x3f8;           // 8
inline constexpr std::uint16_t ELCR_PORT = 0x4d0;           // 2    pc
inline constexpr std::uint16_t ACPI_PM_PORT = 0x600;        // 16   pc: PIIX4 power management; micro: sleep registers
inline constexpr std::uint16_t ACPI_PM_PORTS = 16;
inline constexpr std::uint16_t PCI_CONFIG_PORT = 0xcf8;      // 8    0xcf9 as a byte is the reset port
inline constexpr std::uint16_t RESET_PORT = 0xcf9;           // 1    decoded by the PCI configuration ports
inline constexpr std::uint16_t TEST_LINES_PORT = 0x2000;     // 16   pc, only with debug_exit
inline constexpr std::uint16_t PCI_IO_WINDOW_BASE = 0xc000;  // I/O BARs: 0xc000 to 0xffff
inline constexpr std::uint32_t PCI_IO_WINDOW_SIZE = 0x4000;

// ---- Interrupt routes -------------------------------------------------------------------------------------------
enum class Trigger : std::uint8_t { Edge, Level };

/// An ISA interrupt: its number at the 8259 pair and its pin (= GSI) at the IOAPIC. All are active high.
struct IsaRoute {
  std::uint8_t irq;
  std::uint8_t gsi;
  Trigger trigger;
};
inline constexpr std::uint8_t TIMER_IRQ = 0;
inline constexpr std::uint8_t KEYBOARD_IRQ = 1;
inline constexpr std::uint8_t COM1_IRQ = 4;
inline constexpr std::uint8_t FLOPPY_IRQ = 6;
inline constexpr std::uint8_t RTC_IRQ = 8;
inline constexpr std::uint8_t SCI_IRQ = 9;
inline constexpr std::uint8_t MOUSE_IRQ = 12;
inline constexpr std::uint8_t IDE1_IRQ = 14;
inline constexpr std::uint8_t IDE2_IRQ = 15;
inline constexpr std::uint8_t COPROCESSOR_IRQ = 13;

/// IRQ 0 enters the IOAPIC at pin 2, where PCs have always had it; the SCI is the one level-triggered ISA line.
inline constexpr std::array<IsaRoute, 15> isa_routes = {{
    {0, 2, Trigger::Edge},
    {1, 1, Trigger::Edge},
    {3, 3, Trigger::Edge},
    {4, 4, Trigger::Edge},
    {5, 5, Trigger::Edge},
    {6, 6, Trigger::Edge},
    {7, 7, Trigger::Edge},
    {8, 8, Trigger::Edge},
    {9, 9, Trigger::Level},
    {10, 10, Trigger::Edge},
    {11, 11, Trigger::Edge},
    {12, 12, Trigger::Edge},
    {13, 13, Trigger::Edge},
    {14, 14, Trigger::Edge},
    {15, 15, Trigger::Edge},
}};

/// PCI INTA..INTD of all slots share four IOAPIC pins, level-triggered and active high on this board.
inline constexpr unsigned PCI_FIRST_GSI = 16;
inline constexpr unsigned PCI_GSI_COUNT = 4;
/// The PIIX3's PIRQ (0: PIRQA#) that a slot's INTA uses, as firmware for the 440FX expects.
constexpr unsigned pirq_of_line(unsigned line) { return (line + 3) % 4; }
/// ISA interrupts that PIRQs may be routed to: no device of ours has them.
inline constexpr std::array<std::uint8_t, 5> PIRQ_TARGETS = {3, 5, 7, 10, 11};
/// `pin` counts from 0 (INTA). Neighbouring slots start at different pins (PCI 3.0 2.2.6).
constexpr unsigned pci_gsi(unsigned slot, unsigned pin) { return PCI_FIRST_GSI + (slot + pin) % PCI_GSI_COUNT; }

/// IOAPIC pins that nothing else uses: the HPET's timers may be routed there.
inline constexpr unsigned HPET_FIRST_GSI = PCI_FIRST_GSI + PCI_GSI_COUNT;
inline constexpr unsigned HPET_GSI_COUNT = 4;

inline constexpr std::uint8_t IOAPIC_ID = 0;  // its id register; xAPIC systems don't arbitrate by it

/// Requester IDs of what sends interrupts and is no PCI function. Linux looks for the I/O APIC at 00:14.0, where AMD's
/// southbridges have it.
inline constexpr std::uint16_t IOAPIC_REQUESTER = 0x14 << 3;
inline constexpr std::uint16_t HPET_REQUESTER = IOAPIC_REQUESTER | 1;

// ---- PCI slots of bus 0 -----------------------------------------------------------------------------------------
inline constexpr unsigned HOST_BRIDGE_SLOT = 0;
inline constexpr unsigned PIIX_SLOT = 1;     // function 0 the ISA bridge, 1 IDE, 3 power management
inline constexpr unsigned DISPLAY_SLOT = 2;  // pc with firmware
inline constexpr unsigned FIRST_FREE_SLOT = 3;
inline constexpr unsigned VIRTIO_RNG_SLOT = 3;
inline constexpr unsigned FIRST_NET_SLOT = 4;  // one card for each network, in the order of the command line
inline constexpr unsigned NET_SLOT_COUNT = 4;
inline constexpr unsigned FIRST_DISK_SLOT = 8;  // one controller for each disk, in the order of the command line
inline constexpr unsigned DISK_SLOT_COUNT = 16;
inline constexpr unsigned AHCI_SLOT = 24;  // one controller for all disks that hang on it
inline constexpr unsigned VIRTIO_BALLOON_SLOT = 25;
inline constexpr unsigned VIRTIO_CONSOLE_SLOT = 26;
inline constexpr unsigned SPARE_DISK_SLOT = 27;  // disk_slot()
inline constexpr unsigned IOMMU_SLOT = 31;  // with an IOMMU; the last, so that one range of requester IDs is behind it
inline constexpr unsigned PCI_SLOT_COUNT = 32;

/// The slot of a disk's controller. The one with the I/O APIC's requester ID is left out where that means something.
constexpr unsigned disk_slot(unsigned index, bool iommu) {
  const unsigned slot = FIRST_DISK_SLOT + index;
  return iommu && slot == IOAPIC_REQUESTER >> 3 ? SPARE_DISK_SLOT : slot;
}

}  // namespace veneer::vm::layout
