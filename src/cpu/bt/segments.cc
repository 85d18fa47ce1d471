// Segment registers, descriptor checks, far control transfers, and the mode key that follows from them.
//
// Register-only. SDM 3A chapters 3, 5 and 6; far transfers SDM 2 (JMP, CALL, RET).
#include "base/bits.h"
#include "cpu/bt/descriptor.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t DESC_P = std::uint64_t{1} << 47;
constexpr std::uint64_t DESC_S = std::uint64_t{1} << 44;
constexpr unsigned TYPE_CODE = 8, TYPE_CONFORMING = 4, TYPE_WRITE_READ = 2, TYPE_ACCESSED = 1;

unsigned type_of(std::uint64_t d) { return static_cast<unsigned>(d >> 40) & 15; }
unsigned dpl_of(std::uint64_t d) { return static_cast<unsigned>(d >> 45) & 3; }

}  // namespace

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
  const bool override_smap = !(s.cr4 & CR4_SMAP) || (s.rflags & RFLAGS_AC);
  const Regime regime = cpl_ == 3 ? Regime::User : override_smap ? Regime::Override : Regime::Supervisor;
  m |= static_cast<std::uint32_t>(regime) << Mode::REGIME_SHIFT;
  if (s.cr0 & (CR0_EM | CR0_TS)) m |= Mode::X87_NM;
  if ((s.cr0 & CR0_MP) && (s.cr0 & CR0_TS)) m |= Mode::WAIT_NM;
  if ((s.cr0 & CR0_EM) || !(s.cr4 & CR4_OSFXSR)) m |= Mode::SSE_UD;
  if (s.cr0 & CR0_TS) m |= Mode::SSE_NM;
  if ((s.cr4 & CR4_OSXSAVE) && (s.xcr0 & 6) == 6) m |= Mode::AVX;
  if ((m & Mode::AVX) && (s.xcr0 & 0xe0) == 0xe0) m |= Mode::AVX512;
  if (((s.cr4 & CR4_TSD) && cpl_ == 3) || s.tsc_offset) m |= Mode::TSC_TRAP;
  if (cpl_ > iopl()) m |= Mode::IF_TRAP;
  if ((s.cr0 & CR0_AM) && (s.rflags & RFLAGS_AC) && cpl_ == 3) m |= Mode::ALIGN_CHECK;
  if (s.cr4 & CR4_FSGSBASE) m |= Mode::FSGSBASE;
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
    if ((which == FS || which == GS) && engine_.null_keeps_base()) g.base = b->segment_base[which];
    set_segment(which, g);
    mode_changed();
    return true;
  }
  std::uint64_t d, high;
  if (!read_descriptor(selector, d, high, false, VECTOR_GP)) return false;
  const unsigned type = type_of(d), dpl = dpl_of(d);
  if (!(d & DESC_S)) return raise(VECTOR_GP, error);
  if (which == SS) {
    if ((type & TYPE_CODE) || !(type & TYPE_WRITE_READ) || rpl != cpl_ || dpl != cpl_) return raise(VECTOR_GP, error);
    if (!(d & DESC_P)) return raise(VECTOR_SS, error);
  } else {
    if ((type & TYPE_CODE) && !(type & TYPE_WRITE_READ)) return raise(VECTOR_GP, error);
    const bool conforming = (type & TYPE_CODE) && (type & TYPE_CONFORMING);
    if (!conforming && (dpl < cpl_ || dpl < rpl)) return raise(VECTOR_GP, error);
    if (!(d & DESC_P)) return raise(VECTOR_NP, error);
  }
  if (!(type & TYPE_ACCESSED)) {
    d |= std::uint64_t{TYPE_ACCESSED} << 40;
    const auto byte5 = static_cast<std::uint8_t>(d >> 40);
    const std::uint64_t base = (selector & 4) ? s.ldtr.base : s.gdtr.base;
    if (!write_value(base + (selector & 0xfff8u) + 5, byte5, true)) return false;
  }
  set_segment(which, unpack_descriptor(selector, d));
  mode_changed();
  return true;
}

/// Checks of a code segment descriptor for a far transfer to the same privilege (or a conforming one).
static bool code_ok(unsigned type, unsigned dpl, unsigned rpl, unsigned cpl) {
  if (!(type & TYPE_CODE)) return false;
  if (type & TYPE_CONFORMING) return dpl <= cpl;
  return rpl <= cpl && dpl == cpl;
}

Outcome BtVcpu::far_jump(std::uint16_t selector, std::uint64_t offset, unsigned operand_bytes) {
  (void)operand_bytes;
  if (!(s.cr0 & CR0_PE) || (s.rflags & RFLAGS_VM)) {
    if (offset > s.segments[CS].limit) return fault(VECTOR_GP, 0);
    Segment g = s.segments[CS];
    g.selector = selector;
    g.base = std::uint64_t{selector} << 4;
    set_segment(CS, g);
    b->rip = offset;
    mode_changed();
    return Outcome::Leave;
  }
  const std::uint16_t error = selector & 0xfffc;
  if (!error) return fault(VECTOR_GP, 0);
  std::uint64_t d, high;
  if (!read_descriptor(selector, d, high, false, VECTOR_GP)) return Outcome::Fault;
  if (!(d & DESC_S)) return fault(VECTOR_GP, error);  // gates and tasks: docs/QUIRKS.md
  if (!code_ok(type_of(d), dpl_of(d), selector & 3u, cpl_)) return fault(VECTOR_GP, error);
  if (!(d & DESC_P)) return fault(VECTOR_NP, error);
  Segment g = unpack_descriptor(static_cast<std::uint16_t>((selector & ~3u) | cpl_), d);
  if (s.long_mode() && (g.attributes & Segment::L)) {
    if (g.attributes & Segment::DB) return fault(VECTOR_GP, error);
    if (!canonical(offset)) return fault(VECTOR_GP, 0);
    g.base = 0;
  } else if (offset > g.limit) {
    return fault(VECTOR_GP, 0);
  }
  set_segment(CS, g);
  b->rip = offset;
  mode_changed();
  return Outcome::Leave;
}

Outcome BtVcpu::far_call(std::uint16_t selector, std::uint64_t offset, unsigned operand_bytes, const CalloutRecord& r) {
  const bool from64 = code64();
  const std::uint64_t sp = reg(RSP);
  const std::uint64_t values[2] = {rip_of(r.next_offset), s.segments[CS].selector};
  // The transfer is checked first, with CS as it was put back on a stack fault.
  const Segment old_cs = s.segments[CS];
  const Outcome o = far_jump(selector, offset, operand_bytes);
  if (o == Outcome::Fault) return o;
  const std::uint64_t target = b->rip;
  // From 64-bit code into compatibility mode: the stack is the new code's already, and CS is pushed first (Zen 4).
  const bool narrowed = from64 && !code64();
  const std::uint64_t stack_mask = from64 && !narrowed       ? ~std::uint64_t{0}
                                   : mode.has(Mode::STACK32) ? 0xffffffffu
                                                             : 0xffffu;
  const std::uint64_t base = from64 && !narrowed ? 0 : s.segments[SS].base;
  const std::uint64_t old_sp = narrowed ? sp & 0xffffffffu : sp;
  const std::uint64_t new_sp = (old_sp - 2 * operand_bytes) & stack_mask;
  for (const unsigned i : {narrowed ? 1u : 0u, narrowed ? 0u : 1u}) {
    const std::uint64_t at = base + ((new_sp + i * operand_bytes) & stack_mask);
    if (write_memory(narrowed ? at & 0xffffffffu : at, &values[i], operand_bytes)) continue;
    set_segment(CS, old_cs);
    mode_changed();
    b->gpr[RSP] = sp;
    return Outcome::Fault;
  }
  b->gpr[RSP] = (old_sp & ~stack_mask) | new_sp;
  b->rip = target;
  return Outcome::Leave;
}

void BtVcpu::drop_inner_segments() {
  for (SegReg which : {ES, DS, FS, GS}) {
    const Segment& old = s.segments[which];
    const bool conforming = (old.attributes & 0x1c) == 0x1c;
    if (!(old.attributes & Segment::P) || conforming || old.dpl() >= s.segments[SS].dpl()) continue;
    Segment null;
    null.base = engine_.null_keeps_base() && (which == FS || which == GS) ? b->segment_base[which] : 0;
    set_segment(which, null);
  }
}

Outcome BtVcpu::far_return(unsigned operand_bytes, unsigned release_bytes) {
  const std::uint64_t stack_mask = code64() ? ~std::uint64_t{0} : mode.has(Mode::STACK32) ? 0xffffffffu : 0xffffu;
  const std::uint64_t base = code64() ? 0 : s.segments[SS].base;
  const std::uint64_t sp = reg(RSP);
  auto slot = [&](unsigned n, std::uint64_t& value) {
    value = 0;
    const std::uint64_t at = base + ((sp + n) & stack_mask);
    return stack_reachable(*this, at, operand_bytes, Access::Read) && read_memory(at, &value, operand_bytes);
  };
  // The order of these reads, and that SS:rSP are read before any check, is a Zen 4's: it shows in CR2.
  std::uint64_t rip = 0, cs = 0, new_sp = 0, ss = 0;
  if (!slot(operand_bytes, cs) || !slot(0, rip)) return Outcome::Fault;
  const auto selector = static_cast<std::uint16_t>(cs);
  if (!(s.cr0 & CR0_PE) || (s.rflags & RFLAGS_VM)) {
    b->gpr[RSP] = (sp & ~stack_mask) | ((sp + 2 * operand_bytes + release_bytes) & stack_mask);
    return far_jump(selector, rip, operand_bytes);
  }
  const unsigned rpl = selector & 3u;
  const std::uint16_t error = selector & 0xfffc;
  if (rpl != cpl_ && (!slot(3 * operand_bytes + release_bytes, ss) || !slot(2 * operand_bytes + release_bytes, new_sp)))
    return Outcome::Fault;
  if (!error) return fault(VECTOR_GP, 0);
  if (rpl < cpl_) return fault(VECTOR_GP, error);
  std::uint64_t d, high;
  if (!read_descriptor(selector, d, high, false, VECTOR_GP)) return Outcome::Fault;
  const unsigned type = type_of(d), dpl = dpl_of(d);
  if (!(d & DESC_S) || !(type & TYPE_CODE)) return fault(VECTOR_GP, error);
  if ((type & TYPE_CONFORMING) ? dpl > rpl : dpl != rpl) return fault(VECTOR_GP, error);
  if (!(d & DESC_P)) return fault(VECTOR_NP, error);
  Segment g = unpack_descriptor(selector, d);
  const bool to64 = s.long_mode() && (g.attributes & Segment::L);
  if (to64) {
    if (!canonical(rip)) return fault(VECTOR_GP, 0);
    g.base = 0;
  } else if (rip > g.limit) {
    return fault(VECTOR_GP, 0);
  }
  if (rpl == cpl_) {
    set_segment(CS, g);
    b->gpr[RSP] = (sp & ~stack_mask) | ((sp + 2 * operand_bytes + release_bytes) & stack_mask);
    b->rip = rip;
    mode_changed();
    return Outcome::Leave;
  }
  // To an outer level: SS:rSP came from the stack too.
  const auto ss_selector = static_cast<std::uint16_t>(ss);
  const unsigned old_cpl = cpl_;
  const Segment old_cs = s.segments[CS], old_ss = s.segments[SS];
  set_segment(CS, g);
  cpl_ = rpl;
  s.segments[SS].attributes = static_cast<std::uint16_t>((s.segments[SS].attributes & ~0x60u) | (rpl << 5));
  mode_changed();
  cpl_ = rpl;
  if (!load_segment(SS, ss_selector)) {
    set_segment(CS, old_cs);
    set_segment(SS, old_ss);
    cpl_ = old_cpl;
    mode_changed();
    return Outcome::Fault;
  }
  b->gpr[RSP] = new_sp + release_bytes;
  if (!to64 && !(s.segments[SS].attributes & Segment::DB))
    b->gpr[RSP] = (sp & ~std::uint64_t{0xffff}) | (b->gpr[RSP] & 0xffff);
  b->rip = rip;
  drop_inner_segments();
  mode_changed();
  return Outcome::Leave;
}

}  // namespace veneer::cpu::bt
