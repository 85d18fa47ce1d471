// MSI-X table: masking, pending bits, sending.
#include "devices/pci/msix.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace veneer::devices {

MsixTable::MsixTable(unsigned vectors, std::function<void(std::uint64_t, std::uint32_t)> send)
    : send_(std::move(send)), entries_(vectors), pending_(vectors) {
  VENEER_ASSERT(vectors >= 1 && vectors <= max_vectors);
}

void MsixTable::set_control(bool enabled, bool function_masked) {
  enabled_ = enabled;
  function_masked_ = function_masked;
  send_pending();
}

void MsixTable::signal(unsigned vector) {
  if (!enabled_ || vector >= entries_.size()) return;
  pending_[vector] = true;
  send_pending();
}

void MsixTable::send_pending() {
  if (!enabled_) return;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (!pending_[i] || masked(entry)) continue;
    pending_[i] = false;
    send_((std::uint64_t{entry.address_high} << 32) | entry.address_low, entry.data);
  }
}

std::uint64_t MsixTable::read(std::uint64_t offset, unsigned size_bytes) {
  if (offset % size_bytes != 0 || size_bytes < 4) return 0;
  std::uint64_t value = read_dword(offset);
  if (size_bytes == 8) value |= std::uint64_t{read_dword(offset + 4)} << 32;
  return value;
}

void MsixTable::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset % size_bytes != 0 || size_bytes < 4) return;
  write_dword(offset, static_cast<std::uint32_t>(value));
  if (size_bytes == 8) write_dword(offset + 4, static_cast<std::uint32_t>(value >> 32));
  send_pending();
}

std::uint32_t MsixTable::read_dword(std::uint64_t offset) const {
  if (offset >= pba_offset) {
    std::uint32_t bits = 0;
    const std::uint64_t first = (offset - pba_offset) * 8;
    for (unsigned i = 0; i < 32; ++i)
      if (first + i < pending_.size() && pending_[static_cast<std::size_t>(first + i)]) bits |= 1u << i;
    return bits;
  }
  if (offset / entry_bytes >= entries_.size()) return 0;
  const Entry& entry = entries_[static_cast<std::size_t>(offset / entry_bytes)];
  switch (offset % entry_bytes) {
    case 0:
      return entry.address_low;
    case 4:
      return entry.address_high;
    case 8:
      return entry.data;
    default:
      return entry.control;
  }
}

void MsixTable::write_dword(std::uint64_t offset, std::uint32_t value) {
  if (offset >= pba_offset || offset / entry_bytes >= entries_.size()) return;  // pending bits are read-only
  Entry& entry = entries_[static_cast<std::size_t>(offset / entry_bytes)];
  switch (offset % entry_bytes) {
    case 0:
      entry.address_low = value & ~std::uint32_t{3};
      break;
    case 4:
      entry.address_high = value;
      break;
    case 8:
      entry.data = value;
      break;
    default:
      entry.control = value & 1;
      break;
  }
}

void MsixTable::save(machine::SnapshotWriter& out) const {
  out.section("msix");
  for (const Entry& entry : entries_) out.put(entry);
  for (const bool bit : pending_) out.put(static_cast<std::uint8_t>(bit));
  out.put(static_cast<std::uint8_t>(enabled_));
  out.put(static_cast<std::uint8_t>(function_masked_));
}

void MsixTable::restore(machine::SnapshotReader& in) {
  in.section("msix");
  for (Entry& entry : entries_) in.get(entry);
  for (std::size_t i = 0; i < pending_.size(); ++i) pending_[i] = in.get<std::uint8_t>() != 0;
  enabled_ = in.get<std::uint8_t>() != 0;
  function_masked_ = in.get<std::uint8_t>() != 0;
}

void MsixTable::reset() {
  std::ranges::fill(entries_, Entry{});
  pending_.assign(pending_.size(), false);
  enabled_ = function_masked_ = false;
}

}  // namespace veneer::devices
