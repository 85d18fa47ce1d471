// An AMD IOMMU: translates the addresses of bus-mastering functions, and remaps their interrupts.
//
// State: its registers; all tables are the guest's, and read anew for each access (nothing is cached, so invalidations
// have nothing to do).
// Missing: guest (nested) translation, peripheral page requests, device IOTLBs, virtual APIC and x2APIC entries,
// performance counters, SMI filters: none is offered. SE (one event for each device) is taken for "no suppression".
// Differs from the spec: addresses of a transfer are translated when it begins, so COMPLETION_WAIT does not wait for
// transfers that a disk has begun; reserved bits of commands and device table entries are ignored.
// Spec: AMD I/O Virtualization Technology (IOMMU) Specification, 48882.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/log.h"
#include "devices/iommu/amd_iommu_defs.h"
#include "devices/irq/apic_bus.h"
#include "machine/device.h"
#include "machine/dma_space.h"

namespace veneer::devices {

/// Its registers as a Device: 16 KiB. All calls with the board lock held. Work is bounded whatever the guest's tables
/// say: an access reads one device table entry and at most six levels, a ring has at most 32,768 entries.
class AmdIommu final : public machine::Device, public machine::DmaTranslator, public InterruptRemapper {
 public:
  /// `requester` is its own: its accesses and interrupts are not translated.
  AmdIommu(machine::GuestMemory& memory, std::uint16_t requester) : memory_(memory), requester_(requester) { reset(); }

  /// How its interrupts reach the guest. Once, before the guest runs.
  void set_interrupt(std::function<void()> interrupt) { interrupt_ = std::move(interrupt); }

  std::optional<machine::DmaRun> translate(std::uint16_t requester, std::uint64_t address, std::uint64_t size_bytes,
                                           machine::DmaAccess access) override;
  std::optional<ApicMessage> remap(std::uint16_t requester, const ApicMessage& message) override;

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  /// A ring of 16-byte entries in guest memory (3.3.2 and 3.3.3).
  struct Ring {
    std::uint64_t base = 0;  // the register
    std::uint64_t head = 0, tail = 0;

    std::uint64_t bytes() const;
    GuestPhys at(std::uint64_t pointer) const { return GuestPhys{(base & amd_iommu::TableAddress::mask) + pointer}; }
    std::uint64_t after(std::uint64_t pointer) const { return (pointer + amd_iommu::ring_entry_bytes) % bytes(); }
    void set_base(std::uint64_t value);
  };
  using DeviceEntry = std::array<std::uint64_t, 4>;
  /// What an event is about.
  struct Subject {
    std::uint16_t requester = 0;
    std::uint64_t domain = 0;
    std::uint64_t address = 0;
  };

  bool enabled() const { return (control_ & amd_iommu::CONTROL_IOMMU_EN) != 0; }
  std::uint64_t read_register(std::uint64_t offset) const;
  void write_register(std::uint64_t offset, std::uint64_t value, std::uint64_t mask);
  void write_control(std::uint64_t value);

  std::optional<DeviceEntry> device_entry(std::uint16_t requester, std::uint64_t address);
  bool excluded(const DeviceEntry& entry, std::uint64_t address) const;
  void page_fault(const DeviceEntry& entry, const Subject& subject, std::uint64_t flags);

  std::optional<ApicMessage> remap_by_table(const DeviceEntry& entry, const Subject& subject,
                                            const ApicMessage& message);

  void run_commands();
  bool execute(std::uint64_t command, std::uint64_t operand);
  void stop_commands(amd_iommu::Event event);

  void log_event(amd_iommu::Event event, const Subject& subject, std::uint64_t flags);
  void raise(std::uint64_t status, std::uint64_t enable);

  machine::GuestMemory& memory_;
  const std::uint16_t requester_;
  std::function<void()> interrupt_;
  std::uint64_t device_table_ = 0, control_ = 0, status_ = 0;
  std::uint64_t exclusion_base_ = 0, exclusion_limit_ = 0;
  Ring commands_, events_;
};

}  // namespace veneer::devices
