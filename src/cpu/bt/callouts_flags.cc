// Callouts for RFLAGS' system bits: PUSHF, POPF, CLAC, STAC. Register-only.
#include "cpu/bt/callouts.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

Outcome callout_pushf(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t image = v.rflags() & ~(RFLAGS_RF | RFLAGS_VM);
  if ((v.s.rflags & RFLAGS_VM) && v.iopl() < 3) {
    // VME: IF is VIF, IOPL reads 3 (SDM 2B PUSHF).
    if (r.operand_bytes != 2 || !(v.s.cr4 & CR4_VME)) return v.fault(VECTOR_GP, 0);
    image = (image & ~RFLAGS_IF) | RFLAGS_IOPL | (image & RFLAGS_VIF ? RFLAGS_IF : 0);
  }
  return push(v, image, r.operand_bytes) ? Outcome::Continue : Outcome::Fault;
}

Outcome callout_popf(BtVcpu& v, const CalloutRecord& r) {
  const bool sensitive = (v.s.rflags & RFLAGS_VM) && v.iopl() < 3;
  if (sensitive && (r.operand_bytes != 2 || !(v.s.cr4 & CR4_VME))) return v.fault(VECTOR_GP, 0);
  std::uint64_t image;
  const std::uint64_t sp = v.reg(RSP);
  if (!pop(v, image, r.operand_bytes)) return Outcome::Fault;
  if (sensitive) {
    if (v.set_virtual_flags(image, RFLAGS_ARITH | RFLAGS_DF | RFLAGS_NT)) return Outcome::Continue;
    v.b->gpr[RSP] = sp;
    return Outcome::Fault;
  }
  // SDM 2B POPF: what each privilege may change.
  std::uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;
  if (r.operand_bytes > 2) mask |= RFLAGS_AC | RFLAGS_ID;
  if (v.cpl() <= v.iopl()) mask |= RFLAGS_IF;
  if (v.cpl() == 0) mask |= RFLAGS_IOPL;
  const std::uint64_t old = v.rflags();
  const Mode before = v.mode;
  v.set_rflags((old & ~(mask | RFLAGS_RF)) | (image & mask));
  const bool opened = !(old & RFLAGS_IF) && v.b->interrupt_flag && v.b->irq_pending;
  const bool same_mode = v.mode == before || (v.mode.bits | Mode::SINGLE) == (before.bits | Mode::SINGLE);
  return opened || !same_mode || (v.s.rflags & RFLAGS_TF) ? Outcome::Next : Outcome::Continue;
}

Outcome callout_clac(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_UD);
  v.s.rflags &= ~RFLAGS_AC;
  v.mode_changed();
  return Outcome::Next;
}

Outcome callout_stac(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_UD);
  v.s.rflags |= RFLAGS_AC;
  v.mode_changed();
  return Outcome::Next;
}

}  // namespace veneer::cpu::bt
