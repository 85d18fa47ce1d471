// Floor plan to ACPI description, and the compiled DSDTs.
#include "vm/acpi_platform.h"

#include "base/bits.h"
#include "devices/iommu/amd_iommu_function.h"
#include "devices/legacy/hpet.h"
#include "vm/layout.h"

namespace veneer::vm {
namespace {
// Made by iasl from acpi/dsdt_*.asl.in: unsigned char arrays.
#include "dsdt_micro.hex"
#include "dsdt_pc.hex"
}  // namespace

devices::AcpiPlatform describe_platform(const MachineConfig& config) {
  const bool micro = config.machine == MachineKind::Micro;
  devices::AcpiPlatform platform;
  platform.cpus = config.cpus;
  platform.local_apic_base = layout::LAPIC_BASE;
  platform.io_apic_base = layout::IOAPIC_BASE;
  platform.io_apic_id = layout::IOAPIC_ID;
  platform.hardware_reduced = micro;
  platform.pm_port = layout::ACPI_PM_PORT;
  platform.reset_port = layout::RESET_PORT;
  platform.sci_irq = layout::SCI_IRQ;
  if (!micro) {
    platform.hpet_base = layout::HPET_BASE;
    platform.hpet_block_id = devices::Hpet::block_id;
  }
  if (config.iommu == IommuKind::Amd)
    platform.amd_iommu = {.requester = devices::pci::requester_id(layout::IOMMU_SLOT, 0),
                          .capability_offset = devices::AmdIommuFunction::capability_offset,
                          .base = layout::IOMMU_BASE,
                          .host_levels = devices::amd_iommu::HostLevels::get(devices::amd_iommu::FEATURES),
                          .io_apic_requester = layout::IOAPIC_REQUESTER,
                          .hpet_requester = layout::HPET_REQUESTER};
  platform.dsdt = micro ? std::span<const std::uint8_t>(dsdt_micro_aml_code) : dsdt_pc_aml_code;

  if (!micro)
    for (const layout::IsaRoute& route : layout::isa_routes)
      if (route.gsi != route.irq || route.trigger == layout::Trigger::Level)
        platform.overrides.push_back({route.irq, route.gsi, route.trigger == layout::Trigger::Level});

  for (unsigned slot = 0; slot < layout::PCI_SLOT_COUNT; ++slot)
    for (unsigned pin = 0; pin < layout::PCI_GSI_COUNT; ++pin)
      platform.pci_routes.push_back(
          {static_cast<std::uint8_t>(slot), static_cast<std::uint8_t>(pin), layout::pci_gsi(slot, pin)});

  platform.pci_config_port = layout::PCI_CONFIG_PORT;
  // Ports of old that functions of the PIIX3 decode (IDE, power management): without the window Linux finds that they
  // are not the bridge's, and its ata_piix gives up. No BAR gets there: firmware and Linux keep away from the low
  // ports.
  if (!micro) platform.pci_io.push_back({0, layout::PCI_CONFIG_PORT});
  platform.pci_io.push_back({layout::PCI_IO_WINDOW_BASE, layout::PCI_IO_WINDOW_SIZE});
  const std::uint64_t window32 =
      config.firmware.present() ? layout::firmware_window32_base(config.memory_bytes) : layout::PCI_WINDOW32_BASE;
  platform.pci_memory32 = {{window32, layout::IOAPIC_BASE - window32}};
  platform.has_display = config.firmware.present();
  platform.pci_memory64 = {{layout::pci_window64_base(config.memory_bytes), layout::PCI_WINDOW64_SIZE}};
  return platform;
}

}  // namespace veneer::vm
