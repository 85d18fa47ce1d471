// Mainboard: every device of a machine, its buses and its wires; what a vCPU is plugged into.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "cpu/engine.h"
#include "devices/firmware/flash.h"
#include "devices/irq/apic_bus.h"
#include "devices/irq/ioapic.h"
#include "devices/irq/lapic.h"
#include "devices/legacy/uart16550.h"
#include "machine/bus.h"
#include "machine/guest_memory.h"
#include "machine/power.h"
#include "vm/config.h"
#include "vm/disk_bay.h"
#include "vm/net_bay.h"
#include "vm/tsc.h"

namespace veneer::devices {
class AmdIommu;
class AmdIommuFunction;
class Ps2Mouse;
class Typist;
class Vga;
class VirtioBalloon;
class VirtioConsole;
}  // namespace veneer::devices

namespace veneer::vm {

/// What a board needs from the machine around it. All of it outlives the board.
struct BoardSupply {
  machine::BoardLock& lock;
  TimerService& timers;
  machine::PowerControl& power;
  machine::GuestMemory& memory;
  const GuestTsc& tsc;
  std::uint64_t tsc_hz;
  unsigned physical_bits;
  const cpu::CpuidPolicy& cpuid;
  EventLoop& events;                    ///< for the disks
  std::function<void()> pause_machine;  ///< a disk waits for help (--disk ...,werror=stop)
  machine::MemorySlot* flash;           ///< what a flash chip shows, or null: there is none
  devices::FlashStore* flash_store;     ///< what keeps it; null: nobody
};

class Mainboard final : public cpu::Board {
 public:
  /// Plugs everything together (mainboard.cc:assemble reads like the back panel). Fails when the tables in layout.h
  /// contradict each other.
  static Result<std::unique_ptr<Mainboard>> create(const MachineConfig& config, const BoardSupply& supply);
  ~Mainboard() override;

  // cpu::Board. Any vCPU thread; the local APIC's page belongs to the vCPU that asks.
  std::uint32_t read_port(std::uint16_t port, unsigned size_bytes) override;
  void write_port(std::uint16_t port, unsigned size_bytes, std::uint32_t value) override;
  std::uint64_t read_mmio(GuestPhys address, unsigned size_bytes) override;
  void write_mmio(GuestPhys address, unsigned size_bytes, std::uint64_t value) override;
  cpu::InterruptPort& interrupts(unsigned vcpu) override { return *local_apics_[vcpu]; }

  void unhalt(std::uint32_t apic_id) override;
  int send_ipi(unsigned from, std::uint32_t apic_id, std::uint32_t command) override;
  void coprocessor_error() override;

  devices::LocalApic& local_apic(unsigned vcpu) { return *local_apics_[vcpu]; }
  devices::Uart16550& serial();
  /// Null on a machine that has none: only firmware brings a screen, only a pc has keyboard and mouse.
  devices::Vga* screen();
  devices::Typist* typist();
  devices::Ps2Mouse* mouse();
  /// Null when the config leaves it out.
  devices::VirtioBalloon* balloon();
  devices::VirtioConsole* console();
  DiskBay& disks() { return disks_; }
  NetBay& network() { return network_; }
  /// Presses the ACPI power button. Board lock held.
  void press_power_button();
  /// The guest has set up what tells it of the button. Board lock held.
  bool power_button_heard() const;

  /// Writes ACPI and SMBIOS tables into guest memory: the RSDP is at layout::ACPI_TABLES_BASE, SMBIOS' entry point at
  /// layout::SMBIOS_BASE. vCPUs parked.
  Result<void> write_tables();

  /// Power-on state of every device, for a directly booted kernel as firmware would leave it. vCPUs parked, board
  /// lock held.
  void reset();
  /// The guest-visible state of every device. vCPUs parked, board lock held.
  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);

 private:
  struct Sockets;   // what every machine has
  struct LegacyIo;  // what only a pc has
  struct FirmwareIo;

  Mainboard(const MachineConfig& config, const BoardSupply& supply);
  Result<void> assemble();
  Result<void> plug_legacy();
  Result<void> plug_pci();
  Result<void> plug_iommu();
  machine::DmaSpace dma(unsigned slot, unsigned function = 0);
  Result<void> plug_test_devices();
  void plug_balloon();
  void plug_console();
  void plug_piix();
  void move_power_management(std::optional<std::uint16_t> base);
  Result<void> plug_firmware();
  Result<void> plug_ide();
  Result<void> plug_floppy();
  void tell_of_floppies();
  Result<void> plug_port(std::uint16_t port, std::uint16_t count, machine::Device& device, const char* label);
  Result<void> plug_memory(std::uint64_t base, std::uint64_t size, machine::Device& device, const char* label);
  machine::IrqLine& isa_irq(unsigned irq);
  devices::LocalApic* local_apic_at(GuestPhys address, unsigned size_bytes);

  const MachineConfig& config_;
  const BoardSupply supply_;
  machine::Bus ports_;
  machine::Bus memory_bus_;
  devices::ApicBus apic_bus_;
  std::unique_ptr<devices::AmdIommu> iommu_;  // null: there is none
  std::unique_ptr<devices::AmdIommuFunction> iommu_function_;
  DiskBay disks_;
  NetBay network_;
  std::unique_ptr<LegacyIo> legacy_;
  std::vector<std::unique_ptr<devices::LocalApic>> local_apics_;
  devices::IoApic io_apic_;
  std::unique_ptr<Sockets> sockets_;
  std::unique_ptr<FirmwareIo> firmware_;
  LogLimiter pm_complaints_;
  std::vector<machine::Device*> devices_;  // in the order of saving and resetting
};

}  // namespace veneer::vm
