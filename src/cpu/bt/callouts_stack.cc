// Callouts for rare stack instructions, and XLAT. Register-only.
#include "cpu/bt/callouts.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

/// PUSH and POP sreg: 06 0e 16 1e, 0f a0/a8 and the like: bits 5-3 of the opcode name the register.
SegReg named_segment(const CalloutRecord& r) { return static_cast<SegReg>((r.opcode >> 3) & 7); }

}  // namespace

Outcome callout_push_segment(BtVcpu& v, const CalloutRecord& r) {
  return push(v, v.s.segments[named_segment(r)].selector, r.operand_bytes) ? Outcome::Continue : Outcome::Fault;
}

Outcome callout_pop_segment(BtVcpu& v, const CalloutRecord& r) {
  const std::uint64_t sp = v.reg(RSP);
  std::uint64_t selector;
  if (!pop(v, selector, r.operand_bytes)) return Outcome::Fault;
  const SegReg which = named_segment(r);
  const std::uint64_t popped = v.reg(RSP);
  v.b->gpr[RSP] = sp;
  if (!v.load_segment(which, static_cast<std::uint16_t>(selector))) return Outcome::Fault;
  v.b->gpr[RSP] = popped;
  if (which == SS) v.stack_switch_shadow();
  return Outcome::Next;
}

/// ENTER (SDM 2A): frame of `immediate` bytes with `immediate2 & 31` display levels.
Outcome callout_enter(BtVcpu& v, const CalloutRecord& r) {
  const unsigned bytes = r.operand_bytes;
  const std::uint64_t mask = stack_mask(v);
  const std::uint64_t size = r.immediate & 0xffff;
  const unsigned level = r.immediate2 & 31;
  const std::uint64_t old_sp = v.reg(RSP), old_bp = v.reg(RBP);
  auto fail = [&] {
    v.b->gpr[RSP] = old_sp;
    return Outcome::Fault;
  };
  if (!push(v, old_bp, bytes)) return fail();
  const std::uint64_t frame = v.reg(RSP);
  if (level > 0) {
    std::uint64_t bp = old_bp;
    for (unsigned i = 1; i < level; i++) {
      bp -= bytes;
      std::uint64_t value = 0;
      const std::uint64_t at = stack_linear(v, bp & mask);
      if (!stack_reachable(v, at, bytes, Access::Read) || !v.read_memory(at, &value, bytes) || !push(v, value, bytes))
        return fail();
    }
    if (!push(v, frame, bytes)) return fail();
  }
  const std::uint64_t sp = (v.reg(RSP) & ~mask) | ((v.reg(RSP) - size) & mask);
  // The new top must be writable (SDM 2A ENTER).
  const std::uint64_t at = stack_linear(v, sp & mask);
  if (!stack_reachable(v, at, 1, Access::Write) || !v.check_alignment(at, bytes) || !v.probe(at, Access::Write))
    return fail();
  v.b->gpr[RSP] = sp;
  v.set_reg(RBP, frame, bytes == 4 && v.code64() ? 8 : bytes);
  return Outcome::Continue;
}

Outcome callout_pusha(BtVcpu& v, const CalloutRecord& r) {
  if (v.code64()) return v.fault(VECTOR_UD);
  const std::uint64_t sp = v.reg(RSP);
  for (unsigned n : {RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI})
    if (!push(v, n == RSP ? sp : v.reg(n), r.operand_bytes)) {
      v.b->gpr[RSP] = sp;
      return Outcome::Fault;
    }
  return Outcome::Continue;
}

Outcome callout_popa(BtVcpu& v, const CalloutRecord& r) {
  if (v.code64()) return v.fault(VECTOR_UD);
  const std::uint64_t sp = v.reg(RSP);
  // A fault leaves the registers that were popped before it changed, as in a Zen 4.
  for (unsigned i = 8; i-- > 0;) {
    std::uint64_t value;
    if (!pop(v, value, r.operand_bytes)) {
      v.b->gpr[RSP] = sp;
      return Outcome::Fault;
    }
    if (i != RSP) v.set_reg(i, value, r.operand_bytes);
  }
  return Outcome::Continue;
}

Outcome callout_xlat(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t ea = v.reg(RBX) + (v.reg(RAX) & 0xff);
  if (r.memory.address_bytes == 4) ea &= 0xffffffffu;
  if (r.memory.address_bytes == 2) ea = (v.reg(RBX) + (v.reg(RAX) & 0xff)) & 0xffff;
  MemoryOperand at = r.memory;
  at.base = at.index = MemoryOperand::none;
  at.displacement = static_cast<std::int64_t>(ea);
  std::uint64_t address;
  std::uint8_t value;
  if (!v.linear_address(at, address, 1, Access::Read) || !v.read_value(address, value)) return Outcome::Fault;
  v.set_reg(RAX, value, 1);
  return Outcome::Continue;
}

}  // namespace veneer::cpu::bt
