// Sizes, and the three kinds of address that must never be mixed.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace veneer {

inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;

inline constexpr unsigned page_shift = 12;
inline constexpr std::uint64_t page_size = std::uint64_t{1} << page_shift;
inline constexpr std::uint64_t page_offset_mask = page_size - 1;

/// An address of the guest's physical address space.
struct GuestPhys {
  std::uint64_t value = 0;

  auto operator<=>(const GuestPhys&) const = default;
  constexpr GuestPhys operator+(std::uint64_t bytes) const { return {value + bytes}; }
  constexpr std::uint64_t operator-(GuestPhys other) const { return value - other.value; }
  constexpr std::uint64_t page() const { return value >> page_shift; }
  constexpr std::uint64_t page_offset() const { return value & page_offset_mask; }
};

/// A linear address of the guest (after segmentation, before paging).
struct GuestVirt {
  std::uint64_t value = 0;

  auto operator<=>(const GuestVirt&) const = default;
  constexpr GuestVirt operator+(std::uint64_t bytes) const { return {value + bytes}; }
  constexpr std::uint64_t page_offset() const { return value & page_offset_mask; }
};

/// A pointer into guest memory as it is mapped in this process.
using HostPtr = std::byte*;

}  // namespace veneer
