// The command buffer (48882 2.4) and the event log (2.5).
#include <array>

#include "devices/iommu/amd_iommu.h"

namespace veneer::devices {

using namespace amd_iommu;

/// Until the ring is empty, or a command cannot be.
void AmdIommu::run_commands() {
  while ((status_ & STATUS_CMD_BUF_RUN) && commands_.head != commands_.tail) {
    std::array<std::uint64_t, 2> command{};
    if (!memory_.read_value(commands_.at(commands_.head), command)) return stop_commands(Event::CommandHardwareError);
    if (!execute(command[0], command[1])) return;
    commands_.head = commands_.after(commands_.head);
  }
}

/// False when it stopped the ring.
bool AmdIommu::execute(std::uint64_t command, std::uint64_t operand) {
  switch (static_cast<Command>(Code::get(command))) {
    case Command::CompletionWait:
      // Commands before it are complete: they are carried out one by one.
      if ((command & WAIT_STORE) && !memory_.write_value(GuestPhys{command & WaitAddress::mask}, operand)) {
        stop_commands(Event::CommandHardwareError);
        return false;
      }
      if (command & WAIT_INTERRUPT) raise(STATUS_COM_WAIT_INT, CONTROL_COM_WAIT_INT_EN);
      return true;
    case Command::InvalidateDevtabEntry:  // nothing is cached
    case Command::InvalidateIommuPages:
    case Command::InvalidateInterruptTable:
    case Command::InvalidateIommuAll:
      return true;
    default:  // INVALIDATE_IOTLB_PAGES, PREFETCH_IOMMU_PAGES and COMPLETE_PPR_REQUEST are for what is not offered
      stop_commands(Event::IllegalCommandError);
      return false;
  }
}

void AmdIommu::stop_commands(Event event) {
  status_ &= ~STATUS_CMD_BUF_RUN;
  log_event(event, {0, 0, commands_.at(commands_.head).value}, 0);
}

void AmdIommu::log_event(Event event, const Subject& subject, std::uint64_t flags) {
  VENEER_TRACE(Irq, "amd-iommu: event {} of {:#x} at {:#x}, flags {:#x}", static_cast<unsigned>(event),
               subject.requester, subject.address, flags >> 48);
  if (!(status_ & STATUS_EVENT_LOG_RUN)) return;
  const std::uint64_t next = events_.after(events_.tail);
  if (next == events_.head) {  // a ring that is full: this one is lost, and nothing more comes until it starts again
    status_ &= ~STATUS_EVENT_LOG_RUN;
    return raise(STATUS_EVENT_OVERFLOW, CONTROL_EVENT_INT_EN);
  }
  const std::array<std::uint64_t, 2> entry = {
      Code::set(subject.requester | subject.domain << 32 | flags, static_cast<std::uint64_t>(event)), subject.address};
  if (!memory_.write_value(events_.at(events_.tail), entry)) return;
  events_.tail = next;
  raise(STATUS_EVENT_LOG_INT, CONTROL_EVENT_INT_EN);
}

/// Sets a status bit; the guest hears of it when it was clear.
void AmdIommu::raise(std::uint64_t status, std::uint64_t enable) {
  const bool news = (status_ & status) == 0;
  status_ |= status;
  if (news && (control_ & enable) && interrupt_) interrupt_();
}

}  // namespace veneer::devices
