// Physical region descriptors.
#include "devices/ide/bus_master.h"

#include <algorithm>

namespace veneer::devices {
namespace {

struct Descriptor {
  std::uint32_t address;  // bit 0 reserved
  std::uint16_t bytes;    // 0: 64 KiB
  std::uint16_t flags;
};
static_assert(sizeof(Descriptor) == 8);
constexpr std::uint16_t END_OF_TABLE = 0x8000;

}  // namespace

bool BusMaster::next_entry() {
  Descriptor descriptor{};
  if (last_ || !memory_.read_value(GuestPhys{entry_}, descriptor)) return false;
  entry_ += sizeof descriptor;
  address_ = descriptor.address & ~1u;
  left_ = (descriptor.bytes & 0xfffeu) ? descriptor.bytes & 0xfffeu : 0x1'0000;
  last_ = (descriptor.flags & END_OF_TABLE) != 0;
  return true;
}

template <typename Move>
bool BusMaster::transfer(std::size_t bytes, Move move) {
  for (std::size_t done = 0; done < bytes;) {
    if (left_ == 0 && !next_entry()) {
      status_ |= ERROR;
      return false;
    }
    const std::size_t piece = std::min<std::size_t>(left_, bytes - done);
    if (!move(GuestPhys{address_}, done, piece)) {
      status_ |= ERROR;
      return false;
    }
    address_ += static_cast<std::uint32_t>(piece);
    left_ -= static_cast<std::uint32_t>(piece);
    done += piece;
  }
  return true;
}

bool BusMaster::to_memory(std::span<const std::uint8_t> data) {
  return transfer(data.size(), [&](GuestPhys address, std::size_t done, std::size_t piece) {
    return memory_.write(address, std::as_bytes(data.subspan(done, piece)));
  });
}

bool BusMaster::from_memory(std::span<std::uint8_t> data) {
  return transfer(data.size(), [&](GuestPhys address, std::size_t done, std::size_t piece) {
    return memory_.read(address, std::as_writable_bytes(data.subspan(done, piece)));
  });
}

std::uint8_t BusMaster::read(unsigned offset) const {
  if (offset == 0) return command_;
  if (offset == 2) return status_;
  if (offset >= 4 && offset < 8) return static_cast<std::uint8_t>(table_ >> (8 * (offset - 4)));
  return 0xff;
}

void BusMaster::write(unsigned offset, std::uint8_t value) {
  if (offset == 0) {
    const bool starts = (value & START) && !(command_ & START);
    command_ = value & (START | TO_MEMORY);
    if (!(command_ & START)) finish();
    if (!starts) return;
    status_ |= ACTIVE;
    entry_ = table_;
    left_ = 0;
    last_ = false;
    if (started_) started_();
  } else if (offset == 2) {
    const auto kept = static_cast<std::uint8_t>(status_ & ~value & (ERROR | INTERRUPT));
    status_ = static_cast<std::uint8_t>((status_ & ACTIVE) | kept | (value & DRIVE_BITS));
  } else if (offset >= 4 && offset < 8) {
    const unsigned shift = 8 * (offset - 4);
    table_ = ((table_ & ~(0xffu << shift)) | (std::uint32_t{value} << shift)) & ~3u;
  }
}

void BusMaster::save(machine::SnapshotWriter& out) const {
  out.put(command_);
  out.put(status_);
  for (const std::uint32_t value : {table_, entry_, address_, left_}) out.put(value);
  out.put(static_cast<std::uint8_t>(last_));
}

void BusMaster::restore(machine::SnapshotReader& in) {
  command_ = in.get<std::uint8_t>() & (START | TO_MEMORY);
  status_ = in.get<std::uint8_t>() & (ACTIVE | ERROR | INTERRUPT | DRIVE_BITS);
  for (std::uint32_t* value : {&table_, &entry_, &address_, &left_}) in.get(*value);
  if (left_ > 0x1'0000) left_ = 0;
  last_ = in.get<std::uint8_t>() != 0;
}

void BusMaster::reset() {
  command_ = status_ = 0;
  table_ = entry_ = address_ = left_ = 0;
  last_ = false;
}

}  // namespace veneer::devices
