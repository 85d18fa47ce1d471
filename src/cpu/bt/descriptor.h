// Descriptors as they stand in the GDT, the LDT and the IDT (SDM 3A 3.4.5, 3.5, 5.8.3, 6.11, 7.2.2).
#pragma once

#include <cstdint>

#include "cpu/state.h"

namespace veneer::cpu::bt {

/// Types of code and data segments: bits of the type field.
inline constexpr unsigned TYPE_CODE = 8, TYPE_CONFORMING = 4, TYPE_EXPAND_DOWN = 4, TYPE_WRITE_READ = 2,
                          TYPE_ACCESSED = 1;

/// Types of system descriptors. The 16-bit ones but LDT and the task gate do not exist in long mode.
enum SystemType : unsigned {
  TYPE_TSS16 = 1,
  TYPE_LDT = 2,
  TYPE_TSS16_BUSY = 3,
  TYPE_CALL_GATE16 = 4,
  TYPE_TASK_GATE = 5,
  TYPE_INTERRUPT_GATE16 = 6,
  TYPE_TRAP_GATE16 = 7,
  TYPE_TSS = 9,
  TYPE_TSS_BUSY = 0xb,
  TYPE_CALL_GATE = 0xc,
  TYPE_INTERRUPT_GATE = 0xe,
  TYPE_TRAP_GATE = 0xf,
};
/// Of TSSs and gates: the 32-bit kind (64-bit in long mode).
inline constexpr unsigned TYPE_WIDE = 8;
inline constexpr unsigned TYPE_BUSY = 2;

/// The first 8 bytes of a descriptor.
struct Descriptor {
  std::uint64_t bits = 0;

  constexpr unsigned type() const { return static_cast<unsigned>(bits >> 40) & 15; }
  constexpr unsigned dpl() const { return static_cast<unsigned>(bits >> 45) & 3; }
  constexpr bool segment() const { return (bits >> 44) & 1; }  ///< S: code or data, not a system descriptor
  constexpr bool present() const { return (bits >> 47) & 1; }
  constexpr bool long_code() const { return (bits >> 53) & 1; }
  constexpr bool wide_code() const { return (bits >> 54) & 1; }
  constexpr bool code() const { return segment() && (type() & TYPE_CODE); }
  constexpr bool conforming() const { return code() && (type() & TYPE_CONFORMING); }
  constexpr bool writable_data() const {
    return segment() && (type() & (TYPE_CODE | TYPE_WRITE_READ)) == TYPE_WRITE_READ;
  }

  // Of gates.
  constexpr std::uint16_t gate_selector() const { return static_cast<std::uint16_t>(bits >> 16); }
  /// Without what the second half of a long-mode gate adds.
  constexpr std::uint32_t gate_offset() const {
    const auto low = static_cast<std::uint32_t>(bits & 0xffff);
    return type() & TYPE_WIDE ? low | (static_cast<std::uint32_t>(bits >> 32) & 0xffff0000u) : low;
  }
  constexpr unsigned gate_parameters() const { return static_cast<unsigned>(bits >> 32) & 31; }
};

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

/// What an error code says of a selector.
constexpr std::uint32_t selector_error(unsigned selector) { return selector & 0xfffcu; }

/// The segment that real and virtual-8086 mode make of a selector; `attributes` 0x93 or 0xf3.
inline Segment real_mode_segment(std::uint64_t selector, std::uint16_t attributes) {
  Segment g;
  g.selector = static_cast<std::uint16_t>(selector);
  g.base = std::uint64_t{g.selector} << 4;
  g.limit = 0xffff;
  g.attributes = attributes;
  return g;
}

}  // namespace veneer::cpu::bt
