// Bus: a sorted list of ranges.
#include "machine/bus.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"

namespace veneer::machine {

Result<void> Bus::map(std::uint64_t base, std::uint64_t size, Device& device, std::string label) {
  std::lock_guard guard(lock_);
  const std::uint64_t last = base + (size - 1);
  if (size == 0 || last < base) return Error(fmt::format("{} bus: {} has no valid range", name_, label));
  const auto after = std::lower_bound(ranges_.begin(), ranges_.end(), base,
                                      [](const Range& range, std::uint64_t at) { return range.base < at; });
  const Range* clash = nullptr;
  if (after != ranges_.end() && after->base <= last) clash = &*after;
  if (after != ranges_.begin() && base - std::prev(after)->base < std::prev(after)->size) clash = &*std::prev(after);
  if (clash) {
    return Error(fmt::format("{} bus: {} at {:#x}-{:#x} overlaps {} at {:#x}-{:#x}", name_, label, base, last,
                             clash->label, clash->base, clash->base + (clash->size - 1)));
  }
  ranges_.insert(after, Range{base, size, &device, std::move(label)});
  return {};
}

void Bus::unmap(std::uint64_t base) {
  std::lock_guard guard(lock_);
  std::erase_if(ranges_, [base](const Range& range) { return range.base == base; });
}

const Bus::Range* Bus::find(std::uint64_t address) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                      [](std::uint64_t at, const Range& range) { return at < range.base; });
  if (after == ranges_.begin()) return nullptr;
  const Range& range = *std::prev(after);
  return address - range.base < range.size ? &range : nullptr;
}

std::uint64_t Bus::read(std::uint64_t address, unsigned size_bytes) {
  std::lock_guard guard(lock_);
  // Copied: the device may map or unmap ranges (a PCI BAR) while it answers.
  if (const Range* range = find(address); range && size_bytes <= range->size - (address - range->base)) {
    Device& device = *range->device;
    return device.read(address - range->base, size_bytes) & byte_mask(size_bytes);
  }
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i) {
    const Range* range = find(address + i);
    const std::uint64_t byte = range ? range->device->read(address + i - range->base, 1) & 0xff : 0xff;
    value |= byte << (8 * i);
  }
  return value;
}

void Bus::write(std::uint64_t address, unsigned size_bytes, std::uint64_t value) {
  std::lock_guard guard(lock_);
  if (const Range* range = find(address); range && size_bytes <= range->size - (address - range->base)) {
    Device& device = *range->device;
    device.write(address - range->base, size_bytes, value & byte_mask(size_bytes));
    return;
  }
  for (unsigned i = 0; i < size_bytes; ++i)
    if (const Range* range = find(address + i))
      range->device->write(address + i - range->base, 1, (value >> (8 * i)) & 0xff);
}

bool Bus::has_device(std::uint64_t address) const {
  std::lock_guard guard(lock_);
  return find(address) != nullptr;
}

}  // namespace veneer::machine
