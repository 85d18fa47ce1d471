// ApicBus: who gets a message.
#include "devices/irq/apic_bus.h"

#include "base/bits.h"
#include "devices/irq/ioapic.h"
#include "devices/irq/lapic.h"

namespace veneer::devices {

bool ApicBus::message(const ApicMessage& message, const LocalApic* except) {
  if (message.delivery_mode == DeliveryMode::LowestPriority) {
    LocalApic* apic = lowest_priority(message, except);
    return apic && apic->deliver(message);
  }
  bool accepted = false;
  for (LocalApic* apic : apics_)
    if (apic != except && apic->matches(message)) accepted |= apic->deliver(message);
  return accepted;
}

LocalApic* ApicBus::lowest_priority(const ApicMessage& message, const LocalApic* except) {
  LocalApic* best = nullptr;
  std::size_t best_at = 0;
  for (std::size_t i = 0; i < apics_.size(); ++i) {
    const std::size_t at = (round_robin_ + i) % apics_.size();
    LocalApic* apic = apics_[at];
    if (apic == except || !apic->matches(message) || !apic->takes_fixed()) continue;
    if (best && best->processor_priority() <= apic->processor_priority()) continue;
    best = apic;
    best_at = at;
  }
  if (best) round_robin_ = best_at + 1;
  return best;
}

void ApicBus::msi(std::uint64_t address, std::uint32_t data, std::uint16_t requester) {
  // SDM 3A 11.11.1 and 11.11.2.
  ApicMessage request;
  request.destination = static_cast<std::uint32_t>(Bits<19, 12>::get(address));
  request.destination_mode = (address & bit(2)) ? DestinationMode::Logical : DestinationMode::Physical;
  request.vector = static_cast<std::uint8_t>(data);
  request.delivery_mode = static_cast<DeliveryMode>(Bits<10, 8>::get(data));
  request.trigger_mode = (data & bit(15)) ? TriggerMode::Level : TriggerMode::Edge;
  request.redirection_hint = (address & bit(3)) != 0;
  auto delivered = remapped(requester, request);
  if (!delivered) return;
  if (delivered->redirection_hint && delivered->destination_mode == DestinationMode::Logical &&
      delivered->delivery_mode == DeliveryMode::Fixed)
    delivered->delivery_mode = DeliveryMode::LowestPriority;
  message(*delivered);
}

void ApicBus::end_of_interrupt(std::uint8_t vector) {
  for (IoApic* io_apic : io_apics_) io_apic->end_of_interrupt(vector);
}

}  // namespace veneer::devices
