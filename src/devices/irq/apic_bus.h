// ApicBus: carries interrupt messages between I/O APIC, MSI writers and local APICs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "devices/irq/interrupt_remapper.h"
#include "machine/bus.h"

namespace veneer::devices {

class LocalApic;
class IoApic;

/// Delivery modes as ICR, LVT, redirection entries and MSI data encode them (SDM 3A 11.5.1).
enum class DeliveryMode : std::uint8_t {
  Fixed = 0,
  LowestPriority = 1,
  Smi = 2,
  Nmi = 4,
  Init = 5,
  Startup = 6,
  ExtInt = 7,
};

enum class DestinationMode : std::uint8_t { Physical, Logical };
enum class TriggerMode : std::uint8_t { Edge, Level };

/// One interrupt message.
struct ApicMessage {
  std::uint32_t destination = 0;
  DestinationMode destination_mode = DestinationMode::Physical;
  DeliveryMode delivery_mode = DeliveryMode::Fixed;
  TriggerMode trigger_mode = TriggerMode::Edge;
  std::uint8_t vector = 0;
  /// The destination has 32 bits (an x2APIC sent it), so 0xff is an address and not a broadcast.
  bool wide_destination = false;
  /// A fixed message to logical destinations goes to the one with the lowest priority (SDM 3A 11.11.1).
  bool redirection_hint = false;
};

/// All calls with the board lock held.
class ApicBus {
 public:
  explicit ApicBus(machine::BoardLock& lock) : lock_(lock) {}

  /// Local APICs and the I/O APIC plug themselves in and out.
  void attach(LocalApic& apic) { apics_.push_back(&apic); }
  void detach(LocalApic& apic) { std::erase(apics_, &apic); }
  void attach(IoApic& io_apic) { io_apics_.push_back(&io_apic); }
  void detach(IoApic& io_apic) { std::erase(io_apics_, &io_apic); }

  /// Delivers to every local APIC but `except` that the destination selects (to one of them with LowestPriority).
  /// False when none accepted it.
  bool message(const ApicMessage& message, const LocalApic* except = nullptr);
  /// A memory write to 0xfee00000-0xfeefffff (SDM 3A 11.11): address and data as a function sends them, and its
  /// requester ID.
  void msi(std::uint64_t address, std::uint32_t data, std::uint16_t requester);
  /// Puts a remapper between the senders (msi(), I/O APICs) and the local APICs. Once, before the guest runs.
  void set_remapper(InterruptRemapper& remapper) { remapper_ = &remapper; }
  bool remaps() const { return remapper_ != nullptr; }
  /// What becomes of a message of this sender: itself unless there is a remapper.
  std::optional<ApicMessage> remapped(std::uint16_t requester, const ApicMessage& message) {
    return remapper_ ? remapper_->remap(requester, message) : message;
  }
  /// A local APIC ended a level-triggered interrupt.
  void end_of_interrupt(std::uint8_t vector);

  machine::BoardLock& lock() const { return lock_; }

 private:
  LocalApic* lowest_priority(const ApicMessage& message, const LocalApic* except);

  machine::BoardLock& lock_;
  std::vector<LocalApic*> apics_;
  std::vector<IoApic*> io_apics_;
  InterruptRemapper* remapper_ = nullptr;
  std::size_t round_robin_ = 0;  // where the search for the lowest priority starts, so that equals take turns
};

}  // namespace veneer::devices
