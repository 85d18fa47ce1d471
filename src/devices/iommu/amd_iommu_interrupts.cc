// Interrupt remapping (48882 2.2.5).
#include <span>

#include "devices/iommu/amd_iommu.h"

namespace veneer::devices {

using namespace amd_iommu;

std::optional<ApicMessage> AmdIommu::remap(std::uint16_t requester, const ApicMessage& message) {
  if (!enabled() || requester == requester_) return message;
  // What an interrupt is told apart by: vector and delivery mode are the index of its entry.
  const std::uint64_t index = static_cast<std::uint64_t>(message.delivery_mode) << 8 | message.vector;
  const auto entry = device_entry(requester, index);
  if (!entry) return std::nullopt;
  const std::uint64_t control = (*entry)[2];
  if (!(control & DTE2_IV)) return message;

  const auto pass_if = [&](std::uint64_t bit) { return control & bit ? std::optional(message) : std::nullopt; };
  const Subject subject{requester, Dte1Domain::get((*entry)[1]), index};
  switch (message.delivery_mode) {
    case DeliveryMode::Fixed:
    case DeliveryMode::LowestPriority:
      break;
    case DeliveryMode::Nmi:
      return pass_if(DTE2_NMI_PASS);
    case DeliveryMode::Init:
      return pass_if(DTE2_INIT_PASS);
    case DeliveryMode::ExtInt:
      return pass_if(DTE2_EINT_PASS);
    default:
      return std::nullopt;
  }
  switch (Dte2IntControl::get(control)) {
    case INT_ABORT:
      return std::nullopt;
    case INT_FORWARD:
      return message;
    case INT_REMAP:
      return remap_by_table(*entry, subject, message);
    default:
      log_event(Event::IllegalDevTableEntry, subject, EVENT_I);
      return std::nullopt;
  }
}

std::optional<ApicMessage> AmdIommu::remap_by_table(const DeviceEntry& entry, const Subject& subject,
                                                    const ApicMessage& message) {
  const std::uint64_t control = entry[2];
  const auto refuse = [&](std::uint64_t why) -> std::optional<ApicMessage> {
    if (!(control & DTE2_IG)) page_fault(entry, subject, EVENT_I | why);
    return std::nullopt;
  };
  const auto length = static_cast<unsigned>(Dte2TableLength::get(control));
  if (length > table_length_max) {
    log_event(Event::IllegalDevTableEntry, subject, EVENT_I);
    return std::nullopt;
  }
  const std::uint64_t index = subject.address;
  if (index >> length != 0) return refuse(0);
  const GuestPhys at{(control & Dte2Table::mask) + index * interrupt_entry_bytes};
  std::uint32_t irte = 0;
  if (!memory_.read_value(at, irte)) {
    log_event(Event::PageTabHardwareError, {subject.requester, subject.domain, at.value}, EVENT_I);
    return std::nullopt;
  }
  if (!(irte & IRTE_REMAP_EN)) return irte & IRTE_SUP_IOPF ? std::nullopt : refuse(0);
  const auto type = static_cast<DeliveryMode>(IrteType::get(irte));
  if (type != DeliveryMode::Fixed && type != DeliveryMode::LowestPriority) return refuse(EVENT_PR | EVENT_RZ);

  ApicMessage out;
  out.delivery_mode = type;
  out.destination = static_cast<std::uint32_t>(IrteDestination::get(irte));
  out.destination_mode = irte & IRTE_LOGICAL ? DestinationMode::Logical : DestinationMode::Physical;
  out.vector = static_cast<std::uint8_t>(IrteVector::get(irte));
  out.trigger_mode = message.trigger_mode;
  return out;
}

}  // namespace veneer::devices
