// Callouts for segment registers and descriptor tables. Register-only.
#include <Zydis/Zydis.h>

#include "cpu/bt/callouts.h"
#include "cpu/bt/descriptor.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

/// A 16-bit operand in a register or in memory.
bool read_selector(BtVcpu& v, const CalloutRecord& r, std::uint16_t& out) {
  if (!r.has_memory) {
    out = static_cast<std::uint16_t>(v.reg(r.rm));
    return true;
  }
  std::uint64_t address;
  return v.linear_address(r.memory, address, 2, Access::Read) && v.read_value(address, out);
}

bool same_but_single(Mode a, Mode b) { return (a.bits | Mode::SINGLE) == (b.bits | Mode::SINGLE); }

/// Long mode's LDT and TSS lie at canonical addresses only, or LLDT and LTR fault.
bool system_base_allowed(const BtVcpu& v, const Segment& g) { return !v.s.long_mode() || v.canonical(g.base); }

bool protected_mode(const BtVcpu& v) { return (v.s.cr0 & CR0_PE) && !(v.s.rflags & RFLAGS_VM); }

/// To memory always 16 bits, to a register as wide as the operand.
Outcome store_selector(BtVcpu& v, const CalloutRecord& r, std::uint16_t selector) {
  if (!r.has_memory) {
    v.set_reg(r.rm, selector, r.operand_bytes);
    return Outcome::Continue;
  }
  std::uint64_t address;
  if (!v.linear_address(r.memory, address, 2, Access::Write) || !v.write_value(address, selector))
    return Outcome::Fault;
  return Outcome::Continue;
}

}  // namespace

Outcome callout_mov_from_segment(BtVcpu& v, const CalloutRecord& r) {
  if (r.modrm_reg > 5) return v.fault(VECTOR_UD);
  return store_selector(v, r, v.s.segments[r.modrm_reg].selector);
}

Outcome callout_mov_to_segment(BtVcpu& v, const CalloutRecord& r) {
  if (r.modrm_reg > 5 || r.modrm_reg == CS) return v.fault(VECTOR_UD);
  std::uint16_t selector;
  if (!read_selector(v, r, selector)) return Outcome::Fault;
  const Mode before = v.mode;
  if (!v.load_segment(static_cast<SegReg>(r.modrm_reg), selector)) return Outcome::Fault;
  if (r.modrm_reg == SS) {
    v.stack_switch_shadow();
    return Outcome::Next;
  }
  return same_but_single(before, v.mode) ? Outcome::Continue : Outcome::Next;
}

Outcome callout_load_far_pointer(BtVcpu& v, const CalloutRecord& r) {
  SegReg which = DS;
  switch (r.mnemonic) {
    case ZYDIS_MNEMONIC_LES:
      which = ES;
      break;
    case ZYDIS_MNEMONIC_LSS:
      which = SS;
      break;
    case ZYDIS_MNEMONIC_LFS:
      which = FS;
      break;
    case ZYDIS_MNEMONIC_LGS:
      which = GS;
      break;
    default:
      break;
  }
  std::uint64_t address, offset = 0;
  std::uint16_t selector;
  if (!v.linear_address(r.memory, address, r.operand_bytes + 2u, Access::Read)) return Outcome::Fault;
  if (!v.read_memory(address, &offset, r.operand_bytes) || !v.read_value(address + r.operand_bytes, selector))
    return Outcome::Fault;
  if (!v.load_segment(which, selector)) return Outcome::Fault;
  v.set_reg(r.reg, offset, r.operand_bytes);
  if (which == SS) v.set_interrupt_shadow();
  return Outcome::Next;
}

Outcome callout_store_descriptor_table(BtVcpu& v, const CalloutRecord& r) {
  if ((v.s.cr4 & CR4_UMIP) && v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const DescriptorTable& t = r.mnemonic == ZYDIS_MNEMONIC_SGDT ? v.s.gdtr : v.s.idtr;
  std::uint64_t address;
  std::uint8_t image[10];
  __builtin_memcpy(image, &t.limit, 2);
  __builtin_memcpy(image + 2, &t.base, 8);
  const unsigned size = v.code64() ? 10 : 6;
  if (!v.linear_address(r.memory, address, size, Access::Write) || !v.write_memory(address, image, size))
    return Outcome::Fault;
  return Outcome::Continue;
}

Outcome callout_load_descriptor_table(BtVcpu& v, const CalloutRecord& r) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  std::uint64_t address, base = 0;
  std::uint16_t limit;
  if (!v.linear_address(r.memory, address, v.code64() ? 10 : 6, Access::Read)) return Outcome::Fault;
  if (!v.read_value(address, limit) || !v.read_memory(address + 2, &base, v.code64() ? 8 : 4)) return Outcome::Fault;
  if (v.code64() && !v.canonical(base)) return v.fault(VECTOR_GP, 0);
  if (!v.code64() && r.operand_bytes == 2) base &= 0xffffff;
  (r.mnemonic == ZYDIS_MNEMONIC_LGDT ? v.s.gdtr : v.s.idtr) = DescriptorTable{base, limit};
  return Outcome::Continue;
}

Outcome callout_sldt_str(BtVcpu& v, const CalloutRecord& r) {
  if (!protected_mode(v)) return v.fault(VECTOR_UD);
  if ((v.s.cr4 & CR4_UMIP) && v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  return store_selector(v, r, r.mnemonic == ZYDIS_MNEMONIC_SLDT ? v.s.ldtr.selector : v.s.tr.selector);
}

static bool load_system_segment(BtVcpu& v, std::uint16_t selector, Segment& out, std::uint64_t& low) {
  std::uint64_t high;
  const std::uint16_t error = selector & 0xfffc;
  if (selector & 4) return v.raise(VECTOR_GP, error);
  if (!v.read_descriptor(selector, low, high, true, VECTOR_GP)) return false;
  out = unpack_descriptor(selector, low);
  out.base |= high << 32;
  return true;
}

Outcome callout_lldt(BtVcpu& v, const CalloutRecord& r) {
  if (!protected_mode(v)) return v.fault(VECTOR_UD);
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  std::uint16_t selector;
  if (!read_selector(v, r, selector)) return Outcome::Fault;
  const std::uint16_t error = selector & 0xfffc;
  if (!error) {
    v.s.ldtr = Segment{};
    v.s.ldtr.selector = selector;
    return Outcome::Continue;
  }
  Segment g;
  std::uint64_t low;
  if (!load_system_segment(v, selector, g, low)) return Outcome::Fault;
  if ((g.attributes & 0x1f) != 2) return v.fault(VECTOR_GP, error);
  if (!(g.attributes & Segment::P)) return v.fault(VECTOR_NP, error);
  if (!system_base_allowed(v, g)) return v.fault(VECTOR_GP, error);
  v.s.ldtr = g;
  return Outcome::Continue;
}

Outcome callout_ltr(BtVcpu& v, const CalloutRecord& r) {
  if (!protected_mode(v)) return v.fault(VECTOR_UD);
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  std::uint16_t selector;
  if (!read_selector(v, r, selector)) return Outcome::Fault;
  const std::uint16_t error = selector & 0xfffc;
  if (!error) return v.fault(VECTOR_GP, 0);
  Segment g;
  std::uint64_t low;
  if (!load_system_segment(v, selector, g, low)) return Outcome::Fault;
  const unsigned type = g.attributes & 0x1f;
  if (type != 9 && (type != 1 || v.s.long_mode())) return v.fault(VECTOR_GP, error);
  if (!(g.attributes & Segment::P)) return v.fault(VECTOR_NP, error);
  if (!system_base_allowed(v, g)) return v.fault(VECTOR_GP, error);
  // Busy from now on.
  g.attributes |= 2;
  const auto byte5 = static_cast<std::uint8_t>((low >> 40) | 2);
  if (!v.write_value(v.s.gdtr.base + (selector & 0xfff8u) + 5, byte5, true)) return Outcome::Fault;
  v.s.tr = g;
  return Outcome::Continue;
}

/// Reads a descriptor for LAR, LSL, VERR, VERW: visible or not, never a selector fault. False: ZF = 0 (or a #PF,
/// then `faulted`).
static bool probe(BtVcpu& v, std::uint16_t selector, std::uint64_t& low, bool& faulted) {
  faulted = false;
  if (!(selector & 0xfffc)) return false;
  std::uint64_t high;
  if (!v.read_descriptor(selector, low, high, false, VECTOR_GP)) {
    faulted = v.fault_.vector == VECTOR_PF || v.fault_.vector == VECTOR_VMEXIT;
    return false;
  }
  return true;
}

Outcome callout_lar_lsl(BtVcpu& v, const CalloutRecord& r) {
  if (!protected_mode(v)) return v.fault(VECTOR_UD);
  std::uint16_t selector;
  if (!read_selector(v, r, selector)) return Outcome::Fault;
  std::uint64_t d;
  bool faulted;
  bool ok = probe(v, selector, d, faulted);
  if (faulted) return Outcome::Fault;
  const bool lar = r.mnemonic == ZYDIS_MNEMONIC_LAR;
  if (ok) {
    const unsigned type = (d >> 40) & 0x1f, dpl = (d >> 45) & 3, rpl = selector & 3u;
    if (!(type & 0x10)) {
      // System descriptors that these instructions see (SDM 2A LAR table 3-53).
      const bool lma = v.s.long_mode();
      ok = type == 2 || type == 9 || type == 0xb || (!lma && (type == 1 || type == 3)) ||
           (lar && (type == 0xc || (!lma && (type == 4 || type == 5))));
      if (ok) ok = dpl >= v.cpl() && dpl >= rpl;
    } else if ((type & 0xc) != 0xc) {
      ok = dpl >= v.cpl() && dpl >= rpl;
    }
  }
  std::uint64_t flags = v.b->arith_flags & ~RFLAGS_ZF;
  if (ok) {
    std::uint64_t value;
    if (lar) {
      value = (d >> 32) & 0x00ffff00u;
    } else {
      value = (d & 0xffff) | ((d >> 32) & 0xf0000);
      if ((d >> 55) & 1) value = (value << 12) | 0xfff;
    }
    v.set_reg(r.reg, value, r.operand_bytes);
    flags |= RFLAGS_ZF;
  }
  v.b->arith_flags = flags;
  return Outcome::Continue;
}

Outcome callout_verr_verw(BtVcpu& v, const CalloutRecord& r) {
  if (!protected_mode(v)) return v.fault(VECTOR_UD);
  std::uint16_t selector;
  if (!read_selector(v, r, selector)) return Outcome::Fault;
  std::uint64_t d;
  bool faulted;
  bool ok = probe(v, selector, d, faulted);
  if (faulted) return Outcome::Fault;
  if (ok) {
    const unsigned type = (d >> 40) & 0x1f, dpl = (d >> 45) & 3, rpl = selector & 3u;
    const bool code = type & 8;
    ok = type & 0x10;
    if (ok && (type & 0xc) != 0xc) ok = dpl >= v.cpl() && dpl >= rpl;
    if (ok) ok = r.mnemonic == ZYDIS_MNEMONIC_VERW ? !code && (type & 2) : !code || (type & 2);
  }
  v.b->arith_flags = (v.b->arith_flags & ~RFLAGS_ZF) | (ok ? RFLAGS_ZF : 0);
  return Outcome::Continue;
}

}  // namespace veneer::cpu::bt
