// Page-table entries: bits, and the atomic accesses that page walks make to them (SDM 3A 4.8, 8.1.2.1).
#pragma once

#include <cstdint>

#include "base/bits.h"
#include "machine/guest_memory.h"

namespace veneer::cpu::bt {

inline constexpr std::uint64_t PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80,
                               PTE_G = 0x100;
inline constexpr std::uint64_t PTE_NX = std::uint64_t{1} << 63;

/// Reserved in the four entries of PAE paging that CR3 points to.
inline constexpr std::uint64_t PDPTE_RESERVED = 0x1e6;

/// Where an entry of 32-bit paging has its 4 MiB page: bits 39-32 are in bits 20-13 (PSE-36, SDM 3A table 4-4).
inline constexpr std::uint64_t large_frame_32bit(std::uint64_t entry) {
  return (entry & 0xffc00000u) | ((entry & 0x1fe000u) << 19);
}

/// One entry that a walk went through.
struct PageEntry {
  GuestPhys place;
  HostPtr host = nullptr;
  std::uint64_t value = 0;

  /// `bytes`: 8, or 4 in the tables of 32-bit paging.
  static PageEntry read(machine::GuestMemory& memory, GuestPhys place, unsigned bytes) {
    PageEntry entry{place, memory.at(place, bytes)};
    if (!entry.host)
      entry.value = byte_mask(bytes);  // nobody answers: all ones, a reserved-bit fault
    else if (bytes == 8)
      entry.value = __atomic_load_n(reinterpret_cast<std::uint64_t*>(entry.host), __ATOMIC_RELAXED);
    else
      entry.value = __atomic_load_n(reinterpret_cast<std::uint32_t*>(entry.host), __ATOMIC_RELAXED);
    return entry;
  }

  /// Sets bits, but only in the entry that was checked: another processor may be taking it away. False if it changed.
  bool set(std::uint64_t bits, unsigned bytes) {
    bool same;
    if (bytes == 8) {
      same = __atomic_compare_exchange_n(reinterpret_cast<std::uint64_t*>(host), &value, value | bits, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    } else {
      auto expected = static_cast<std::uint32_t>(value);
      same = __atomic_compare_exchange_n(reinterpret_cast<std::uint32_t*>(host), &expected,
                                         expected | static_cast<std::uint32_t>(bits), false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST);
    }
    if (same) value |= bits;
    return same;
  }
};

}  // namespace veneer::cpu::bt
