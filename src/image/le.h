// Little-endian fields in byte buffers: what is written to disks is laid out by offsets, as the specifications print
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/assert.h"

namespace veneer::image {

/// Stores the low `size` bytes of `value` at `offset`.
inline void put_le(std::span<std::uint8_t> at, std::size_t offset, std::uint64_t value, std::size_t size) {
  VENEER_ASSERT(offset + size <= at.size());
  for (std::size_t i = 0; i < size; ++i) at[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

inline std::uint64_t get_le(std::span<const std::uint8_t> at, std::size_t offset, std::size_t size) {
  VENEER_ASSERT(offset + size <= at.size());
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint64_t>(at[offset + i]) << (8 * i);
  return value;
}

}  // namespace veneer::image
