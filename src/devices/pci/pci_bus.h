// PCI bus 0: slots, configuration mechanism #1, interrupt pins, and what firmware does with BARs.
//
// State: CONFIG_ADDRESS, and that of the functions.
// Missing: bridges and other buses, PCI Express ECAM.
// Differs from the spec: nothing known. Spec: PCI Local Bus 3.0, 3.2.2.3.2 (configuration mechanism #1), 2.2.6.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "devices/irq/apic_bus.h"
#include "devices/pci/pci_function.h"
#include "machine/bus.h"
#include "machine/device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// The address windows that BARs may lie in.
struct PciWindows {
  std::uint64_t memory32_base = 0, memory32_bytes = 0;
  std::uint64_t memory64_base = 0, memory64_bytes = 0;
  std::uint32_t io_base = 0, io_bytes = 0;
};

/// The buses and wires around it; they outlive it.
struct PciSurroundings {
  machine::Bus& memory_bus;
  machine::Bus& port_bus;
  ApicBus& apic_bus;
  std::array<machine::IrqLine*, 4> interrupt_lines;  ///< which a function uses: (slot + pin) mod 4
};

/// As a Device: eight ports at 0xcf8. Save, restore and reset cover all functions.
class PciBus final : public machine::Device {
 public:
  static constexpr unsigned slot_count = 32;
  static constexpr unsigned function_count = 8;

  explicit PciBus(const PciSurroundings& around);
  ~PciBus() override;

  /// Puts a function into an empty slot. It must outlive the bus's use.
  void plug(unsigned slot, PciFunction& function) { plug(slot, 0, function); }
  /// Function `number` of a device with several; function 0 has to be there as well.
  void plug(unsigned slot, unsigned number, PciFunction& function);
  /// Called when one of the four interrupt lines changes, beside the line itself.
  void set_line_listener(std::function<void(unsigned line, bool level)> listener) {
    lines_changed_ = std::move(listener);
  }

  /// The register that byte accesses to port 0xcf9 reach: on PCs the reset control hides inside CONFIG_ADDRESS.
  void set_reset_register(machine::Device& device) { reset_register_ = &device; }

  /// Gives every BAR an address and switches decoding on, as firmware does before it boots an OS.
  void assign_resources(const PciWindows& windows);

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  class Slot;
  PciFunction* selected() const;
  void set_interrupt(unsigned slot, unsigned number, bool level);
  template <typename F>
  void for_each_function(F f) const;

  PciSurroundings around_;
  std::array<std::array<std::unique_ptr<Slot>, function_count>, slot_count> slots_;
  std::array<std::bitset<slot_count * function_count>, 4> asserted_;  // functions that hold each interrupt line
  std::function<void(unsigned, bool)> lines_changed_;
  machine::Device* reset_register_ = nullptr;
  std::uint32_t config_address_ = 0;
};

}  // namespace veneer::devices
