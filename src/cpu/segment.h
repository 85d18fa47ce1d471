// Segment registers and descriptor-table registers with their hidden parts.
#pragma once

#include <cstdint>

namespace veneer::cpu {

/// A segment register with its hidden part. `attributes` are descriptor bits 40-47 and 52-55 as VMCBs hold them:
/// bits 3-0 type, 4 S, 6-5 DPL, 7 P, 8 AVL, 9 L, 10 D/B, 11 G. 0 in `attributes` bit 7 means unusable/null.
struct Segment {
  std::uint16_t selector = 0;
  std::uint16_t attributes = 0;
  std::uint32_t limit = 0;  ///< in bytes, granularity already applied
  std::uint64_t base = 0;

  static constexpr std::uint16_t TYPE_MASK = 0xf;
  static constexpr std::uint16_t S = 1u << 4;
  static constexpr std::uint16_t P = 1u << 7;
  static constexpr std::uint16_t L = 1u << 9;
  static constexpr std::uint16_t DB = 1u << 10;
  static constexpr std::uint16_t G = 1u << 11;
  constexpr unsigned dpl() const { return (attributes >> 5) & 3u; }

  bool operator==(const Segment&) const = default;
};

/// GDTR or IDTR.
struct DescriptorTable {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;

  bool operator==(const DescriptorTable&) const = default;
};

}  // namespace veneer::cpu
