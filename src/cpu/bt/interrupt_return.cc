// IRET in every mode: real, virtual-8086, protected (to the same level, an outer one, virtual-8086 mode, another task)
// and long (SDM 2A IRET). Register-only.
#include <initializer_list>

#include "cpu/bt/descriptor.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

/// What IRET may change of RFLAGS at this privilege.
std::uint64_t BtVcpu::interrupt_return_mask(unsigned operand_bytes) const {
  std::uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;
  if (operand_bytes > 2) mask |= RFLAGS_RF | RFLAGS_AC | RFLAGS_ID;
  if (cpl_ <= iopl()) mask |= RFLAGS_IF;
  if (cpl_ == 0) mask |= RFLAGS_IOPL | (operand_bytes > 2 ? RFLAGS_VIF | RFLAGS_VIP : 0);
  if (real_segments()) mask &= ~(RFLAGS_VIF | RFLAGS_VIP);
  return mask;
}

void BtVcpu::unblock_nmi() {
  if (!s.nmi_blocked) return;
  s.nmi_blocked = false;
  with_vectors_saved([&] { interrupts().nmi_unblocked(); });
  look_at_events();
}

/// Real and virtual-8086 mode. `slot`: IP, CS, FLAGS.
Outcome BtVcpu::real_interrupt_return(unsigned operand_bytes, const std::uint64_t* slot, std::uint64_t new_sp) {
  Segment cs;
  if (!real_target(static_cast<std::uint16_t>(slot[1]), slot[0], cs)) return Outcome::Fault;
  const std::uint64_t mask = interrupt_return_mask(operand_bytes);
  const std::uint64_t old_flags = rflags();
  const bool sensitive = (old_flags & RFLAGS_VM) && iopl() < 3;
  if (sensitive) {
    if (!set_virtual_flags(slot[2], mask & ~RFLAGS_IF)) return Outcome::Fault;
  } else {
    set_rflags((old_flags & ~(mask | RFLAGS_RF)) | (slot[2] & mask));
  }
  b->gpr[RSP] = new_sp;
  unblock_nmi();
  enter_code(cs, slot[0]);
  return Outcome::Leave;
}

/// `slot`: EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS.
Outcome BtVcpu::return_to_virtual8086(const std::uint64_t* slot) {
  if (slot[0] > 0xffff) return fault(VECTOR_GP, 0);
  set_segment(CS, real_mode_segment(slot[1], 0xf3));
  set_segment(SS, real_mode_segment(slot[4], 0xf3));
  set_segment(ES, real_mode_segment(slot[5], 0xf3));
  set_segment(DS, real_mode_segment(slot[6], 0xf3));
  set_segment(FS, real_mode_segment(slot[7], 0xf3));
  set_segment(GS, real_mode_segment(slot[8], 0xf3));
  b->gpr[RSP] = slot[3];
  b->rip = slot[0];
  set_rflags(slot[2]);
  unblock_nmi();
  mode_changed();
  return Outcome::Leave;
}

Outcome BtVcpu::return_from_task(std::uint64_t next_rip) {
  std::uint16_t selector;
  if (!read_value(s.tr.base, selector, true)) return Outcome::Fault;
  if (selector & 4) return fault(VECTOR_TS, selector_error(selector));
  std::uint64_t d;
  if (!read_code_descriptor(selector, d, VECTOR_TS, 0)) return Outcome::Fault;
  unblock_nmi();
  return enter_task(selector, d, TaskCause::Return, next_rip);
}

Outcome BtVcpu::interrupt_return(unsigned operand_bytes, std::uint64_t next_rip) {
  const bool from64 = code64();
  const std::uint64_t mask = stack_mask(*this);
  const std::uint64_t base = from64 ? 0 : s.segments[SS].base;
  const std::uint64_t sp = reg(RSP);
  const std::uint64_t old_flags = rflags();
  std::uint64_t slot[9] = {};
  auto get = [&](std::initializer_list<unsigned> which) {
    for (const unsigned i : which) {
      const std::uint64_t at = base + ((sp + i * operand_bytes) & mask);
      if (!stack_reachable(*this, at, operand_bytes, Access::Read) || !read_memory(at, &slot[i], operand_bytes))
        return false;
    }
    return true;
  };
  const bool vm86 = old_flags & RFLAGS_VM;
  // Without VME, and for 32-bit forms, a virtual-8086 program needs IOPL 3 (SDM 3B 20.2.7).
  if (vm86 && iopl() < 3 && (operand_bytes != 2 || !(s.cr4 & CR4_VME))) return fault(VECTOR_GP, 0);
  if (!real_segments() && (old_flags & RFLAGS_NT)) {
    if (s.long_mode()) return fault(VECTOR_GP, 0);
    return return_from_task(next_rip);
  }
  // In the order that a Zen 4 has: it shows in CR2. 64-bit code always pops SS:RSP.
  if (!get({2, 1, 0}) || (from64 && !get({4, 3}))) return Outcome::Fault;
  const std::uint64_t popped = (sp & ~mask) | ((sp + 3 * operand_bytes) & mask);
  if (real_segments()) return real_interrupt_return(operand_bytes, slot, popped);
  if ((slot[2] & RFLAGS_VM) && cpl_ == 0 && !s.long_mode() && operand_bytes == 4) {
    if (!get({3, 4, 5, 6, 7, 8})) return Outcome::Fault;
    return return_to_virtual8086(slot);
  }
  const std::uint64_t rip = slot[0];
  const auto selector = static_cast<std::uint16_t>(slot[1]);
  const unsigned rpl = selector & 3u;
  const std::uint32_t error = selector_error(selector);
  // AMD's processors have popped the outer stack before they look at the descriptor (Zen 4).
  if (engine_.amd() && rpl != cpl_ && !from64 && !get({4, 3})) return Outcome::Fault;
  std::uint64_t d;
  if (!read_code_descriptor(selector, d, VECTOR_GP, 0)) return Outcome::Fault;
  const Descriptor desc{d};
  if (!desc.code() || rpl < cpl_) return fault(VECTOR_GP, error);
  if (desc.conforming() ? desc.dpl() > rpl : desc.dpl() != rpl) return fault(VECTOR_GP, error);
  Segment cs;
  if (!prepare_code_segment(selector, d, cs) || !reaches(cs, rip)) return Outcome::Fault;
  const bool to64 = s.long_mode() && (cs.attributes & Segment::L);
  const bool outer = rpl > cpl_;
  const std::uint64_t flags_mask = interrupt_return_mask(operand_bytes);
  std::uint64_t new_sp = popped;
  if (outer || from64) {
    if (!from64 && !get({4, 3})) return Outcome::Fault;
    Segment ss;
    if (!outer_stack(static_cast<std::uint16_t>(slot[4]), rpl, to64, ss)) return Outcome::Fault;
    new_sp = slot[3];
    if (!to64 && !(ss.attributes & Segment::DB) && (ss.attributes & Segment::P))
      new_sp = (reg(RSP) & ~std::uint64_t{0xffff}) | (new_sp & 0xffff);
    if (operand_bytes != 8) new_sp &= 0xffffffffu;
    set_segment(SS, ss);
  }
  if (!mark_accessed(selector, d)) return Outcome::Fault;
  b->gpr[RSP] = new_sp;
  set_segment(CS, cs);
  b->rip = rip;
  set_rflags((old_flags & ~flags_mask) | (slot[2] & flags_mask));
  unblock_nmi();
  if (outer) drop_inner_segments();
  mode_changed();
  return Outcome::Leave;
}

}  // namespace veneer::cpu::bt
