// Segment registers, descriptor checks, and the mode key that follows from them.
//
// Register-only. SDM 3A chapters 3 and 5.
#include "base/bits.h"
#include "cpu/bt/descriptor.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
void BtVcpu::set_segment(SegReg which, const Segment& value) {
  if (which == CS && (value.base != s.segments[CS].base || value.limit != s.segments[CS].limit)) drop_returns();
  s.segments[which] = value;
  b->segment_base[which] = value.base;
}

void BtVcpu::mode_changed() {
  cpl_ = s.cpl();
  std::uint32_t m = 0;
  const Segment& cs = s.segments[CS];
  const bool lma = s.long_mode();
  const bool code64 = lma && (cs.attributes & Segment::L);
  if (lma) m |= Mode::LONG;
  if (code64) {
    m |= Mode::CODE64 | Mode::STACK32;
  } else {
    if (cs.attributes & Segment::DB) m |= Mode::CODE32;
    if (s.segments[SS].attributes & Segment::DB) m |= Mode::STACK32;
    if (s.segments[CS].base) m |= Mode::CS_BASE;
    if (s.segments[DS].base) m |= Mode::DS_BASE;
    if (s.segments[ES].base) m |= Mode::ES_BASE;
    if (s.segments[SS].base) m |= Mode::SS_BASE;
    if (!(m & Mode::CODE32) || !flat(CS) || !flat(DS) || !flat(ES) || !flat(SS))
      m |= Mode::LIMITED | Mode::CS_BASE | Mode::DS_BASE | Mode::ES_BASE | Mode::SS_BASE;
    limits_changed();
  }
  if (!(s.cr0 & CR0_PE)) m |= Mode::REAL;
  if (s.rflags & RFLAGS_VM) m |= Mode::VM86;
  if (cpl_ == 3) m |= Mode::CPL3;
  if (cpl_ == 1 || cpl_ == 2) m |= Mode::CPL12;
  if (cpl_ != 3 && (s.cr4 & CR4_SMAP)) m |= Mode::SMAP;
  const bool override_smap = !(s.cr4 & CR4_SMAP) || (s.rflags & RFLAGS_AC);
  const Regime regime = cpl_ == 3 ? Regime::User : override_smap ? Regime::Override : Regime::Supervisor;
  m |= static_cast<std::uint32_t>(regime) << Mode::REGIME_SHIFT;
  if (s.cr0 & (CR0_EM | CR0_TS)) m |= Mode::X87_NM;
  if ((s.cr0 & CR0_MP) && (s.cr0 & CR0_TS)) m |= Mode::WAIT_NM;
  if ((s.cr0 & CR0_EM) || !(s.cr4 & CR4_OSFXSR)) m |= Mode::SSE_UD;
  if (s.cr0 & CR0_TS) m |= Mode::SSE_NM;
  if ((s.cr4 & CR4_OSXSAVE) && (s.xcr0 & 6) == 6) m |= Mode::AVX;
  if ((m & Mode::AVX) && (s.xcr0 & 0xe0) == 0xe0) m |= Mode::AVX512;
  if (((s.cr4 & CR4_TSD) && cpl_ == 3) || engine_.options().deterministic) m |= Mode::TSC_TRAP;
  if (cpl_ > iopl()) m |= Mode::IF_TRAP;
  if ((s.cr0 & CR0_AM) && (s.rflags & RFLAGS_AC) && cpl_ == 3) m |= Mode::ALIGN_CHECK;
  if (s.cr4 & CR4_FSGSBASE) m |= Mode::FSGSBASE;
  if (s.svm.guest) m |= Mode::NESTED;
  // Whatever leads from 64-bit code into compatibility mode cuts RSP (Zen 4; the manuals leave the upper half open).
  if (mode.has(Mode::CODE64) && lma && !code64) b->gpr[RSP] &= 0xffffffffu;
  mode.bits = m;
}

bool BtVcpu::read_descriptor(std::uint16_t selector, std::uint64_t& low, std::uint64_t& high, bool system,
                             std::uint8_t vector) {
  const bool local = selector & 4;
  const std::uint64_t base = local ? s.ldtr.base : s.gdtr.base;
  const std::uint32_t limit = local ? s.ldtr.limit : s.gdtr.limit;
  const std::uint32_t offset = selector & 0xfff8u;
  const std::uint16_t error = selector & 0xfffc;
  if (local && !(s.ldtr.attributes & Segment::P)) return raise(vector, error);
  if (offset + 7 > limit) return raise(vector, error);
  if (!read_value(base + offset, low, true)) return false;
  high = 0;
  if (system && s.long_mode()) {
    if (offset + 15 > limit) return raise(vector, error);
    if (!read_value(base + offset + 8, high, true)) return false;
  }
  return true;
}

bool BtVcpu::null_keeps_base() const { return engine_.null_keeps_base(); }

bool BtVcpu::mark_accessed(std::uint16_t selector, std::uint64_t& d) {
  if (Descriptor{d}.type() & TYPE_ACCESSED) return true;
  d |= std::uint64_t{TYPE_ACCESSED} << 40;
  const std::uint64_t base = (selector & 4) ? s.ldtr.base : s.gdtr.base;
  return write_value(base + (selector & 0xfff8u) + 5, static_cast<std::uint8_t>(d >> 40), true);
}

bool BtVcpu::load_segment(SegReg which, std::uint16_t selector) {
  if (!(s.cr0 & CR0_PE) || (s.rflags & RFLAGS_VM)) {
    Segment g = s.segments[which];
    g.selector = selector;
    g.base = std::uint64_t{selector} << 4;
    g.attributes = static_cast<std::uint16_t>((g.attributes & ~0xffu) | 0x93 | ((s.rflags & RFLAGS_VM) ? 0x60 : 0));
    if (s.rflags & RFLAGS_VM) g.limit = 0xffff;
    set_segment(which, g);
    mode_changed();
    return true;
  }
  const unsigned rpl = selector & 3;
  const std::uint16_t error = selector & 0xfffc;
  if ((selector & ~3u) == 0) {
    if (which == SS && (cpl_ == 3 || !code64() || rpl != cpl_)) return raise(VECTOR_GP, 0);
    Segment g;  // null: unusable; a null SS in 64-bit mode keeps its DPL
    g.selector = selector;
    if (which == SS) g.attributes = static_cast<std::uint16_t>(cpl_ << 5);
    // On AMD a null load keeps FS/GS base; on Intel it clears it. Like the host (docs/QUIRKS.md).
    if ((which == FS || which == GS) && null_keeps_base()) g.base = b->segment_base[which];
    set_segment(which, g);
    mode_changed();
    return true;
  }
  std::uint64_t d, high;
  if (!read_descriptor(selector, d, high, false, VECTOR_GP)) return false;
  const Descriptor desc{d};
  if (which == SS) {
    if (!desc.writable_data() || rpl != cpl_ || desc.dpl() != cpl_) return raise(VECTOR_GP, error);
    if (!desc.present()) return raise(VECTOR_SS, error);
  } else {
    if (!desc.segment() || (desc.code() && !(desc.type() & TYPE_WRITE_READ))) return raise(VECTOR_GP, error);
    if (!desc.conforming() && (desc.dpl() < cpl_ || desc.dpl() < rpl)) return raise(VECTOR_GP, error);
    if (!desc.present()) return raise(VECTOR_NP, error);
  }
  if (!mark_accessed(selector, d)) return false;
  set_segment(which, unpack_descriptor(selector, d));
  mode_changed();
  return true;
}

}  // namespace veneer::cpu::bt
