// The devices of test kernels.
#include "devices/legacy/test_device.h"

#include <algorithm>

#include "base/bits.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t flush_first = 4, flush_last = 7;

}  // namespace

std::uint64_t TestPorts::read(std::uint64_t offset, unsigned size_bytes) {
  if (offset >= flush_first && offset <= flush_last) return byte_mask(size_bytes);
  return (data_ >> (8 * (offset & 3))) & byte_mask(size_bytes);
}

void TestPorts::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset >= flush_first && offset <= flush_last) return;
  const unsigned shift = 8 * (offset & 3);
  const auto mask = static_cast<std::uint32_t>(byte_mask(size_bytes) << shift);
  data_ = (data_ & ~mask) | (static_cast<std::uint32_t>(value << shift) & mask);
}

void TestPorts::save(machine::SnapshotWriter& out) const {
  out.section("test_ports");
  out.put(data_);
}

void TestPorts::restore(machine::SnapshotReader& in) {
  in.section("test_ports");
  in.get(data_);
}

std::uint64_t TestLines::read(std::uint64_t, unsigned size_bytes) { return byte_mask(size_bytes); }

void TestLines::write(std::uint64_t offset, unsigned, std::uint64_t value) {
  if (offset >= line_count) return;
  const auto line = static_cast<std::uint16_t>(1u << offset);
  levels_ = static_cast<std::uint16_t>(value ? levels_ | line : levels_ & ~line);
  lines_[offset]->set(value != 0);
}

/// The chips at the other ends reset themselves, after this device or before.
void TestLines::reset() {
  for (unsigned n = 0; n < line_count; ++n)
    if (levels_ & (1u << n)) lines_[n]->set(false);
  levels_ = 0;
}

void TestLines::save(machine::SnapshotWriter& out) const {
  out.section("test_lines");
  out.put(levels_);
}

void TestLines::restore(machine::SnapshotReader& in) {
  in.section("test_lines");
  in.get(levels_);
}

std::uint64_t TestMemory::read(std::uint64_t offset, unsigned size) {
  std::uint64_t value = 0;
  for (unsigned n = 0; n < size && offset + n < size_bytes; ++n) value |= std::uint64_t{bytes_[offset + n]} << (8 * n);
  return value;
}

void TestMemory::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
  for (unsigned n = 0; n < size && offset + n < size_bytes; ++n)
    bytes_[offset + n] = static_cast<std::uint8_t>(value >> (8 * n));
}

void TestMemory::reset() { std::fill(bytes_.begin(), bytes_.end(), std::uint8_t{0}); }

/// Zeros at the end are left out.
void TestMemory::save(machine::SnapshotWriter& out) const {
  out.section("test_memory");
  std::size_t used = bytes_.size();
  while (used > 0 && bytes_[used - 1] == 0) --used;
  out.put(static_cast<std::uint32_t>(used));
  for (std::size_t n = 0; n < used; ++n) out.put(bytes_[n]);
}

void TestMemory::restore(machine::SnapshotReader& in) {
  in.section("test_memory");
  reset();
  const auto used = in.get<std::uint32_t>();
  if (used > bytes_.size()) return in.fail();
  for (std::size_t n = 0; n < used; ++n) in.get(bytes_[n]);
}

}  // namespace veneer::devices
