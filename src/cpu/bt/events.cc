// Delivering exceptions and interrupts through the IDT, and coming back: IRET. Register-only.
//
// SDM 3A chapter 6 (6.12 protected mode, 6.14 64-bit mode, 6.15 double fault) and 20.1.4 (real mode).
#include "base/bits.h"
#include "cpu/bt/descriptor.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

/// Contributory exceptions (SDM 3A table 6-5).
bool contributory(std::uint8_t v) {
  return v == VECTOR_DE || v == VECTOR_TS || v == VECTOR_NP || v == VECTOR_SS || v == VECTOR_GP;
}

constexpr std::uint64_t DR7_GD = 1u << 13;

bool pushes_error(std::uint8_t v) { return v == VECTOR_DF || (v >= VECTOR_TS && v <= VECTOR_PF) || v == VECTOR_AC; }

}  // namespace

void BtVcpu::deliver(Fault what, EventKind kind, std::uint64_t return_rip) {
  count.events++;
  s.interrupt_shadow = false;
  s.halted = false;
  bool is_exception = kind == EventKind::Exception;
  const Fault first = what;
  // INT n that cannot be delivered faults as an instruction: RIP is its own.
  const std::uint64_t fault_rip = is_exception ? return_rip : b->rip;
  for (;;) {
    if (is_exception) {
      what.has_error = pushes_error(what.vector);
      flight::record(flight::ring(index_), flight::Event::Fault, return_rip,
                     what.vector == VECTOR_PF ? what.address : 0, what.vector | what.error << 8);
      if (what.vector == VECTOR_PF) s.cr2 = what.address;
      if (what.vector == VECTOR_DB) s.dr[7] &= ~DR7_GD;
    }
    const std::uint64_t rflags_before = rflags();
    const bool ok = !(s.cr0 & CR0_PE) ? deliver_real(what, return_rip)
                    : s.long_mode()   ? deliver_long_mode(what, kind, return_rip)
                                      : deliver_protected(what, kind, return_rip);
    if (ok) return;
    set_rflags(rflags_before);
    // Delivering failed with fault_: a second exception (SDM 3A 6.15).
    const Fault second = fault_;
    if (is_exception && what.vector == VECTOR_DF) {
      b->rip = return_rip;
      triple_fault(first, second);
      return;
    }
    const bool doubled =
        is_exception && ((contributory(what.vector) && contributory(second.vector)) ||
                         (what.vector == VECTOR_PF && (contributory(second.vector) || second.vector == VECTOR_PF)));
    what = doubled ? Fault{VECTOR_DF, true, 0, 0} : second;
    return_rip = fault_rip;
    kind = EventKind::Exception;
    is_exception = true;
  }
}

bool BtVcpu::deliver_real(const Fault& what, std::uint64_t return_rip) {
  const std::uint32_t entry = what.vector * 4u;
  if (entry + 3 > s.idtr.limit) return raise(VECTOR_GP, 0);
  std::uint32_t vector = 0;
  if (!read_value(s.idtr.base + entry, vector, true)) return false;
  const std::uint16_t frame[3] = {static_cast<std::uint16_t>(return_rip), s.segments[CS].selector,
                                  static_cast<std::uint16_t>(rflags())};
  const std::uint64_t sp = (reg(RSP) - 6) & 0xffff;
  if (!write_memory(s.segments[SS].base + sp, frame, sizeof frame, true)) return false;
  b->gpr[RSP] = (reg(RSP) & ~std::uint64_t{0xffff}) | sp;
  set_rflags(rflags() & ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF));
  Segment cs = s.segments[CS];
  cs.selector = static_cast<std::uint16_t>(vector >> 16);
  cs.base = std::uint64_t{cs.selector} << 4;
  set_segment(CS, cs);
  b->rip = vector & 0xffff;
  mode_changed();
  return true;
}

bool BtVcpu::deliver_long_mode(const Fault& what, EventKind kind, std::uint64_t return_rip) {
  const std::uint32_t ext = kind == EventKind::Software || kind == EventKind::SoftwareBreakpoint ? 0 : 1;
  const std::uint32_t gate_error = what.vector * 8u + 2u + ext;
  if (what.vector * 16u + 15u > s.idtr.limit) return raise(VECTOR_GP, gate_error);
  std::uint64_t low, high;
  if (!read_value(s.idtr.base + what.vector * 16u, low, true)) return false;
  if (!read_value(s.idtr.base + what.vector * 16u + 8, high, true)) return false;
  const unsigned type = (low >> 40) & 0x1f;
  if (type != 0xe && type != 0xf) return raise(VECTOR_GP, gate_error);
  const unsigned gate_dpl = (low >> 45) & 3;
  if (ext == 0 && gate_dpl < cpl_) return raise(VECTOR_GP, gate_error);
  if (!((low >> 47) & 1)) return raise(VECTOR_NP, gate_error);
  const auto selector = static_cast<std::uint16_t>(low >> 16);
  const std::uint64_t target = (low & 0xffff) | ((low >> 32) & 0xffff0000u) | (high << 32);
  const unsigned ist = (low >> 32) & 7;

  const std::uint32_t cs_error = (selector & 0xfffcu) + ext;
  if (!(selector & 0xfffcu)) return raise(VECTOR_GP, ext);
  std::uint64_t d, unused;
  if (!read_descriptor(selector, d, unused, false, VECTOR_GP)) {
    if (fault_.vector == VECTOR_GP) fault_.error |= ext;
    return false;
  }
  const unsigned cs_type = (d >> 40) & 0x1f, dpl = (d >> 45) & 3;
  if ((cs_type & 0x18) != 0x18 || dpl > cpl_) return raise(VECTOR_GP, cs_error);
  if (!((d >> 47) & 1)) return raise(VECTOR_NP, cs_error);
  if (!((d >> 53) & 1) || ((d >> 54) & 1)) return raise(VECTOR_GP, cs_error);
  const bool conforming = cs_type & 4;
  const unsigned new_cpl = conforming ? cpl_ : dpl;

  std::uint64_t sp = reg(RSP);
  bool switched = false;
  if (ist || new_cpl < cpl_) {
    const unsigned offset = ist ? 0x24 + (ist - 1) * 8 : 4 + new_cpl * 8;
    if (offset + 7 > s.tr.limit) return raise(VECTOR_TS, (s.tr.selector & 0xfffcu) + ext);
    if (!read_value(s.tr.base + offset, sp, true)) return false;
    if (!canonical(sp)) return raise(VECTOR_SS, ext);
    switched = new_cpl < cpl_;
  }
  sp &= ~std::uint64_t{15};
  std::uint64_t flags = rflags();
  if (kind == EventKind::Exception && what.vector != VECTOR_DB) flags |= RFLAGS_RF;
  std::uint64_t frame[6] = {what.error, return_rip, s.segments[CS].selector, flags, reg(RSP), s.segments[SS].selector};
  const unsigned skip = what.has_error ? 0 : 1;
  const unsigned bytes = (6 - skip) * 8;
  // The frame is written with the new privilege.
  if (!write_memory(sp - bytes, frame + skip, bytes, true)) {
    if (fault_.vector == VECTOR_PF && new_cpl == 3) fault_.error |= PF_USER;
    return false;
  }
  b->gpr[RSP] = sp - bytes;
  Segment cs = unpack_descriptor(static_cast<std::uint16_t>((selector & ~3u) | new_cpl), d);
  cs.base = 0;  // 64-bit code has neither base nor limit
  cs.limit = 0xffffffffu;
  set_segment(CS, cs);
  if (switched) {
    Segment ss;
    ss.selector = static_cast<std::uint16_t>(new_cpl);
    ss.attributes = static_cast<std::uint16_t>(new_cpl << 5);
    set_segment(SS, ss);
  }
  std::uint64_t clear = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM;
  if (type == 0xe) clear |= RFLAGS_IF;
  set_rflags(rflags() & ~clear);
  b->rip = target;
  mode_changed();
  return true;
}

bool BtVcpu::deliver_protected(const Fault& what, EventKind kind, std::uint64_t return_rip) {
  const std::uint32_t ext = kind == EventKind::Software || kind == EventKind::SoftwareBreakpoint ? 0 : 1;
  const std::uint32_t gate_error = what.vector * 8u + 2u + ext;
  if (what.vector * 8u + 7u > s.idtr.limit) return raise(VECTOR_GP, gate_error);
  std::uint64_t gate;
  if (!read_value(s.idtr.base + what.vector * 8u, gate, true)) return false;
  const unsigned type = (gate >> 40) & 0x1f;
  // 16- and 32-bit interrupt and trap gates; task gates are a documented gap.
  if (type != 6 && type != 7 && type != 0xe && type != 0xf) return raise(VECTOR_GP, gate_error);
  const bool wide = type & 8;
  if (ext == 0 && ((gate >> 45) & 3) < cpl_) return raise(VECTOR_GP, gate_error);
  if (!((gate >> 47) & 1)) return raise(VECTOR_NP, gate_error);
  const auto selector = static_cast<std::uint16_t>(gate >> 16);
  const std::uint64_t target = (gate & 0xffff) | (wide ? (gate >> 32) & 0xffff0000u : 0);
  const std::uint32_t cs_error = (selector & 0xfffcu) + ext;
  if (!(selector & 0xfffcu)) return raise(VECTOR_GP, ext);
  std::uint64_t d, unused;
  if (!read_descriptor(selector, d, unused, false, VECTOR_GP)) return false;
  const unsigned cs_type = (d >> 40) & 0x1f, dpl = (d >> 45) & 3;
  if ((cs_type & 0x18) != 0x18 || dpl > cpl_) return raise(VECTOR_GP, cs_error);
  if (!((d >> 47) & 1)) return raise(VECTOR_NP, cs_error);
  const unsigned new_cpl = (cs_type & 4) ? cpl_ : dpl;
  const bool vm86 = s.rflags & RFLAGS_VM;
  if (vm86 && new_cpl != 0) return raise(VECTOR_GP, cs_error);

  std::uint64_t sp = reg(RSP);
  Segment new_ss = s.segments[SS];
  const bool switched = new_cpl < cpl_;
  if (switched) {
    const bool tss32 = (s.tr.attributes & 8) != 0;
    const unsigned offset = tss32 ? 4 + new_cpl * 8 : 2 + new_cpl * 4;
    std::uint16_t ss_selector = 0;
    std::uint32_t esp = 0;
    if (offset + (tss32 ? 5u : 3u) > s.tr.limit) return raise(VECTOR_TS, (s.tr.selector & 0xfffcu) + ext);
    if (!read_memory(s.tr.base + offset, &esp, tss32 ? 4 : 2, true)) return false;
    if (!read_value(s.tr.base + offset + (tss32 ? 4 : 2), ss_selector, true)) return false;
    std::uint64_t ssd;
    const std::uint32_t ss_error = (ss_selector & 0xfffcu) + ext;
    if (!(ss_selector & 0xfffcu)) return raise(VECTOR_TS, ext);
    if (!read_descriptor(ss_selector, ssd, unused, false, VECTOR_TS)) return false;
    if ((ss_selector & 3u) != new_cpl || ((ssd >> 45) & 3) != new_cpl || ((ssd >> 40) & 0x1a) != 0x12)
      return raise(VECTOR_TS, ss_error);
    if (!((ssd >> 47) & 1)) return raise(VECTOR_SS, ss_error);
    new_ss = unpack_descriptor(ss_selector, ssd);
    sp = esp;
  }
  const std::uint64_t stack_mask = (new_ss.attributes & Segment::DB) ? 0xffffffffu : 0xffffu;
  const unsigned width = wide ? 4 : 2;
  std::uint64_t flags = rflags();
  if (kind == EventKind::Exception && what.vector != VECTOR_DB) flags |= RFLAGS_RF;
  std::uint32_t frame[10];
  unsigned n = 0;
  if (what.has_error) frame[n++] = what.error;
  frame[n++] = static_cast<std::uint32_t>(return_rip);
  frame[n++] = s.segments[CS].selector;
  frame[n++] = static_cast<std::uint32_t>(flags);
  if (switched) {
    frame[n++] = static_cast<std::uint32_t>(reg(RSP));
    frame[n++] = s.segments[SS].selector;
    if (vm86)
      for (SegReg which : {ES, DS, FS, GS}) frame[n++] = s.segments[which].selector;
  }
  const std::uint64_t new_sp = (sp - n * width) & stack_mask;
  std::uint16_t narrow[10];
  for (unsigned i = 0; i < n; i++) narrow[i] = static_cast<std::uint16_t>(frame[i]);
  const void* image = wide ? static_cast<const void*>(frame) : static_cast<const void*>(narrow);
  if (!write_memory((new_ss.base + new_sp) & 0xffffffffu, image, n * width, true)) return false;
  b->gpr[RSP] = (switched ? 0 : reg(RSP) & ~stack_mask) | new_sp;
  if (switched) set_segment(SS, new_ss);
  set_segment(CS, unpack_descriptor(static_cast<std::uint16_t>((selector & ~3u) | new_cpl), d));
  if (vm86)
    for (SegReg which : {ES, DS, FS, GS}) set_segment(which, Segment{});
  std::uint64_t clear = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM;
  if (!(type & 1)) clear |= RFLAGS_IF;
  set_rflags(rflags() & ~clear);
  b->rip = target;
  mode_changed();
  return true;
}

Outcome BtVcpu::interrupt_return(unsigned operand_bytes) {
  const bool from64 = code64();
  const std::uint64_t stack_mask = from64 ? ~std::uint64_t{0} : mode.has(Mode::STACK32) ? 0xffffffffu : 0xffffu;
  const std::uint64_t base = from64 ? 0 : s.segments[SS].base;
  const std::uint64_t sp = reg(RSP);
  const std::uint64_t old_flags = rflags();
  std::uint64_t slot[9] = {};
  auto get = [&](std::initializer_list<unsigned> which) {
    for (const unsigned i : which) {
      const std::uint64_t at = base + ((sp + i * operand_bytes) & stack_mask);
      if (!stack_reachable(*this, at, operand_bytes, Access::Read) || !read_memory(at, &slot[i], operand_bytes))
        return false;
    }
    return true;
  };
  const bool real = !(s.cr0 & CR0_PE);
  if (!real && (old_flags & RFLAGS_NT)) return fault(VECTOR_GP, 0);  // task return: docs/QUIRKS.md
  if (!real && (old_flags & RFLAGS_VM) && iopl() < 3) return fault(VECTOR_GP, 0);
  // In the order that a Zen 4 has: it shows in CR2. 64-bit code always pops SS:RSP.
  if (!get({2, 1, 0}) || (from64 && !get({4, 3}))) return Outcome::Fault;
  const std::uint64_t rip = slot[0];
  const auto selector = static_cast<std::uint16_t>(slot[1]);
  const std::uint64_t new_flags = slot[2];

  // What IRET may change (SDM 2A IRET).
  std::uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;
  if (operand_bytes > 2) mask |= RFLAGS_RF | RFLAGS_AC | RFLAGS_ID;
  if (cpl_ <= iopl()) mask |= RFLAGS_IF;
  if (cpl_ == 0) mask |= RFLAGS_IOPL | (operand_bytes > 2 ? RFLAGS_VIF | RFLAGS_VIP : 0);

  if (real || (old_flags & RFLAGS_VM)) {
    if (rip > s.segments[CS].limit) return fault(VECTOR_GP, 0);
    if (real) mask |= RFLAGS_IF | RFLAGS_IOPL;
    mask &= ~(RFLAGS_VIF | RFLAGS_VIP);
    b->gpr[RSP] = (sp & ~stack_mask) | ((sp + 3 * operand_bytes) & stack_mask);
    Segment cs = s.segments[CS];
    cs.selector = selector;
    cs.base = std::uint64_t{selector} << 4;
    set_segment(CS, cs);
    b->rip = rip;
    set_rflags((old_flags & ~mask) | (new_flags & mask));
    if (s.nmi_blocked) look_at_events();
    s.nmi_blocked = false;
    mode_changed();
    return Outcome::Leave;
  }

  const unsigned rpl = selector & 3u;
  if ((new_flags & RFLAGS_VM) && cpl_ == 0 && !s.long_mode() && operand_bytes == 4) {
    // To virtual-8086 mode.
    if (!get({3, 4, 5, 6, 7, 8})) return Outcome::Fault;
    auto real_segment = [&](SegReg which, std::uint64_t v) {
      Segment g;
      g.selector = static_cast<std::uint16_t>(v);
      g.base = std::uint64_t{g.selector} << 4;
      g.limit = 0xffff;
      g.attributes = 0xf3;
      set_segment(which, g);
    };
    real_segment(CS, selector);
    real_segment(SS, slot[4]);
    real_segment(ES, slot[5]);
    real_segment(DS, slot[6]);
    real_segment(FS, slot[7]);
    real_segment(GS, slot[8]);
    b->gpr[RSP] = slot[3];
    b->rip = rip & 0xffff;
    set_rflags(new_flags & (mask | RFLAGS_VM));
    if (s.nmi_blocked) look_at_events();
    s.nmi_blocked = false;
    mode_changed();
    return Outcome::Leave;
  }
  const std::uint16_t error = selector & 0xfffc;
  if (!error) return fault(VECTOR_GP, 0);
  std::uint64_t d, unused;
  if (!read_descriptor(selector, d, unused, false, VECTOR_GP)) return Outcome::Fault;
  const unsigned type = (d >> 40) & 0x1f, dpl = (d >> 45) & 3;
  if ((type & 0x18) != 0x18 || rpl < cpl_) return fault(VECTOR_GP, error);
  if ((type & 4) ? dpl > rpl : dpl != rpl) return fault(VECTOR_GP, error);
  if (!((d >> 47) & 1)) return fault(VECTOR_NP, error);
  Segment cs = unpack_descriptor(selector, d);
  const bool to64 = s.long_mode() && (cs.attributes & Segment::L);
  if (to64 && (cs.attributes & Segment::DB)) return fault(VECTOR_GP, error);
  if (to64) cs.base = 0;
  if (to64 ? !canonical(rip) : rip > cs.limit) return fault(VECTOR_GP, 0);

  const bool outer = rpl > cpl_;
  if (outer || from64) {
    if (!from64 && !get({4, 3})) return Outcome::Fault;
    const auto ss_selector = static_cast<std::uint16_t>(slot[4]);
    Segment ss;
    ss.selector = ss_selector;
    if ((ss_selector & ~3u) == 0) {
      if (!to64 || rpl == 3 || (ss_selector & 3u) != rpl) return fault(VECTOR_GP, 0);
      ss.attributes = static_cast<std::uint16_t>(rpl << 5);
    } else {
      std::uint64_t sd;
      const std::uint16_t ss_error = ss_selector & 0xfffc;
      if (!read_descriptor(ss_selector, sd, unused, false, VECTOR_GP)) return Outcome::Fault;
      if ((ss_selector & 3u) != rpl || ((sd >> 45) & 3) != rpl || ((sd >> 40) & 0x1a) != 0x12)
        return fault(VECTOR_GP, ss_error);
      if (!((sd >> 47) & 1)) return fault(VECTOR_SS, ss_error);
      ss = unpack_descriptor(ss_selector, sd);
    }
    set_segment(SS, ss);
    std::uint64_t new_sp = slot[3];
    if (!to64 && !(ss.attributes & Segment::DB) && (ss.attributes & Segment::P))
      new_sp = (reg(RSP) & ~std::uint64_t{0xffff}) | (new_sp & 0xffff);
    b->gpr[RSP] = operand_bytes == 8 ? new_sp : new_sp & 0xffffffffu;
  } else {
    b->gpr[RSP] = (sp & ~stack_mask) | ((sp + 3 * operand_bytes) & stack_mask);
  }
  set_segment(CS, cs);
  b->rip = rip;
  set_rflags((old_flags & ~mask) | (new_flags & mask));
  if (s.nmi_blocked) look_at_events();
  s.nmi_blocked = false;
  if (outer) drop_inner_segments();
  mode_changed();
  return Outcome::Leave;
}

}  // namespace veneer::cpu::bt
