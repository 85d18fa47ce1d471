// PciFunction: configuration space, BARs, capabilities and interrupts of one PCI function, for devices to derive from.
//
// State: 256 bytes of configuration space, MSI-X table.
// Missing: several MSI messages and their masks (functions that want them have MSI-X), power management, expansion
// ROMs, PCI Express.
// Differs from the spec: a BAR that would cover another device stays undecoded; Discard and error bits never rise.
// Spec: PCI Local Bus 3.0, chapter 6.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "devices/pci/msix.h"
#include "devices/pci/pci_config.h"
#include "machine/bus.h"
#include "machine/device.h"

namespace veneer::devices {

/// The read-only part of the header.
struct PciIdentity {
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  std::uint8_t revision = 0;
  std::uint32_t class_code = 0;  ///< base class, subclass, programming interface: 24 bits
  std::uint16_t subsystem_vendor = 0;
  std::uint16_t subsystem = 0;
  std::uint8_t interrupt_pin = 0;  ///< 0: none, 1: INTA
};

/// What a slot offers to the function that is plugged in.
class PciSlot {
 public:
  virtual ~PciSlot() = default;
  virtual machine::Bus& memory_bus() = 0;
  virtual machine::Bus& port_bus() = 0;
  virtual void set_intx(bool level) = 0;
  virtual void send_msi(std::uint64_t address, std::uint32_t data) = 0;
};

enum class BarKind : std::uint8_t { None, Io, Memory32, Memory64, Rom };

/// All calls with the board lock held.
class PciFunction {
 public:
  PciFunction(std::string name, const PciIdentity& identity);
  virtual ~PciFunction();
  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;

  const std::string& name() const { return name_; }

  /// The slot, given once by PciBus; outlives the function's use.
  void plug_into(PciSlot& slot) { slot_ = &slot; }

  /// Configuration accesses of 1, 2 or 4 bytes that do not cross a dword.
  virtual std::uint32_t read_config(unsigned offset, unsigned size_bytes);
  virtual void write_config(unsigned offset, unsigned size_bytes, std::uint32_t value);

  /// For whoever assigns resources: kind and size of a BAR.
  BarKind bar_kind(unsigned index) const { return bars_[index].kind; }
  std::uint64_t bar_bytes(unsigned index) const { return bars_[index].size_bytes; }
  bool bar_prefetchable(unsigned index) const { return bars_[index].prefetchable; }
  /// The address the guest gave it.
  std::uint64_t bar_address(unsigned index) const;
  /// True when accesses really arrive.
  bool bar_mapped(unsigned index) const { return bars_[index].mapped.has_value(); }

  /// Gives it an expansion ROM (PCI 3.0 6.2.5.2) with this image. Once, before the guest runs.
  void add_rom(std::vector<std::byte> image);
  /// Where the guest has it, or nothing while it is not decoded.
  std::optional<std::uint64_t> rom_address() const { return bars_[pci::rom_index].mapped; }
  std::uint16_t vendor_id() const { return static_cast<std::uint16_t>(config(pci::VENDOR_ID, 2)); }
  std::uint16_t device_id() const { return static_cast<std::uint16_t>(config(pci::DEVICE_ID, 2)); }

  virtual void save(machine::SnapshotWriter& out) const;
  virtual void restore(machine::SnapshotReader& in);
  virtual void reset();

 protected:
  /// Setting up, in the constructor of the derived class. `size_bytes` is a power of two, at least 16.
  void add_bar(unsigned index, BarKind kind, std::uint64_t size_bytes, machine::Device& device,
               bool prefetchable = false);
  /// Appends a capability; `body` follows id and next pointer. `writable` masks the body's bits the guest may change.
  /// Gives its offset.
  unsigned add_capability(std::uint8_t id, std::span<const std::uint8_t> body,
                          std::span<const std::uint8_t> writable = {});
  /// MSI-X with table and pending bits in BAR `bar` (Memory32, one page).
  void add_msix(unsigned vectors, unsigned bar);
  /// MSI with one message and a 64-bit address.
  void add_msi();
  /// Says in the header that the device has more functions than this one.
  void set_multifunction() { set_config(pci::HEADER_TYPE, 1, 0x80); }
  /// Lets the guest write these bits of a register.
  void make_writable(unsigned offset, unsigned size_bytes, std::uint32_t mask);
  void set_config(unsigned offset, unsigned size_bytes, std::uint32_t value);
  std::uint32_t config(unsigned offset, unsigned size_bytes) const;

  bool bus_master() const { return (config(pci::COMMAND, 2) & pci::COMMAND_MASTER) != 0; }
  bool msix_enabled() const { return msix_ && msix_->enabled(); }
  bool msi_enabled() const;
  /// Drives INTA; reaches the interrupt controller only while MSI, MSI-X and Interrupt Disable are off.
  void set_intx(bool level);
  void signal_msix(unsigned vector);
  /// Does nothing while MSI is off.
  void signal_msi();

 private:
  struct Bar {
    BarKind kind = BarKind::None;
    bool prefetchable = false;
    std::uint64_t size_bytes = 0;
    machine::Device* device = nullptr;
    std::optional<std::uint64_t> mapped;  // where it answers now
  };
  class Rom;
  static unsigned register_of(unsigned index) {
    return index == pci::rom_index ? pci::EXPANSION_ROM : pci::BAR0 + 4 * index;
  }
  machine::Bus& bus_of(const Bar& bar) { return bar.kind == BarKind::Io ? slot_->port_bus() : slot_->memory_bus(); }
  std::optional<std::uint64_t> wanted_address(unsigned index) const;
  void update_mappings();
  void unmap_all();
  void update_msix_control();
  void update_intx();

  std::string name_;
  PciSlot* slot_ = nullptr;
  std::array<std::uint8_t, pci::config_bytes> config_{};
  std::array<std::uint8_t, pci::config_bytes> writable_{};
  std::array<std::uint8_t, pci::config_bytes> power_on_{};  // what reset() restores; grows with the setting up
  std::array<Bar, pci::bar_count + 1> bars_;                // the last is the expansion ROM's
  std::unique_ptr<Rom> rom_;
  unsigned capabilities_end_ = pci::FIRST_CAPABILITY;
  unsigned last_capability_ = 0;
  std::unique_ptr<MsixTable> msix_;
  unsigned msix_capability_ = 0;
  unsigned msi_capability_ = 0;  // 0: there is none
  bool intx_ = false;
  LogLimiter map_failures_;
};

}  // namespace veneer::devices
