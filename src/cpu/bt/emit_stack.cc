// PUSH, POP, LEAVE: checked accesses through the guest's stack pointer.
#include "cpu/bt/translator.h"

namespace veneer::cpu::bt {

unsigned Translator::stack_operand_bytes(const Insn& insn) const {
  // 64-bit code pushes 8 bytes, or 2 with 66h; near branches ignore 66h there (Intel) - Zydis' width has both.
  return insn.z.operand_width / 8u;
}

/// T0 = linear address of [rSP + displacement].
void Translator::stack_address(std::int32_t displacement) {
  const bool wide = wide_address();
  if (wide && displacement == 0)
    a_.mov(T0, guest_rsp_home);
  else
    a_.lea(T0, guest_rsp_home, displacement, wide);
  if (!wide && !mode_.has(Mode::STACK32)) a_.movzx16(T0, T0);
  if (!wide && mode_.has(Mode::SS_BASE)) {
    a_.load_gs(T1, VENEER_BLOCK_OFFSET(segment_base) + 8 * SS);
    a_.lea(T0, T0, T1, 0, 0, false);
  }
}

/// rSP += by.
void Translator::move_stack(std::int32_t by) {
  if (wide_address()) {
    a_.lea(guest_rsp_home, guest_rsp_home, by);
  } else if (mode_.has(Mode::STACK32)) {
    a_.lea(guest_rsp_home, guest_rsp_home, by, false);
  } else {
    a_.lea(T1, guest_rsp_home, by);
    a_.mov16(guest_rsp_home, T1);
  }
}

void Translator::push_body(const Insn& insn, bool) {
  const unsigned size = stack_operand_bytes(insn);
  const ZydisDecodedOperand& op = insn.op[0];
  Host value = T2;
  if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
    a_.mov_imm(T2, size == 8 ? static_cast<std::uint64_t>(op.imm.value.s) : static_cast<std::uint32_t>(op.imm.value.s));
  } else if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    a_.load_gs(T2, VENEER_BLOCK_OFFSET(temp));
  } else {
    bool high;
    value = use(static_cast<unsigned>(gpr_number(op.reg.value, high)), T2);
  }
  a_.store(size, T0, T1, value);
  move_stack(-static_cast<std::int32_t>(size));
}

void Translator::emit_push(const Insn& insn) {
  const unsigned size = stack_operand_bytes(insn);
  if (insn.group >= 0) {
    drop_lost_recipe(insn);
    const HostOperand at = stack_group_operand(insn, -static_cast<std::int32_t>(size));
    Host value = T2;
    if (insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
      a_.mov_imm(T2, static_cast<std::uint64_t>(insn.op[0].imm.value.s));
    } else {
      bool high;
      value = use(static_cast<unsigned>(gpr_number(insn.op[0].reg.value, high)), T2);
    }
    a_.store_at(at.base, static_cast<Host>(at.index), at.displacement, value);
    return move_stack(-static_cast<std::int32_t>(size));
  }
  flags_before_stack_access(insn);
  if (insn.op[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
    effective_address(memory_operand(insn));
    finish_access(check(insn, {.size = size}, nullptr));
    a_.load(size, T2, T0, T1);
    a_.store_gs(VENEER_BLOCK_OFFSET(temp), T2);
  }
  stack_address(-static_cast<std::int32_t>(size));
  Cold& cold = check(insn, {.size = size, .write = true, .read = false, .stack = true}, &Translator::push_body);
  push_body(insn, false);
  finish_access(cold);
}

void Translator::pop_memory_body(const Insn& insn, bool) {
  const unsigned size = stack_operand_bytes(insn);
  a_.load_gs(T2, VENEER_BLOCK_OFFSET(temp));
  a_.store(size, T0, T1, T2);
  move_stack(static_cast<std::int32_t>(size));
}

void Translator::emit_pop(const Insn& insn) {
  const unsigned size = stack_operand_bytes(insn);
  if (insn.group >= 0) {
    drop_lost_recipe(insn);
    const HostOperand at = stack_group_operand(insn, 0);
    bool is_high;
    const auto target = static_cast<unsigned>(gpr_number(insn.op[0].reg.value, is_high));
    const Host to = resident(target) ? host_of(target) : T2;
    a_.load_at(to, at.base, static_cast<Host>(at.index), at.displacement);
    if (!resident(target)) a_.store_gs(block_offset_gpr(target), to);
    return move_stack(static_cast<std::int32_t>(size));
  }
  flags_before_stack_access(insn);
  stack_address(0);
  finish_access(check(insn, {.size = size, .stack = true}, nullptr));
  if (insn.op[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
    a_.load(size, T2, T0, T1);
    a_.store_gs(VENEER_BLOCK_OFFSET(temp), T2);
    // The address counts from the stack pointer after the pop (SDM 2B POP).
    MemoryOperand m = memory_operand(insn);
    if (m.base == RSP) m.displacement += size;
    effective_address(m);
    Cold& cold = check(insn, {.size = size, .write = true, .read = false}, &Translator::pop_memory_body);
    pop_memory_body(insn, false);
    finish_access(cold);
    return;
  }
  bool high;
  const auto guest = static_cast<unsigned>(gpr_number(insn.op[0].reg.value, high));
  a_.load(size, T2, T0, T1);
  if (guest != RSP || size == 2) move_stack(static_cast<std::int32_t>(size));
  if (size == 2) {
    const Host target = use(guest, T1);
    a_.mov16(target, T2);
    if (!resident(guest)) a_.store_gs(block_offset_gpr(guest), T1);
  } else {
    give(guest, T2);
  }
}

void Translator::emit_leave(const Insn& insn) {
  const unsigned size = stack_operand_bytes(insn);
  flags_before_stack_access(insn);
  const bool wide = wide_address();
  if (wide)
    a_.mov(T0, rbp);
  else
    a_.lea(T0, rbp, 0, false);
  if (!wide && !mode_.has(Mode::STACK32)) a_.movzx16(T0, T0);
  if (!wide && mode_.has(Mode::SS_BASE)) {
    a_.load_gs(T1, VENEER_BLOCK_OFFSET(segment_base) + 8 * SS);
    a_.lea(T0, T0, T1, 0, 0, false);
  }
  finish_access(check(insn, {.size = size, .stack = true}, nullptr));
  a_.load(size, T2, T0, T1);
  if (wide) {
    a_.lea(guest_rsp_home, rbp, static_cast<std::int32_t>(size));
  } else if (mode_.has(Mode::STACK32)) {
    a_.lea(guest_rsp_home, rbp, static_cast<std::int32_t>(size), false);
  } else {
    a_.lea(T1, rbp, static_cast<std::int32_t>(size));
    a_.mov16(guest_rsp_home, T1);
  }
  if (size == 2)
    a_.mov16(rbp, T2);
  else
    a_.mov(rbp, T2);
}

}  // namespace veneer::cpu::bt
