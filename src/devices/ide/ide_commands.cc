// How commands of an IDE channel begin and end; the drive says what they are (devices/ata/ata_drive.h).
#include <algorithm>
#include <cstring>

#include "devices/ata/ata.h"
#include "devices/ide/ide_channel.h"

namespace veneer::devices {

using namespace ata;

namespace {

constexpr std::uint8_t DEVICE_RESET = 0x08, EXECUTE_DIAGNOSTIC = 0x90;

}  // namespace

void IdeChannel::command(std::uint8_t value) {
  if (!present()) return;
  lower();
  if (value == DEVICE_RESET && is_cdrom()) {
    drop_transfer();
    return set_signature();
  }
  if (status_ & (BSY | DRQ)) return;
  error_ = 0;
  if (value == EXECUTE_DIAGNOSTIC) {
    registers_.device = 0;
    set_signature();
    return raise();
  }
  perform(drive().execute(value, registers_));
}

void IdeChannel::perform(const AtaAction& action) {
  const bool in = action.kind == AtaAction::Kind::Reply || action.kind == AtaAction::Kind::Read;
  switch (action.kind) {
    case AtaAction::Kind::Done:
      return succeed();
    case AtaAction::Kind::Failed:
      return abort(action.error);
    case AtaAction::Kind::Flush:
      return flush();
    case AtaAction::Kind::Packet:
      mode_ = Mode::Packet;
      position_ = 0;
      block_end_ = AtaDrive::packet_bytes;
      registers_.count[0] = COMMAND_PHASE;
      status_ = DRDY | DSC | DRQ;
      return;
    case AtaAction::Kind::Reply:
      take_reply(action);
      break;
    case AtaAction::Kind::Read:
    case AtaAction::Kind::Write:
      take_range(action);
      break;
    case AtaAction::Kind::Trim:
      return abort(ABRT);  // only serial drives have it
  }
  if (in)
    start_in(action.dma ? Mode::DmaIn : Mode::PioIn, action.block_bytes);
  else
    start_out(action.dma ? Mode::DmaOut : Mode::PioOut, action.block_bytes);
}

/// The packet is in the buffer. What it gives goes by DMA if the command said so.
void IdeChannel::perform_packet() {
  std::array<std::uint8_t, AtaDrive::packet_bytes> packet{};
  std::memcpy(packet.data(), buffer_.data(), packet.size());
  position_ = end_ = block_end_ = 0;
  const AtaAction action = drive().packet(packet);
  if (action.kind == AtaAction::Kind::Done) return packet_done();
  if (action.kind == AtaAction::Kind::Failed) return fail(action);
  if (action.kind == AtaAction::Kind::Reply)
    take_reply(action);
  else
    take_range(action);
  // The host's limit for one block; an odd one counts as one less, and 0 as the most (ATA-6 8.23.5).
  std::size_t block = (registers_.mid[0] | std::size_t{registers_.high[0]} << 8) & 0xfffe;
  if (block == 0) block = 0xfffe;
  start_in((registers_.features[0] & 1) != 0 ? Mode::DmaIn : Mode::PioIn, block);
}

void IdeChannel::take_reply(const AtaAction& action) {
  std::memcpy(buffer_.data(), action.reply.data(), action.reply.size());
  position_ = 0;
  end_ = action.reply.size();
  disk_left_ = 0;
}

void IdeChannel::take_range(const AtaAction& action) {
  position_ = end_ = 0;
  disk_offset_ = action.offset;
  disk_left_ = action.bytes;
}

void IdeChannel::succeed() {
  mode_ = Mode::None;
  status_ = DRDY | DSC;
  error_ = 0;
  raise();
}

void IdeChannel::packet_done() {
  registers_.count[0] = COMMAND_PHASE | IO_TO_HOST;
  succeed();
}

void IdeChannel::abort(std::uint8_t error) {
  mode_ = Mode::None;
  position_ = end_ = block_end_ = 0;
  disk_left_ = 0;
  status_ = DRDY | DSC | ERR;
  error_ = error;
  raise();
}

/// In the middle of a command.
void IdeChannel::fail(const AtaAction& failure) {
  if (is_cdrom()) registers_.count[0] = COMMAND_PHASE | IO_TO_HOST;
  abort(failure.error);
}

void IdeChannel::flush() {
  status_ = BSY;
  waiting_ = true;
  disk::IoRequest request;
  request.kind = disk::IoKind::Flush;
  request.done = [this, generation = generation_](disk::IoStatus status) {
    if (generation != generation_) return;
    waiting_ = false;
    if (status == disk::IoStatus::Ok) return succeed();
    if (status != disk::IoStatus::Cancelled) abort(ABRT);
  };
  drive().backend().submit(std::move(request));
  drive().backend().start();
}

}  // namespace veneer::devices
