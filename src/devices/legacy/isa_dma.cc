// The 8237A pair: registers, and moving bytes.
#include "devices/legacy/isa_dma.h"

#include <utility>

namespace veneer::devices {
namespace {

// Registers behind those of the channels
enum Register : unsigned {
  STATUS_COMMAND = 8,
  REQUEST = 9,
  SINGLE_MASK = 10,
  MODE = 11,
  CLEAR_FLIP_FLOP = 12,
  MASTER_CLEAR = 13,
  CLEAR_MASK = 14,
  ALL_MASKS = 15,
};
constexpr std::uint8_t COMMAND_DISABLE = 0x04;
constexpr std::uint8_t MODE_AUTOINIT = 0x10, MODE_DECREMENT = 0x20;
/// Page register (80h + index) to channel.
constexpr std::array<std::int8_t, 16> page_channels = {-1, 2, 3, 1, -1, -1, -1, 0, -1, 6, 7, 5, -1, -1, -1, 4};

}  // namespace

void IsaDma::reset() {
  for (Chip& chip : chips_) chip.reset();
  pages_.reset();
}

// --- moving ---

template <typename Move>
DmaMoved IsaDma::move(unsigned number, std::size_t bytes, Transfer wanted, Move one) {
  Chip& chip = chips_[number / 4];
  Channel& channel = chip.channels[number % 4];
  const auto bit = static_cast<std::uint8_t>(1u << number % 4);
  DmaMoved moved;
  const Transfer transfer = channel.transfer();
  if ((chip.command & COMMAND_DISABLE) || (chip.mask & bit)) return moved;
  if (transfer != wanted && transfer != Transfer::Verify) return moved;
  const std::size_t unit = std::size_t{1} << chip.shift;
  while (moved.bytes + unit <= bytes && !moved.terminal_count) {
    const GuestPhys address{(std::uint64_t{channel.page} & ~std::uint64_t{chip.shift}) << 16 |
                            std::uint64_t{channel.address} << chip.shift};
    if (transfer == wanted) one(address, moved.bytes, unit);
    moved.bytes += unit;
    channel.address = static_cast<std::uint16_t>(channel.address + ((channel.mode & MODE_DECREMENT) ? -1 : 1));
    moved.terminal_count = channel.count-- == 0;
  }
  if (!moved.terminal_count) return moved;
  chip.status |= bit;
  if (channel.mode & MODE_AUTOINIT) {
    channel.address = channel.base_address;
    channel.count = channel.base_count;
  } else {
    chip.mask |= bit;
  }
  return moved;
}

DmaMoved IsaDma::to_memory(unsigned channel, std::span<const std::uint8_t> data) {
  return move(channel, data.size(), Transfer::ToMemory, [&](GuestPhys address, std::size_t at, std::size_t unit) {
    (void)memory_.write(address, std::as_bytes(data.subspan(at, unit)));
  });
}

DmaMoved IsaDma::from_memory(unsigned channel, std::span<std::uint8_t> data) {
  return move(channel, data.size(), Transfer::FromMemory, [&](GuestPhys address, std::size_t at, std::size_t unit) {
    if (!memory_.read(address, std::as_writable_bytes(data.subspan(at, unit))))
      for (std::size_t i = 0; i < unit; ++i) data[at + i] = 0xff;
  });
}

// --- registers ---

std::uint8_t IsaDma::Chip::read_byte(unsigned offset) {
  const unsigned index = offset >> shift & 15;
  if (index < 8) {
    const Channel& channel = channels[index / 2];
    const std::uint16_t value = (index & 1) ? channel.count : channel.address;
    return static_cast<std::uint8_t>(std::exchange(high_byte, !high_byte) ? value >> 8 : value);
  }
  if (index == STATUS_COMMAND) return std::exchange(status, static_cast<std::uint8_t>(status & 0xf0));
  return index == ALL_MASKS ? static_cast<std::uint8_t>(0xf0 | mask) : 0;
}

void IsaDma::Chip::write_byte(unsigned offset, std::uint8_t value) {
  const unsigned index = offset >> shift & 15;
  if (index < 8) {
    Channel& channel = channels[index / 2];
    std::uint16_t& base = (index & 1) ? channel.base_count : channel.base_address;
    base = std::exchange(high_byte, !high_byte) ? static_cast<std::uint16_t>((base & 0xff) | value << 8)
                                                : static_cast<std::uint16_t>((base & 0xff00) | value);
    ((index & 1) ? channel.count : channel.address) = base;
    return;
  }
  const auto bit = static_cast<std::uint8_t>(1u << (value & 3));
  const auto set = [&](std::uint8_t& bits, std::uint8_t which) {
    bits = static_cast<std::uint8_t>((value & 4) ? bits | which : bits & ~which);
  };
  switch (index) {
    case STATUS_COMMAND:
      command = value;
      return;
    case REQUEST:
      return set(status, static_cast<std::uint8_t>(bit << 4));
    case SINGLE_MASK:
      return set(mask, bit);
    case MODE:
      channels[value & 3].mode = value;
      return;
    case CLEAR_FLIP_FLOP:
      high_byte = false;
      return;
    case MASTER_CLEAR:
      return clear();
    case CLEAR_MASK:
      mask = 0;
      return;
    default:
      mask = value & 0xf;
      return;
  }
}

void IsaDma::Chip::clear() {
  command = status = 0;
  mask = 0xf;
  high_byte = false;
}

void IsaDma::Chip::reset() {
  channels = {};
  clear();
}

IsaDma::Channel* IsaDma::with_page(unsigned index) {
  const int channel = page_channels[index];
  return channel < 0 ? nullptr
                     : &chips_[static_cast<unsigned>(channel) / 4].channels[static_cast<unsigned>(channel) % 4];
}

std::uint8_t IsaDma::Pages::read_byte(unsigned offset) {
  const unsigned index = (offset + 1) & 15;  // port 80h is not ours
  const Channel* const channel = dma.with_page(index);
  return channel != nullptr ? channel->page : spare[index];
}

void IsaDma::Pages::write_byte(unsigned offset, std::uint8_t value) {
  const unsigned index = (offset + 1) & 15;
  Channel* const channel = dma.with_page(index);
  (channel != nullptr ? channel->page : spare[index]) = value;
}

// --- snapshots ---

void IsaDma::Chip::save(machine::SnapshotWriter& out) const {
  out.section("8237a");
  for (const Channel& channel : channels) {
    for (const std::uint16_t value : {channel.base_address, channel.base_count, channel.address, channel.count})
      out.put(value);
    out.put(channel.mode);
    out.put(channel.page);
  }
  for (const std::uint8_t value : {command, status, mask, static_cast<std::uint8_t>(high_byte)}) out.put(value);
}

void IsaDma::Chip::restore(machine::SnapshotReader& in) {
  in.section("8237a");
  for (Channel& channel : channels) {
    for (std::uint16_t* value : {&channel.base_address, &channel.base_count, &channel.address, &channel.count})
      in.get(*value);
    in.get(channel.mode);
    in.get(channel.page);
  }
  in.get(command);
  in.get(status);
  mask = in.get<std::uint8_t>() & 0xf;
  high_byte = in.get<std::uint8_t>() != 0;
}

void IsaDma::Pages::save(machine::SnapshotWriter& out) const {
  out.section("dma-pages");
  out.put(spare);
}

void IsaDma::Pages::restore(machine::SnapshotReader& in) {
  in.section("dma-pages");
  in.get(spare);
}

}  // namespace veneer::devices
