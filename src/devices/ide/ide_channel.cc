// Registers of an IDE channel, and how data moves (ide_commands.cc has how commands begin and end).
#include "devices/ide/ide_channel.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "devices/ata/ata.h"

namespace veneer::devices {

using namespace ata;

IdeChannel::IdeChannel(machine::IrqLine& irq, const machine::DmaSpace& memory)
    : irq_(irq), bus_master_(memory), buffer_(buffer_bytes) {
  bus_master_.set_start_listener([this] { pump_dma(); });
  IdeChannel::reset();
}

void IdeChannel::attach(unsigned index, AtaDriveKind kind, disk::Backend& backend) {
  drives_[index].attach(kind, backend);
  set_signature();
}

// --- registers ---

void IdeChannel::update_line() { irq_.set(interrupt_ && !(device_control_ & NIEN)); }

void IdeChannel::raise() {
  interrupt_ = true;
  bus_master_.note_interrupt();
  update_line();
}

void IdeChannel::lower() {
  interrupt_ = false;
  update_line();
}

/// What a drive shows after a reset (ATA-6 9.12).
void IdeChannel::set_signature() {
  drive().set_signature(registers_);
  error_ = 1;  // diagnostic code: passed
  status_ = drive().status_after_reset();
}

std::uint64_t IdeChannel::read(std::uint64_t offset, unsigned size_bytes) {
  if (offset == 0) return read_data(size_bytes);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i)
    value |= std::uint64_t{read_register(static_cast<unsigned>(offset) + i)} << (8 * i);
  return value;
}

void IdeChannel::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset == 0) return write_data(size_bytes, value);
  for (unsigned i = 0; i < size_bytes; ++i)
    write_register(static_cast<unsigned>(offset) + i, static_cast<std::uint8_t>(value >> (8 * i)));
}

std::uint8_t IdeChannel::read_register(unsigned offset) {
  if (!present() && offset != DEVICE) return 0;
  const unsigned older = (device_control_ & HOB) ? 1 : 0;
  switch (offset) {
    case ERROR_FEATURES:
      return older ? registers_.features[1] : error_;
    case SECTOR_COUNT:
      return registers_.count[older];
    case LBA_LOW:
      return registers_.low[older];
    case LBA_MID:
      return registers_.mid[older];
    case LBA_HIGH:
      return registers_.high[older];
    case DEVICE:
      return registers_.device | 0xa0;
    case STATUS_COMMAND:
      lower();
      return status_;
    default:
      return 0xff;
  }
}

void IdeChannel::write_register(unsigned offset, std::uint8_t value) {
  device_control_ = static_cast<std::uint8_t>(device_control_ & ~HOB);  // any write of the command block (ATA-6 7.8.2)
  if (offset == STATUS_COMMAND) return command(value);
  if (status_ & (BSY | DRQ)) return;
  const auto put = [value](TaskFile::Pair& reg) {
    reg[1] = reg[0];
    reg[0] = value;
  };
  switch (offset) {
    case ERROR_FEATURES:
      return put(registers_.features);
    case SECTOR_COUNT:
      return put(registers_.count);
    case LBA_LOW:
      return put(registers_.low);
    case LBA_MID:
      return put(registers_.mid);
    case LBA_HIGH:
      return put(registers_.high);
    case DEVICE:
      registers_.device = value;
      return;
    default:
      return;
  }
}

void IdeChannel::write_control(std::uint8_t value) {
  const bool resets = (value & SRST) && !(device_control_ & SRST);
  const bool released = !(value & SRST) && (device_control_ & SRST);
  device_control_ = value;
  if (resets) {
    drop_transfer();
    for (AtaDrive& each : drives_) each.soft_reset();
    registers_.device = 0;
    interrupt_ = false;
    status_ = BSY;
  }
  if (released) set_signature();
  update_line();
}

// --- moving data ---

std::uint64_t IdeChannel::read_data(unsigned size_bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes && mode_ == Mode::PioIn && (status_ & DRQ) && position_ < block_end_; ++i)
    value |= std::uint64_t{buffer_[position_++]} << (8 * i);
  if (mode_ == Mode::PioIn && (status_ & DRQ) && position_ >= block_end_) next_block_in();
  return value;
}

void IdeChannel::write_data(unsigned size_bytes, std::uint64_t value) {
  if ((mode_ != Mode::PioOut && mode_ != Mode::Packet) || !(status_ & DRQ)) return;
  for (unsigned i = 0; i < size_bytes && position_ < block_end_; ++i)
    buffer_[position_++] = static_cast<std::uint8_t>(value >> (8 * i));
  if (position_ < block_end_) return;
  if (mode_ == Mode::Packet) return perform_packet();
  status_ = BSY;
  store(position_);
}

/// Data to the host: what is in the buffer, then disk_left_ bytes of the disk.
void IdeChannel::start_in(Mode mode, std::size_t block_bytes) {
  mode_ = mode;
  block_bytes_ = block_bytes;
  if (mode == Mode::PioIn) return next_block_in();
  status_ = DRDY | DSC | DRQ;
  pump_dma();
}

void IdeChannel::start_out(Mode mode, std::size_t block_bytes) {
  mode_ = mode;
  block_bytes_ = block_bytes;
  if (mode == Mode::PioOut) return next_block_out();
  status_ = DRDY | DSC | DRQ;
  pump_dma();
}

void IdeChannel::next_block_in() {
  if (position_ == end_) {
    if (disk_left_ != 0) return fetch();
    return finish_transfer();
  }
  block_end_ = std::min(position_ + block_bytes_, end_);
  status_ = DRDY | DSC | DRQ;
  if (is_cdrom()) {  // the size of each block, and its direction (ATA-6 8.23.6)
    const std::size_t bytes = block_end_ - position_;
    registers_.mid[0] = static_cast<std::uint8_t>(bytes);
    registers_.high[0] = static_cast<std::uint8_t>(bytes >> 8);
    registers_.count[0] = IO_TO_HOST;
  }
  raise();
}

/// The first block comes without an interrupt (ATA-6 9.6).
void IdeChannel::next_block_out() {
  if (disk_left_ == 0) return finish_transfer();
  position_ = 0;
  block_end_ = static_cast<std::size_t>(std::min<std::uint64_t>(block_bytes_, disk_left_));
  const bool first = !(status_ & BSY);
  status_ = DRDY | DSC | DRQ;
  if (!first) raise();
}

void IdeChannel::fetch() {
  ask_disk(disk::IoKind::Read, static_cast<std::size_t>(std::min<std::uint64_t>(disk_left_, buffer_bytes)));
}

void IdeChannel::store(std::size_t bytes) { ask_disk(disk::IoKind::Write, bytes); }

void IdeChannel::ask_disk(disk::IoKind kind, std::size_t bytes) {
  status_ = BSY;
  waiting_ = true;
  disk::IoRequest request{kind, disk_offset_, bytes, {{buffer_.data(), bytes}}};
  request.done = [this, kind, bytes, generation = generation_](disk::IoStatus status) {
    if (generation == generation_) disk_done(status, kind == disk::IoKind::Write, bytes);
  };
  disk::Backend& backend = drive().backend();
  backend.submit(std::move(request));
  backend.start();
}

void IdeChannel::disk_done(disk::IoStatus status, bool write, std::size_t bytes) {
  waiting_ = false;
  if (status == disk::IoStatus::Cancelled) return;
  if (status != disk::IoStatus::Ok) return fail(drive().failure(status));
  disk_offset_ += bytes;
  disk_left_ -= bytes;
  position_ = 0;
  end_ = write ? 0 : bytes;
  // A disk that answers at once would call us from inside our own request, as deep as the command is long.
  piece_done_ = true;
  if (std::exchange(advancing_, true)) return;
  while (std::exchange(piece_done_, false)) advance();
  advancing_ = false;
}

/// The disk has done its part of a piece.
void IdeChannel::advance() {
  switch (mode_) {
    case Mode::PioIn:
      return next_block_in();
    case Mode::PioOut:
      return next_block_out();
    case Mode::DmaIn:
    case Mode::DmaOut:
      status_ = DRDY | DSC | DRQ;
      return pump_dma();
    default:
      return;
  }
}

/// Goes on with a DMA transfer when both the drive and the bus master are ready.
void IdeChannel::pump_dma() {
  if (waiting_ || !bus_master_.active() || !(status_ & DRQ)) return;
  if (mode_ == Mode::DmaIn) {
    if (!bus_master_.to_memory(std::span(buffer_).subspan(position_, end_ - position_))) {
      bus_master_.finish();
      return fail(drive().transfer_failure());
    }
    position_ = end_ = 0;
    if (disk_left_ != 0) return fetch();
  } else if (mode_ == Mode::DmaOut) {
    if (disk_left_ != 0) {
      const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(disk_left_, buffer_bytes));
      if (!bus_master_.from_memory(std::span(buffer_).first(bytes))) {
        bus_master_.finish();
        return fail(drive().transfer_failure());
      }
      return store(bytes);
    }
  } else {
    return;
  }
  bus_master_.finish();
  finish_transfer();
}

void IdeChannel::finish_transfer() {
  const Mode mode = std::exchange(mode_, Mode::None);
  position_ = end_ = block_end_ = 0;
  if (is_cdrom()) return packet_done();
  status_ = DRDY | DSC;
  error_ = 0;
  if (mode != Mode::PioIn) raise();  // reading the last block has been announced already
}

/// Nothing of the command in progress touches the buffer any more.
void IdeChannel::drop_transfer() {
  ++generation_;
  if (waiting_ && present()) drive().backend().settle();
  waiting_ = false;
  mode_ = Mode::None;
  position_ = end_ = block_end_ = 0;
  disk_left_ = 0;
}

// --- state ---

void IdeChannel::save(machine::SnapshotWriter& out) const {
  for (const AtaDrive& each : drives_)
    if (waiting_ && each.present()) each.backend().settle();
  out.section("ide");
  for (const auto* pair : {&registers_.features, &registers_.count, &registers_.low, &registers_.mid, &registers_.high})
    for (const std::uint8_t value : *pair) out.put(value);
  for (const std::uint8_t value : {registers_.device, status_, error_, device_control_}) out.put(value);
  out.put(static_cast<std::uint8_t>(interrupt_));
  for (const AtaDrive& each : drives_) each.save(out);
  out.put(static_cast<std::uint8_t>(mode_));
  for (const std::uint64_t value : {std::uint64_t{position_}, std::uint64_t{end_}, std::uint64_t{block_end_},
                                    std::uint64_t{block_bytes_}, disk_offset_, disk_left_})
    out.put(value);
  out.bytes(std::as_bytes(std::span(buffer_).first(std::max(end_, block_end_))));
  bus_master_.save(out);
}

void IdeChannel::restore(machine::SnapshotReader& in) {
  drop_transfer();
  in.section("ide");
  for (auto* pair : {&registers_.features, &registers_.count, &registers_.low, &registers_.mid, &registers_.high})
    for (std::uint8_t& value : *pair) in.get(value);
  for (std::uint8_t* value : {&registers_.device, &status_, &error_, &device_control_}) in.get(*value);
  interrupt_ = in.get<std::uint8_t>() != 0;
  for (AtaDrive& each : drives_) each.restore(in);
  const auto mode = in.get<std::uint8_t>();
  for (std::size_t* value : {&position_, &end_, &block_end_, &block_bytes_})
    *value = static_cast<std::size_t>(in.get<std::uint64_t>());
  in.get(disk_offset_);
  in.get(disk_left_);
  const std::uint64_t size = present() ? drive().backend().size_bytes() : 0;
  const auto is = [mode](Mode which) { return mode == static_cast<std::uint8_t>(which); };
  const bool in_data = is(Mode::PioIn) || is(Mode::DmaIn);
  // What is left from earlier commands, maybe of the other drive, means nothing.
  const bool moving = in_data || is(Mode::PioOut) || is(Mode::DmaOut);
  const bool sane = mode < static_cast<std::uint8_t>(Mode::count) && end_ <= buffer_bytes &&
                    block_end_ <= buffer_bytes && position_ <= (in_data ? end_ : std::max(end_, block_end_)) &&
                    block_bytes_ <= buffer_bytes &&
                    (!moving || (block_bytes_ != 0 && disk_offset_ <= size && disk_left_ <= size - disk_offset_));
  mode_ = sane ? static_cast<Mode>(mode) : Mode::None;
  if (!sane) {
    in.fail();
    position_ = end_ = block_end_ = block_bytes_ = 0;
    disk_offset_ = disk_left_ = 0;
    status_ = 0;
  }
  in.bytes(std::as_writable_bytes(std::span(buffer_).first(std::max(end_, block_end_))));
  bus_master_.restore(in);
  update_line();
}

void IdeChannel::reset() {
  for (const AtaDrive& each : drives_)
    if (each.present()) each.backend().cancel();
  drop_transfer();
  for (AtaDrive& each : drives_) each.reset();
  registers_ = {};
  device_control_ = 0;
  interrupt_ = false;
  block_bytes_ = 0;
  disk_offset_ = 0;
  std::fill(buffer_.begin(), buffer_.end(), std::uint8_t{0});
  bus_master_.reset();
  set_signature();
  update_line();
}

}  // namespace veneer::devices
