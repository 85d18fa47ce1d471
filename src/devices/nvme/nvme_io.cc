// NVM commands: checked here, carried out by the disk behind.
#include <array>
#include <utility>

#include "devices/nvme/nvme.h"
#include "devices/nvme/nvme_prp.h"
#include "disk/iov.h"

namespace veneer::devices {

using namespace nvme;

namespace {

constexpr std::uint32_t FUA = 1u << 30;        // CDW12 of Write and Write Zeroes
constexpr std::uint32_t DEAC = 1u << 25;       // CDW12 of Write Zeroes
constexpr std::uint32_t DEALLOCATE = 1u << 2;  // CDW11 of Dataset Management
constexpr unsigned ranges_max = 256;

/// One range of Dataset Management (6.7.1.1).
struct Range {
  std::uint32_t attributes, blocks;
  std::uint64_t block;
};
static_assert(sizeof(Range) == 16);

std::uint64_t first_block(const Command& command) { return command.cdw10 | (std::uint64_t{command.cdw11} << 32); }
std::uint64_t block_count(const Command& command) { return (command.cdw12 & 0xffff) + 1; }

Status answer(disk::IoKind kind, disk::IoStatus status) {
  switch (status) {
    case disk::IoStatus::Ok:
      return Status::Success;
    case disk::IoStatus::NoSpace:
      return Status::CapacityExceeded;
    case disk::IoStatus::ReadOnly:
      return Status::ReadOnlyRange;
    case disk::IoStatus::Cancelled:
      return Status::AbortRequested;
    case disk::IoStatus::Failed:
      break;
  }
  return kind == disk::IoKind::Read ? Status::UnrecoveredRead : Status::WriteFault;
}

}  // namespace

void NvmeController::run_io(std::uint16_t queue, const Command& command) {
  if (command.nsid != the_namespace && !(command.opcode == FLUSH && command.nsid == all_namespaces))
    return complete(queue, command.id, Status::InvalidNamespace);
  Status status = Status::Success;
  switch (command.opcode) {
    case FLUSH:
      return begin_flush(queue, command);
    case READ:
    case WRITE:
      status = begin_transfer(queue, command);
      break;
    case WRITE_ZEROES:
      status = begin_write_zeroes(queue, command);
      break;
    case DATASET_MANAGEMENT:
      status = begin_dataset_management(queue, command);
      break;
    default:
      status = Status::InvalidOpcode;
  }
  if (status != Status::Success) complete(queue, command.id, status);
}

Status NvmeController::check_range(std::uint64_t block, std::uint64_t blocks) const {
  const std::uint64_t capacity = disk_.size_bytes() / block_bytes;
  return block <= capacity && blocks <= capacity - block ? Status::Success : Status::LbaOutOfRange;
}

bool NvmeController::writes_are_stable(const Command& command) const {
  return (command.cdw12 & FUA) || !(features_[VOLATILE_WRITE_CACHE] & 1);
}

NvmeController::ActiveIt NvmeController::keep(std::uint16_t queue, const Command& command) {
  return active_.insert(active_.end(), Active{.queue = queue, .command = command, .data = {}});
}

/// Success means here, and below: on its way.
Status NvmeController::begin_transfer(std::uint16_t queue, const Command& command) {
  const bool read = command.opcode == READ;
  const std::uint64_t bytes = block_count(command) * block_bytes;
  if (bytes > transfer_bytes_max) return Status::InvalidField;
  if (const Status range = check_range(first_block(command), block_count(command)); range != Status::Success)
    return range;
  if (!read && disk_.read_only()) return Status::ReadOnlyRange;
  machine::DmaBuffers data;
  const auto access = read ? machine::DmaAccess::Write : machine::DmaAccess::Read;
  if (const Status prp = collect_prp(memory_, command, bytes, access, data); prp != Status::Success) return prp;
  const ActiveIt active = keep(queue, command);
  active->data = std::move(data);
  hand_over(active, {.kind = read ? disk::IoKind::Read : disk::IoKind::Write,
                     .offset = first_block(command) * block_bytes,
                     .bytes = bytes,
                     .buffers = active->data.pieces(),
                     .force_unit_access = !read && writes_are_stable(command)});
  return Status::Success;
}

Status NvmeController::begin_write_zeroes(std::uint16_t queue, const Command& command) {
  if (const Status range = check_range(first_block(command), block_count(command)); range != Status::Success)
    return range;
  if (disk_.read_only()) return Status::ReadOnlyRange;
  hand_over(keep(queue, command), {.kind = disk::IoKind::WriteZeroes,
                                   .offset = first_block(command) * block_bytes,
                                   .bytes = block_count(command) * block_bytes,
                                   .may_unmap = (command.cdw12 & DEAC) != 0,
                                   .force_unit_access = writes_are_stable(command)});
  return Status::Success;
}

/// 6.7. Only "deallocate" does something; the other attributes are hints.
Status NvmeController::begin_dataset_management(std::uint16_t queue, const Command& command) {
  const unsigned count = (command.cdw10 & 0xff) + 1;
  std::array<Range, ranges_max> ranges{};
  machine::DmaBuffers data;
  if (const Status prp = collect_prp(memory_, command, count * sizeof(Range), machine::DmaAccess::Read, data);
      prp != Status::Success)
    return prp;
  disk::iov_copy_out(data.pieces(), reinterpret_cast<std::byte*>(ranges.data()));
  for (unsigned i = 0; i < count; ++i)
    if (const Status range = check_range(ranges[i].block, ranges[i].blocks); range != Status::Success) return range;
  if (disk_.read_only()) return Status::ReadOnlyRange;
  if (!(command.cdw11 & DEALLOCATE)) {
    complete(queue, command.id, Status::Success);
    return Status::Success;
  }
  const ActiveIt active = keep(queue, command);
  active->parts = 1;  // held until all are handed over
  for (unsigned i = 0; i < count; ++i) {
    if (ranges[i].blocks == 0) continue;
    ++active->parts;
    hand_over(active, {.kind = disk::IoKind::Discard,
                       .offset = ranges[i].block * block_bytes,
                       .bytes = ranges[i].blocks * block_bytes});
  }
  finished(active, disk::IoKind::Discard, disk::IoStatus::Ok);
  return Status::Success;
}

void NvmeController::begin_flush(std::uint16_t queue, const Command& command) {
  hand_over(keep(queue, command), {.kind = disk::IoKind::Flush});
}

void NvmeController::hand_over(ActiveIt active, disk::IoRequest request) {
  request.done = [this, active, kind = request.kind](disk::IoStatus status) { finished(active, kind, status); };
  disk_.submit(std::move(request));
}

/// One part of a command is done; the first error counts.
void NvmeController::finished(ActiveIt active, disk::IoKind kind, disk::IoStatus status) {
  if (active->status == Status::Success) active->status = answer(kind, status);
  if (--active->parts > 0) return;
  if (kind == disk::IoKind::Read) active->data.announce(memory_);
  const std::uint16_t queue = active->queue;
  const std::uint16_t id = active->command.id;
  const Status end = active->status;
  active_.erase(active);
  complete(queue, id, end);
}

}  // namespace veneer::devices
