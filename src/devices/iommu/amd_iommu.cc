// Registers of the IOMMU.
#include "devices/iommu/amd_iommu.h"

#include <algorithm>

namespace veneer::devices {

using namespace amd_iommu;

namespace {

constexpr std::uint64_t device_table_writable = TableAddress::mask | DeviceTableSize::mask;
constexpr std::uint64_t ring_writable = TableAddress::mask | RingLength::mask;
constexpr std::uint64_t exclusion_base_writable = TableAddress::mask | EXCLUSION_EN | EXCLUSION_ALLOW_ALL;

}  // namespace

std::uint64_t AmdIommu::Ring::bytes() const {
  const unsigned length = std::max(static_cast<unsigned>(RingLength::get(base)), ring_length_min);
  return ring_entry_bytes << length;
}

/// Writing the base sets both pointers to its start.
void AmdIommu::Ring::set_base(std::uint64_t value) {
  base = value & ring_writable;
  head = tail = 0;
}

std::uint64_t AmdIommu::read(std::uint64_t offset, unsigned size_bytes) {
  const std::uint64_t in_register = offset % 8;
  if (in_register + size_bytes > 8) return 0;
  return (read_register(offset - in_register) >> (8 * in_register)) & byte_mask(size_bytes);
}

void AmdIommu::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  const std::uint64_t in_register = offset % 8;
  if (in_register + size_bytes > 8) return;
  write_register(offset - in_register, value << (8 * in_register), byte_mask(size_bytes) << (8 * in_register));
}

std::uint64_t AmdIommu::read_register(std::uint64_t offset) const {
  switch (offset) {
    case DEVICE_TABLE_BASE:
      return device_table_;
    case COMMAND_BUFFER_BASE:
      return commands_.base;
    case EVENT_LOG_BASE:
      return events_.base;
    case CONTROL:
      return control_;
    case EXCLUSION_BASE:
      return exclusion_base_;
    case EXCLUSION_LIMIT:
      return exclusion_limit_;
    case EXTENDED_FEATURE:
      return FEATURES;
    case COMMAND_HEAD:
      return commands_.head;
    case COMMAND_TAIL:
      return commands_.tail;
    case EVENT_HEAD:
      return events_.head;
    case EVENT_TAIL:
      return events_.tail;
    case STATUS:
      return status_;
    default:
      return 0;
  }
}

/// `mask` says which bytes are written.
void AmdIommu::write_register(std::uint64_t offset, std::uint64_t value, std::uint64_t mask) {
  const auto merged = [&](std::uint64_t old) { return (old & ~mask) | (value & mask); };
  const auto pointer = [&](const Ring& ring, std::uint64_t old) {
    return (merged(old) & RingPointer::mask) % ring.bytes();
  };
  switch (offset) {
    case DEVICE_TABLE_BASE:
      device_table_ = merged(device_table_) & device_table_writable;
      break;
    case COMMAND_BUFFER_BASE:
      commands_.set_base(merged(commands_.base));
      break;
    case EVENT_LOG_BASE:
      events_.set_base(merged(events_.base));
      break;
    case CONTROL:
      write_control(merged(control_) & CONTROL_WRITABLE);
      break;
    case EXCLUSION_BASE:
      exclusion_base_ = merged(exclusion_base_) & exclusion_base_writable;
      break;
    case EXCLUSION_LIMIT:
      exclusion_limit_ = merged(exclusion_limit_) & TableAddress::mask;
      break;
    case COMMAND_HEAD:
      commands_.head = pointer(commands_, commands_.head);
      break;
    case COMMAND_TAIL:
      commands_.tail = pointer(commands_, commands_.tail);
      run_commands();
      break;
    case EVENT_HEAD:
      events_.head = pointer(events_, events_.head);
      break;
    case EVENT_TAIL:
      events_.tail = pointer(events_, events_.tail);
      break;
    case STATUS:
      status_ &= ~(value & mask & STATUS_WRITE_1_CLEARS);
      break;
    default:
      break;
  }
}

/// The rings run while both they and the IOMMU are enabled. What an error stopped starts again when its enable bit
/// does.
void AmdIommu::write_control(std::uint64_t value) {
  const auto runs = [](std::uint64_t control, std::uint64_t ring) {
    return (control & ring) != 0 && (control & CONTROL_IOMMU_EN) != 0;
  };
  const std::uint64_t before = control_;
  control_ = value;
  const auto follow = [&](std::uint64_t ring, std::uint64_t run) {
    if (!runs(value, ring))
      status_ &= ~run;
    else if (!runs(before, ring))
      status_ |= run;
  };
  follow(CONTROL_EVENT_LOG_EN, STATUS_EVENT_LOG_RUN);
  follow(CONTROL_CMD_BUF_EN, STATUS_CMD_BUF_RUN);
  run_commands();
}

void AmdIommu::reset() {
  device_table_ = control_ = status_ = 0;
  exclusion_base_ = exclusion_limit_ = 0;
  commands_ = events_ = {};
}

void AmdIommu::save(machine::SnapshotWriter& out) const {
  out.section("amd-iommu");
  for (const std::uint64_t value : {device_table_, control_, status_, exclusion_base_, exclusion_limit_})
    out.put(value);
  for (const Ring* ring : {&commands_, &events_})
    for (const std::uint64_t value : {ring->base, ring->head, ring->tail}) out.put(value);
}

void AmdIommu::restore(machine::SnapshotReader& in) {
  in.section("amd-iommu");
  for (std::uint64_t* value : {&device_table_, &control_, &status_, &exclusion_base_, &exclusion_limit_})
    in.get(*value);
  device_table_ &= device_table_writable;
  control_ &= CONTROL_WRITABLE;
  status_ &= STATUS_WRITE_1_CLEARS | STATUS_EVENT_LOG_RUN | STATUS_CMD_BUF_RUN;
  exclusion_base_ &= exclusion_base_writable;
  exclusion_limit_ &= TableAddress::mask;
  for (Ring* ring : {&commands_, &events_}) {
    for (std::uint64_t* value : {&ring->base, &ring->head, &ring->tail}) in.get(*value);
    ring->base &= ring_writable;
    for (std::uint64_t* pointer : {&ring->head, &ring->tail}) *pointer = (*pointer & RingPointer::mask) % ring->bytes();
  }
}

}  // namespace veneer::devices
