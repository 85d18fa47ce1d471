// Segment descriptors as they stand in the GDT and LDT (SDM 3A 3.4.5).
#pragma once

#include <cstdint>

#include "cpu/state.h"

namespace veneer::cpu::bt {

/// A code or data descriptor's hidden part for a segment register. System descriptors of long mode have 32 more base
/// bits in their second half.
inline Segment unpack_descriptor(std::uint16_t selector, std::uint64_t d) {
  Segment g;
  g.selector = selector;
  g.attributes = static_cast<std::uint16_t>(((d >> 40) & 0xff) | ((d >> 44) & 0xf00));
  g.limit = static_cast<std::uint32_t>((d & 0xffff) | ((d >> 32) & 0xf0000));
  if (g.attributes & Segment::G) g.limit = (g.limit << 12) | 0xfff;
  g.base = ((d >> 16) & 0xffffff) | ((d >> 32) & 0xff000000u);
  return g;
}

}  // namespace veneer::cpu::bt
