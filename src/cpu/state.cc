// Power-up state of a processor.
#include "cpu/state.h"

#include <cstring>

namespace veneer::cpu {

namespace {

// Legacy region of the XSAVE image (SDM 1 13.4.1) and its initial contents (SDM 1 13.6).
constexpr std::size_t xsave_fcw_offset = 0;
constexpr std::size_t xsave_mxcsr_offset = 24;

void store(ArchState& state, std::size_t offset, std::uint32_t value, std::size_t size_bytes) {
  std::memcpy(state.xsave.data() + offset, &value, size_bytes);
}

Segment real_mode_data_segment() {
  Segment segment;
  segment.attributes = Segment::P | Segment::S | 3;  // read/write data, accessed
  segment.limit = 0xffff;
  return segment;
}

}  // namespace

void reset_state(ArchState& state) {
  // The caller's choice of time survives power-up; a reset of the machine sets it anew if it wants.
  const std::uint64_t tsc_offset = state.tsc_offset;
  state = ArchState{};
  state.tsc_offset = tsc_offset;

  // SDM 3A table 9-1.
  state.rip = 0xfff0;
  state.rflags = RFLAGS_FIXED1;
  state.cr0 = CR0_CD | CR0_NW | CR0_ET;
  state.gpr[RDX] = 0x600;  // a family-6 signature, as processors with CPUID family 6 and above leave there

  for (Segment& segment : state.segments) segment = real_mode_data_segment();
  state.segments[CS].selector = 0xf000;
  state.segments[CS].base = 0xffff0000;
  state.segments[CS].attributes = Segment::P | Segment::S | 0xb;  // execute/read code, accessed

  state.gdtr = {0, 0xffff};
  state.idtr = {0, 0xffff};
  state.ldtr.attributes = Segment::P | 2;  // LDT
  state.ldtr.limit = 0xffff;
  state.tr.attributes = Segment::P | 0xb;  // busy 32-bit TSS
  state.tr.limit = 0xffff;

  state.dr[6] = 0xffff0ff0;
  state.dr[7] = 0x400;

  // FNINIT's state, not power-up's FCW 0x40: both are followed by FNINIT in any code that uses the x87, and this is
  // what XRSTOR's initial configuration gives (SDM 1 13.6). MXCSR is 0x1f80 in both.
  store(state, xsave_fcw_offset, 0x37f, 2);
  store(state, xsave_mxcsr_offset, 0x1f80, 4);
}

}  // namespace veneer::cpu
