// An AHCI host bus adapter with six ports, as in the ICH9.
//
// State: PCI configuration space, generic host control; the ports save themselves.
// Missing: command completion coalescing, enclosure management, several MSI messages, the handoff between BIOS and
// operating system (there is nothing to hand over). Differs from the spec: PI names the ports that have a drive.
// Spec: Serial ATA AHCI 1.3.1; ICH9 data sheet 316972, chapter 15.
#pragma once

#include <deque>
#include <string>

#include "devices/ahci/ahci_port.h"
#include "devices/pci/pci_function.h"
#include "machine/register_window.h"

namespace veneer::devices {

/// BAR 5 has the registers.
class AhciController final : public PciFunction, private AhciHost {
 public:
  static constexpr unsigned port_count = 6;

  AhciController(std::string name, const machine::DmaSpace& memory);

  /// While the machine is put together.
  void attach(unsigned port, AtaDriveKind kind, disk::Backend& backend);

  void write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  // AhciHost
  bool may_use_memory() const override { return bus_master(); }
  void port_changed() override;

  std::uint64_t read_registers(std::uint64_t offset, unsigned size_bytes);
  void write_registers(std::uint64_t offset, unsigned size_bytes, std::uint64_t value);
  std::uint32_t read_dword(std::uint32_t offset) const;
  void write_dword(std::uint32_t offset, std::uint32_t value);
  void reset_host();
  void run_ports();

  machine::RegisterWindow<AhciController> registers_{*this, &AhciController::read_registers,
                                                     &AhciController::write_registers};
  std::deque<AhciPort> ports_;
  std::uint32_t is_ = 0;
  bool interrupts_enabled_ = false;
};

}  // namespace veneer::devices
