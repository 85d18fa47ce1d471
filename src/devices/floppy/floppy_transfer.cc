// The floppy controller's commands that move data: sector by sector between DMA and disk.
#include "devices/floppy/floppy_controller.h"
#include "devices/floppy/floppy_defs.h"

namespace veneer::devices {
using namespace floppy;

namespace {

bool writes(std::uint8_t opcode) { return opcode == WRITE_DATA || opcode == WRITE_DELETED; }

}  // namespace

void FloppyController::finish_transfer(std::uint8_t st0, std::uint8_t st1, std::uint8_t st2) {
  const auto place = static_cast<std::uint8_t>((parameters_[1] & 3) | (head_ & 1) << 2);
  finish({static_cast<std::uint8_t>(st0 | place), st1, st2, cylinder_, head_, record_, size_code_512}, true);
}

void FloppyController::start_transfer() {
  Drive& drive = drives_[parameters_[1] & 3];
  cylinder_ = parameters_[2];
  head_ = parameters_[3];
  record_ = opcode() == READ_TRACK ? std::uint8_t{1} : parameters_[4];
  ends_ = false;
  phase_ = Phase::Execution;
  if (configuration_ & IMPLIED_SEEK) drive.track = cylinder_;
  if (!readable(drive)) return finish_transfer(ABNORMAL, MISSING_ADDRESS_MARK, 0);
  if (writes(opcode()) && drive.backend->read_only()) return finish_transfer(ABNORMAL, NOT_WRITABLE, 0);
  next_sector();
}

/// Looks for the sector and moves it, or ends the command.
void FloppyController::next_sector() {
  const Drive& drive = drives_[parameters_[1] & 3];
  if (cylinder_ != drive.track) return finish_transfer(ABNORMAL, NO_DATA, WRONG_CYLINDER);
  if (head_ >= drive.format->heads || record_ == 0 || record_ > drive.format->sectors ||
      parameters_[5] != size_code_512)
    return finish_transfer(ABNORMAL, NO_DATA, 0);
  const std::uint64_t index =
      (std::uint64_t{cylinder_} * drive.format->heads + head_) * drive.format->sectors + record_ - 1u;
  if (!writes(opcode())) return submit(disk::IoKind::Read, index * sector_bytes);

  sector_.fill(0);  // of a sector that the DMA gives only a part of, the rest is zeros
  const DmaMoved moved = dma_.from_memory(dma_channel, sector_);
  ends_ = moved.terminal_count;
  if (moved.bytes < sector_.size() && !ends_) return finish_transfer(ABNORMAL, OVERRUN, 0);
  submit(disk::IoKind::Write, index * sector_bytes);
}

void FloppyController::submit(disk::IoKind kind, std::uint64_t offset) {
  disk::Backend& backend = *drives_[parameters_[1] & 3].backend;
  if (offset + sector_bytes > backend.size_bytes()) {  // behind the end of a short image
    sector_.fill(0);
    return sector_done(kind == disk::IoKind::Read ? disk::IoStatus::Ok : disk::IoStatus::Failed);
  }
  backend.submit({.kind = kind,
                  .offset = offset,
                  .bytes = sector_bytes,
                  .buffers = {{sector_.data(), sector_.size()}},
                  .done = [this, generation = generation_](disk::IoStatus status) {
                    if (generation == generation_) sector_done(status);
                  }});
  backend.start();
}

void FloppyController::sector_done(disk::IoStatus status) {
  if (status == disk::IoStatus::Cancelled) return;
  if (status != disk::IoStatus::Ok) return finish_transfer(ABNORMAL, DATA_ERROR, DATA_ERROR_IN_DATA);
  if (opcode() == FORMAT_TRACK) return format_next();
  const std::uint8_t mark = opcode() == READ_DELETED ? CONTROL_MARK : std::uint8_t{0};
  if (!writes(opcode()) && opcode() != VERIFY) {
    const DmaMoved moved = dma_.to_memory(dma_channel, sector_);
    ends_ = moved.terminal_count;
    if (moved.bytes < sector_.size() && !ends_) return finish_transfer(ABNORMAL, OVERRUN, 0);
  }
  const bool more = advance();
  if (ends_ || mark) return finish_transfer(0, 0, mark);
  if (opcode() == VERIFY && !more) return finish_transfer(0, 0, 0);
  if (!more) return finish_transfer(ABNORMAL, END_OF_CYLINDER, 0);
  next_sector();
}

/// To the next sector (82077AA table 5-6). False at the end of the track, or of the cylinder with multi-track.
bool FloppyController::advance() {
  if (record_ != parameters_[6]) {
    ++record_;
    return true;
  }
  record_ = 1;
  if ((parameters_[0] & MULTI_TRACK) && (head_ & 1) == 0) {
    head_ |= 1;
    return true;
  }
  if (parameters_[0] & MULTI_TRACK) head_ &= 0xfe;
  ++cylinder_;
  return false;
}

// --- FORMAT TRACK: command, head and drive, N, sectors, gap, filler ---

void FloppyController::start_format() {
  Drive& drive = drives_[parameters_[1] & 3];
  head_ = parameters_[1] >> 2 & 1;
  cylinder_ = drive.track;
  record_ = 1;
  phase_ = Phase::Execution;
  if (!readable(drive)) return finish_transfer(ABNORMAL, MISSING_ADDRESS_MARK, 0);
  if (drive.backend->read_only()) return finish_transfer(ABNORMAL, NOT_WRITABLE, 0);
  ids_.resize(std::size_t{4} * parameters_[3]);
  const DmaMoved moved = dma_.from_memory(dma_channel, ids_);
  if (moved.bytes < ids_.size() && !moved.terminal_count) {
    ids_.clear();
    return finish_transfer(ABNORMAL, OVERRUN, 0);
  }
  ids_.resize(moved.bytes / 4 * 4);
  sector_.fill(parameters_[5]);
  format_next();
}

/// Sectors that this disk does not have are passed over: an image has no room for other formats.
void FloppyController::format_next() {
  const Drive& drive = drives_[parameters_[1] & 3];
  while (!ids_.empty()) {
    const std::uint8_t c = ids_[0], h = ids_[1], r = ids_[2], n = ids_[3];
    ids_.erase(ids_.begin(), ids_.begin() + 4);
    if (c != drive.track || h != head_ || r == 0 || r > drive.format->sectors || n != size_code_512) continue;
    submit(disk::IoKind::Write,
           ((std::uint64_t{c} * drive.format->heads + h) * drive.format->sectors + r - 1u) * sector_bytes);
    return;
  }
  finish_transfer(0, 0, 0);
}

}  // namespace veneer::devices
