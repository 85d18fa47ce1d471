// The ACPI tables of a machine, made from a description of its hardware.
//
// Spec: ACPI 6.4, chapter 5.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"

namespace veneer::devices {

/// What ACPI tells of the hardware. The DSDT names the fixed devices; what depends on the configuration (PCI windows
/// and interrupt routes) goes into an SSDT that completes \_SB.PCI0.
struct AcpiPlatform {
  unsigned cpus = 1;  ///< local APIC ids 0 to cpus - 1
  std::uint64_t local_apic_base = 0;
  std::uint64_t io_apic_base = 0;
  std::uint8_t io_apic_id = 0;

  /// True: no PIT, PIC, RTC, 8042 or PM1 block; sleep and reset registers instead (ACPI 6.4 4.1).
  bool hardware_reduced = false;
  std::uint16_t pm_port = 0;     ///< AcpiPm's or AcpiSleep's first port
  std::uint16_t reset_port = 0;  ///< not hardware_reduced: reset control register (value 6)
  std::uint8_t sci_irq = 9;
  std::uint64_t hpet_base = 0;      ///< 0: there is none
  std::uint32_t hpet_block_id = 0;  ///< the low half of its capabilities

  /// ISA interrupts that do not enter the IOAPIC at the pin of their number, or are not edge-triggered.
  struct InterruptOverride {
    std::uint8_t irq, gsi;
    bool level_triggered;
  };
  std::vector<InterruptOverride> overrides;

  struct PciRoute {
    std::uint8_t slot, pin;  ///< pin 0 is INTA
    std::uint32_t gsi;
  };
  std::vector<PciRoute> pci_routes;

  struct Window {
    std::uint64_t base, bytes;
  };
  std::vector<Window> pci_io;
  std::vector<Window> pci_memory32;
  std::vector<Window> pci_memory64;
  std::uint16_t pci_config_port = 0xcf8;

  /// An AMD IOMMU, and whose requests reach it (PCI requester IDs).
  struct AmdIommu {
    std::uint16_t requester = 0;  ///< its own; all below it are behind it
    std::uint16_t capability_offset = 0;
    std::uint64_t base = 0;
    std::uint8_t host_levels = 0;  ///< as its feature register has it (HATS)
    std::uint16_t io_apic_requester = 0, hpet_requester = 0;
  };
  std::optional<AmdIommu> amd_iommu;

  bool has_display = false;  ///< VGA registers and memory answer

  std::span<const std::uint8_t> dsdt;  ///< compiled by iasl, with its header
};

/// All tables as one piece of memory for `base` (a multiple of 64, below 4 GiB); the RSDP comes first.
std::vector<std::byte> build_acpi_tables(const AcpiPlatform& platform, GuestPhys base);

/// The tables as files of fw_cfg: firmware loads them where it likes and follows the script.
struct AcpiFiles {
  std::vector<std::byte> tables, rsdp, loader;
};
inline constexpr const char* acpi_tables_file = "etc/acpi/tables";
inline constexpr const char* acpi_rsdp_file = "etc/acpi/rsdp";
inline constexpr const char* acpi_loader_file = "etc/table-loader";
AcpiFiles build_acpi_files(const AcpiPlatform& platform);

}  // namespace veneer::devices
