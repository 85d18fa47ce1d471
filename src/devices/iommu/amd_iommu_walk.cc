// Levels, skipped levels and page sizes.
#include "devices/iommu/amd_iommu_walk.h"

#include <bit>

#include "devices/iommu/amd_iommu_defs.h"

namespace veneer::devices::amd_iommu {
namespace {

constexpr unsigned index_bits = 9;
constexpr std::uint64_t entry_bytes = 8;

/// Address bits below those that index a table of this level.
constexpr unsigned shift_of(unsigned level) { return page_shift + index_bits * (level - 1); }

/// True when the address has a bit above what a table of this level covers.
constexpr bool beyond(std::uint64_t address, unsigned level) {
  return level < levels_max && address >> shift_of(level + 1) != 0;
}

WalkResult page(std::uint64_t entry, std::uint64_t size_bytes, std::uint64_t address, WalkResult result) {
  const std::uint64_t in_page = address & (size_bytes - 1);
  result.kind = WalkResult::Kind::Mapped;
  result.address = GuestPhys{(entry & TableAddress::mask & ~(size_bytes - 1)) | in_page};
  result.run_bytes = size_bytes - in_page;
  return result;
}

/// The size of a page that says so itself (2.2.3, "next level 7"): the lowest clear bit from 12 on is the size's half.
constexpr unsigned sized_page_shift(std::uint64_t entry) {
  return page_shift + 1 + static_cast<unsigned>(std::countr_one(TableAddress::get(entry)));
}

}  // namespace

WalkResult walk(const machine::GuestMemory& memory, GuestPhys root, unsigned level, std::uint64_t address) {
  WalkResult result;
  result.readable = result.writable = true;
  if (beyond(address, level)) return result;
  for (GuestPhys table = root;;) {
    const GuestPhys at = table + ((address >> shift_of(level)) & ((1u << index_bits) - 1)) * entry_bytes;
    std::uint64_t entry = 0;
    if (!memory.read_value(at, entry)) {
      result.kind = WalkResult::Kind::NoTable;
      result.address = at;
      return result;
    }
    if (!(entry & PTE_PR)) return result;
    result.readable &= (entry & PTE_IR) != 0;
    result.writable &= (entry & PTE_IW) != 0;
    const auto next = static_cast<unsigned>(PteNextLevel::get(entry));
    if (next == 0 && level < levels_max) return page(entry, std::uint64_t{1} << shift_of(level), address, result);
    if (next == next_level_sized_page) {
      const unsigned shift = sized_page_shift(entry);
      if (shift > shift_of(level) && shift < shift_of(level) + index_bits)
        return page(entry, std::uint64_t{1} << shift, address, result);
    }
    if (next == 0 || next >= level) {
      result.kind = WalkResult::Kind::Reserved;
      return result;
    }
    // Levels may be skipped if the address bits that they would have looked at are clear.
    const std::uint64_t in_table = address & ((std::uint64_t{1} << shift_of(level)) - 1);
    if (beyond(in_table, next)) return result;
    table = GuestPhys{entry & TableAddress::mask};
    level = next;
  }
}

}  // namespace veneer::devices::amd_iommu
