// From a function's address to memory's (48882 2.2).
#include <algorithm>
#include <span>

#include "devices/iommu/amd_iommu.h"
#include "devices/iommu/amd_iommu_walk.h"

namespace veneer::devices {

using namespace amd_iommu;

/// The device table entry; nothing when there is none that makes sense, and the guest has been told.
std::optional<AmdIommu::DeviceEntry> AmdIommu::device_entry(std::uint16_t requester, std::uint64_t address) {
  const std::uint64_t table_bytes = (DeviceTableSize::get(device_table_) + 1) * page_size;
  const std::uint64_t offset = requester * device_entry_bytes;
  if (offset >= table_bytes) {
    log_event(Event::IllegalDevTableEntry, {requester, 0, address}, 0);
    return std::nullopt;
  }
  DeviceEntry entry{};
  const GuestPhys at{(device_table_ & TableAddress::mask) + offset};
  if (!memory_.read(at, std::as_writable_bytes(std::span(entry)))) {
    log_event(Event::DevTabHardwareError, {requester, 0, at.value}, 0);
    return std::nullopt;
  }
  return entry;
}

bool AmdIommu::excluded(const DeviceEntry& entry, std::uint64_t address) const {
  if (!(exclusion_base_ & EXCLUSION_EN)) return false;
  if (!(exclusion_base_ & EXCLUSION_ALLOW_ALL) && !((entry[0] & DTE0_V) && (entry[1] & DTE1_EX))) return false;
  const std::uint64_t page = address & ~page_offset_mask;
  return page >= (exclusion_base_ & TableAddress::mask) && page <= exclusion_limit_;
}

void AmdIommu::page_fault(const DeviceEntry& entry, const Subject& subject, std::uint64_t flags) {
  if (entry[1] & DTE1_SA) return;
  log_event(Event::IoPageFault, subject, flags);
}

std::optional<machine::DmaRun> AmdIommu::translate(std::uint16_t requester, std::uint64_t address,
                                                   std::uint64_t size_bytes, machine::DmaAccess access) {
  const machine::DmaRun untranslated{GuestPhys{address}, size_bytes};
  if (!enabled() || requester == requester_) return untranslated;
  const auto entry = device_entry(requester, address);
  if (!entry) return std::nullopt;
  if (excluded(*entry, address))
    return machine::DmaRun{GuestPhys{address}, std::min(size_bytes, page_size - (address & page_offset_mask))};
  const std::uint64_t first = (*entry)[0];
  if (!(first & DTE0_V)) return untranslated;

  const bool write = access == machine::DmaAccess::Write;
  const Subject subject{requester, Dte1Domain::get((*entry)[1]), address};
  const std::uint64_t flags = write ? EVENT_RW : 0;
  const auto levels = static_cast<unsigned>(Dte0Mode::get(first));
  if (levels > levels_max || (first & DTE0_GV)) {
    log_event(Event::IllegalDevTableEntry, subject, flags);
    return std::nullopt;
  }
  const auto refuse = [&](std::uint64_t why) -> std::optional<machine::DmaRun> {
    page_fault(*entry, subject, flags | why);
    return std::nullopt;
  };
  if (!(first & DTE0_TV)) return refuse(0);
  const std::uint64_t needed = write ? DTE0_IW : DTE0_IR;
  if (!(first & needed)) return refuse(EVENT_PE);
  if (levels == 0) return untranslated;

  const WalkResult found = walk(memory_, GuestPhys{first & TableAddress::mask}, levels, address);
  switch (found.kind) {
    case WalkResult::Kind::NotPresent:
      return refuse(0);
    case WalkResult::Kind::Reserved:
      return refuse(EVENT_PR | EVENT_RZ);
    case WalkResult::Kind::NoTable:
      log_event(Event::PageTabHardwareError, {requester, subject.domain, found.address.value}, flags);
      return std::nullopt;
    case WalkResult::Kind::Mapped:
      break;
  }
  if (!(write ? found.writable : found.readable)) return refuse(EVENT_PR | EVENT_PE);
  return machine::DmaRun{found.address, std::min(size_bytes, found.run_bytes)};
}

}  // namespace veneer::devices
