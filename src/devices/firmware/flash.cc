// Commands of the flash chip.
#include "devices/firmware/flash.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace veneer::devices {
namespace {

/// Data sheet table 4.
enum Command : std::uint8_t {
  LOCK_CONFIRM = 0x01,
  PROGRAM = 0x10,
  BLOCK_ERASE = 0x20,
  PROGRAM_ALTERNATE = 0x40,
  CLEAR_STATUS = 0x50,
  LOCK_SETUP = 0x60,
  READ_STATUS = 0x70,
  READ_IDENTIFIER = 0x90,
  READ_QUERY = 0x98,
  CONFIRM = 0xd0,
  WRITE_TO_BUFFER = 0xe8,
  READ_ARRAY = 0xff,
};

constexpr std::uint8_t manufacturer_intel = 0x89, device_28f128j3 = 0x18;

}  // namespace

CfiFlash::CfiFlash(std::span<std::byte> contents, FlashStore* store, std::function<void(bool)> show)
    : contents_(contents), store_(store), show_(std::move(show)) {}

void CfiFlash::show(Shows what) {
  const bool was_array = shows_ == Shows::Array, array = what == Shows::Array;
  shows_ = what;
  if (was_array == array) return;
  show_(array);
  if (array && store_) store_->settle();
}

/// The common flash interface's table, from 10h on.
std::uint8_t CfiFlash::query(std::uint64_t offset) const {
  const auto blocks = static_cast<std::uint32_t>(contents_.size() / block_bytes - 1);
  const auto size_log2 = static_cast<std::uint8_t>(std::bit_width(contents_.size() - 1));
  constexpr std::uint32_t block_units = block_bytes / 256;
  const std::array<std::uint8_t, 0x21> table = {
      'Q',
      'R',
      'Y',
      0x01,
      0x00,
      0x31,
      0x00,  // command set 0001h, its own table at 31h
      0x00,
      0x00,
      0x00,
      0x00,  // no other command set
      0x45,
      0x55,
      0x00,
      0x00,  // 4.5 to 5.5 V, programming without another voltage
      0x07,
      0x07,
      0x0a,
      0x00,  // typical times: 2^n us for a byte and a buffer, 2^n ms for a block
      0x04,
      0x04,
      0x04,
      0x00,  // how many times that at most, as powers of two
      size_log2,
      0x00,
      0x00,  // 2^n bytes; a bus of 8 bits
      std::bit_width(buffer_bytes) - 1,
      0x00,
      0x01,  // one region of equal blocks
      static_cast<std::uint8_t>(blocks),
      static_cast<std::uint8_t>(blocks >> 8),
      static_cast<std::uint8_t>(block_units),
      static_cast<std::uint8_t>(block_units >> 8)};
  constexpr std::array<std::uint8_t, 5> extension = {'P', 'R', 'I', '1', '1'};
  if (offset < 0x10) return 0;
  if (offset - 0x10 < table.size()) return table[offset - 0x10];
  return offset - 0x31 < extension.size() ? extension[offset - 0x31] : std::uint8_t{0};
}

std::uint8_t CfiFlash::byte_at(std::uint64_t offset) const {
  switch (shows_) {
    case Shows::Array:
      return std::to_integer<std::uint8_t>(contents_[offset]);
    case Shows::Status:
      return status_;
    case Shows::Identifier:
      offset %= block_bytes;
      return offset == 0 ? manufacturer_intel : offset == 1 ? device_28f128j3 : std::uint8_t{0};  // 2: not locked
    case Shows::Query:
      return query(offset % block_bytes);
  }
  return 0;
}

std::uint64_t CfiFlash::read(std::uint64_t offset, unsigned size_bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes && offset + i < contents_.size(); ++i)
    value |= std::uint64_t{byte_at(offset + i)} << (8 * i);
  return value;
}

void CfiFlash::done(std::uint8_t errors) {
  expects_ = Expects::Command;
  status_ |= READY | errors;
}

/// Programming makes ones to zeros and nothing else.
void CfiFlash::program(std::uint64_t offset, std::span<const std::byte> data) {
  const std::size_t size = std::min<std::size_t>(data.size(), contents_.size() - offset);
  for (std::size_t i = 0; i < size; ++i) contents_[offset + i] &= data[i];
  const bool kept = !store_ || store_->write(offset, contents_.subspan(offset, size));
  done(kept ? 0 : PROGRAM_ERROR);
}

void CfiFlash::erase(std::uint64_t offset) {
  const auto block = contents_.subspan(offset / block_bytes * block_bytes, block_bytes);
  std::fill(block.begin(), block.end(), std::byte{0xff});
  const bool kept = !store_ || store_->write(offset / block_bytes * block_bytes, block);
  done(kept ? 0 : ERASE_ERROR);
}

/// The first write says where the buffer begins; the others are somewhere in it, in any order.
void CfiFlash::fill_buffer(std::uint64_t offset, std::span<const std::byte> data) {
  if (buffered_bytes_ == 0) buffer_offset_ = offset;
  for (std::size_t i = 0; i < data.size(); ++i) {
    const std::uint64_t place = offset + i - buffer_offset_;
    if (place >= expected_bytes_) return done(PROGRAM_ERROR | ERASE_ERROR);
    buffer_[place] = data[i];
    ++buffered_bytes_;
  }
  if (buffered_bytes_ >= expected_bytes_) expects_ = Expects::BufferConfirm;
}

void CfiFlash::command(std::uint8_t value) {
  switch (value) {
    case READ_ARRAY:
      return show(Shows::Array);
    case READ_IDENTIFIER:
      return show(Shows::Identifier);
    case READ_QUERY:
      return show(Shows::Query);
    case CLEAR_STATUS:
      status_ = 0;
      return show(Shows::Array);
    case READ_STATUS:
      return show(Shows::Status);
    case PROGRAM:
    case PROGRAM_ALTERNATE:
      expects_ = Expects::Program;
      return show(Shows::Status);
    case BLOCK_ERASE:
      expects_ = Expects::EraseConfirm;
      return show(Shows::Status);
    case LOCK_SETUP:
      expects_ = Expects::LockSetup;
      return show(Shows::Status);
    case WRITE_TO_BUFFER:
      status_ |= READY;  // the extended status: there is a buffer
      expects_ = Expects::BufferCount;
      return show(Shows::Status);
    default:
      return;  // reserved
  }
}

void CfiFlash::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset >= contents_.size()) return;
  const auto low = static_cast<std::uint8_t>(value);
  const auto data = std::as_bytes(std::span(&value, 1)).first(size_bytes);
  switch (expects_) {
    case Expects::Command:
      return command(low);
    case Expects::Program:
      return program(offset, data);
    case Expects::EraseConfirm:
      return low == CONFIRM ? erase(offset) : done(PROGRAM_ERROR | ERASE_ERROR);
    case Expects::LockSetup:
      return done(low == CONFIRM || low == LOCK_CONFIRM ? 0 : PROGRAM_ERROR | ERASE_ERROR);
    case Expects::BufferCount:
      if (low >= buffer_bytes) return done(PROGRAM_ERROR | ERASE_ERROR);
      expected_bytes_ = static_cast<std::uint8_t>(low + 1);
      buffered_bytes_ = 0;
      buffer_.fill(std::byte{0xff});
      expects_ = Expects::BufferData;
      return;
    case Expects::BufferData:
      return fill_buffer(offset, data);
    case Expects::BufferConfirm:
      if (low != CONFIRM) return done(PROGRAM_ERROR | ERASE_ERROR);
      return program(buffer_offset_, std::span(buffer_).first(expected_bytes_));
  }
}

void CfiFlash::save(machine::SnapshotWriter& out) const {
  out.section("flash");
  out.put(static_cast<std::uint64_t>(contents_.size()));
  out.put(static_cast<std::uint8_t>(shows_));
  out.put(static_cast<std::uint8_t>(expects_));
  out.put(status_);
  out.put(expected_bytes_);
  out.put(buffered_bytes_);
  out.put(buffer_offset_);
  out.put(buffer_);
  out.bytes(contents_);
}

void CfiFlash::restore(machine::SnapshotReader& in) {
  in.section("flash");
  if (in.get<std::uint64_t>() != contents_.size()) in.fail();
  const auto shows = in.get<std::uint8_t>();
  const auto expects = in.get<std::uint8_t>();
  in.get(status_);
  in.get(expected_bytes_);
  in.get(buffered_bytes_);
  in.get(buffer_offset_);
  in.get(buffer_);
  if (shows > static_cast<std::uint8_t>(Shows::Query) || expects > static_cast<std::uint8_t>(Expects::BufferConfirm) ||
      expected_bytes_ > buffer_bytes || buffered_bytes_ > buffer_bytes || buffer_offset_ >= contents_.size())
    in.fail();
  if (!in.ok()) return reset();
  in.bytes(contents_);
  expects_ = static_cast<Expects>(expects);
  shows_ = static_cast<Shows>(shows);
  show_(shows_ == Shows::Array);
  if (!store_) return;
  (void)store_->write(0, contents_);
  store_->settle();
}

void CfiFlash::reset() {
  expects_ = Expects::Command;
  status_ = READY;
  expected_bytes_ = buffered_bytes_ = 0;
  buffer_offset_ = 0;
  buffer_.fill(std::byte{0});
  show(Shows::Array);
}

}  // namespace veneer::devices
