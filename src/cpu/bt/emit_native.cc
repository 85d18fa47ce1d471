// Instructions that run as themselves: copied, or with their memory operand rewritten to a checked host address.
#include "cpu/bt/translator.h"

namespace veneer::cpu::bt {
namespace {

/// A general-purpose register operand of an instruction and the field that names it.
struct Field {
  int* slot;  ///< in the Substitution
  unsigned guest;
  bool read, written, high;
};

struct Fields {
  Substitution substitution;
  Field list[4];
  unsigned count = 0;
  bool any_high = false;
};

/// The GPR operands whose encoding can be substituted.
void collect(const Insn& insn, Fields& f) {
  for (unsigned i = 0; i < insn.z.operand_count_visible; i++) {
    const ZydisDecodedOperand& op = insn.op[i];
    if (op.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    bool high;
    const int n = gpr_number(op.reg.value, high);
    if (n < 0) continue;
    int* slot = nullptr;
    switch (op.encoding) {
      case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        slot = &f.substitution.reg;
        break;
      case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        slot = &f.substitution.rm;
        break;
      case ZYDIS_OPERAND_ENCODING_NDSNDD:
        slot = &f.substitution.vvvv;
        break;
      case ZYDIS_OPERAND_ENCODING_OPCODE:
        slot = &f.substitution.opcode;
        break;
      default:
        break;  // implicit: in its own register
    }
    if (!slot) continue;
    // Anything but a full-width plain write keeps part of the old value.
    const bool plain_write = op.actions == ZYDIS_OPERAND_ACTION_WRITE && op.size >= 32;
    f.list[f.count++] =
        Field{slot, static_cast<unsigned>(n), !plain_write, (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0, high};
    f.any_high |= high;
  }
}

/// May leave an x87 in its initial configuration but for the pointers.
bool changes_x87_pointers_only(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FNOP:
    case ZYDIS_MNEMONIC_FFREE:
    case ZYDIS_MNEMONIC_FINCSTP:
    case ZYDIS_MNEMONIC_FDECSTP:
      return true;
    default:
      return false;
  }
}

}  // namespace

/// Emits the instruction itself; with `memory`, that is its operand. Stores back registers that live in memory.
void Translator::emit_operation(const Insn& insn, const HostOperand* memory) {
  Fields f;
  collect(insn, f);
  if (f.any_high) {
    bool plain = !memory;
    for (unsigned i = 0; i < f.count; i++) plain &= f.list[i].high || host_of(f.list[i].guest) < 8;
    if (!plain) return emit_high_byte(insn, memory);
  }
  // r10, r11, r14, r15 come through scratch registers: T2 first, then the address registers as they come free.
  Host scratch[3] = {T2, T1, T0};
  unsigned available = memory ? 1 : 3, used = 0;
  Substitution& sub = f.substitution;
  HostOperand operand = memory ? *memory : HostOperand{};
  unsigned homes[3] = {};  // guest register in scratch[i]
  unsigned wanted = 0;
  for (unsigned i = 0; i < f.count; i++) {
    bool seen = resident(f.list[i].guest);
    for (unsigned j = 0; j < i; j++) seen |= f.list[j].guest == f.list[i].guest;
    wanted += !seen;
  }
  if (memory && wanted > 1) {
    fold(operand);
    available = 2;
  }
  sub.base = operand.base;
  sub.index = operand.index;
  sub.displacement = operand.displacement;
  VENEER_ASSERT(wanted <= available);
  for (unsigned i = 0; i < f.count; i++) {
    const Field& field = f.list[i];
    if (field.high) continue;  // AH-BH: named as in the original, without REX
    if (resident(field.guest)) {
      *field.slot = host_of(field.guest);
      continue;
    }
    unsigned at = 0;
    while (at < used && homes[at] != field.guest) at++;
    if (at == used) {
      homes[used++] = field.guest;
      bool read = false;
      for (unsigned j = i; j < f.count; j++) read |= f.list[j].guest == field.guest && f.list[j].read;
      if (read) a_.load_gs(scratch[at], block_offset_gpr(field.guest));
    }
    *field.slot = scratch[at];
  }
  emit_encoded(a_, insn, sub);
  for (unsigned at = 0; at < used; at++) a_.wrote(scratch[at]);
  for (unsigned at = 0; at < used; at++) {
    bool written = false;
    for (unsigned j = 0; j < f.count; j++) written |= f.list[j].guest == homes[at] && f.list[j].written;
    if (written) a_.store_gs(block_offset_gpr(homes[at]), scratch[at]);
  }
}

/// Makes the operand [T0].
void Translator::fold(HostOperand& operand) {
  if (operand.index >= 0)
    a_.lea(T0, operand.base, static_cast<Host>(operand.index), 0, operand.displacement);
  else
    a_.lea(T0, operand.base, operand.displacement);
  operand = HostOperand{T0, -1, 0};
}

/// AH-BH cannot be named beside REX (traps.md 6): the operand that would need REX goes through a borrowed low register.
void Translator::emit_high_byte(const Insn& insn, const HostOperand* memory) {
  Fields f;
  collect(insn, f);
  std::uint32_t busy = 1u << RAX | 1u << RCX | 1u << RDX | 1u << RBX;  // AH-BH, and CMPXCHG's AL
  for (unsigned i = 0; i < f.count; i++)
    if (!f.list[i].high) busy |= 1u << f.list[i].guest;
  const Host borrowed = busy & (1u << RSI) ? rdi : rsi;
  HostOperand operand = memory ? *memory : HostOperand{};
  if (memory) fold(operand);
  a_.mov(T2, borrowed);
  const Field* through = nullptr;
  if (memory) {
    a_.mov(borrowed, T0);
    f.substitution.base = borrowed;
    f.substitution.index = -1;
  }
  for (unsigned i = 0; i < f.count; i++) {
    const Field& field = f.list[i];
    if (field.high) continue;  // stays as encoded
    if (host_of(field.guest) < 8) continue;
    VENEER_ASSERT(!memory);
    a_.mov(borrowed, host_of(field.guest));  // only rsp: r8-r15 need REX in the original too
    *field.slot = borrowed;
    through = &field;
  }
  emit_encoded(a_, insn, f.substitution);
  if (through) a_.mov(host_of(through->guest), borrowed);
  a_.mov(borrowed, T2);
}

void Translator::native_body(const Insn& insn, bool cold) {
  // On the slow path the flags are rebuilt already, and the state is the fast path's.
  if (!cold) {
    if (flags_need_hardware(insn)) materialise();
    side_[&insn - insns_].flags = flags_.at;
  }
  HostOperand operand;
  const MemoryOperand m = memory_operand(insn);
  if (!cold && plain_operand(m)) operand = {host_of(m.base), T1, static_cast<std::int32_t>(m.displacement)};
  emit_operation(insn, &operand);
}

/// An access that its group's check has covered: no check of its own, and the flags are left alone.
void Translator::emit_grouped(const Insn& insn) {
  const MemoryOperand m = memory_operand(insn);
  if (insn.group_leader) check_group(insn, m);
  const HostOperand operand = group_operand(insn, m);
  if (flags_need_hardware(insn)) materialise();
  note_native_fault(insn);
  emit_operation(insn, &operand);
}

/// VZEROALL and VZEROUPPER outside 64-bit code: registers 8 to 15 stay as they are (SDM 2C VZEROALL).
bool Translator::emit_vzero(ZydisMnemonic mnemonic) {
  if (mnemonic != ZYDIS_MNEMONIC_VZEROALL && mnemonic != ZYDIS_MNEMONIC_VZEROUPPER) return false;
  const bool all = mnemonic == ZYDIS_MNEMONIC_VZEROALL;
  for (unsigned n = 0; n < 8; n++) {
    // VPXOR xmmN, xmmN, xmmN or VMOVDQA xmmN, xmmN: both clear what is above.
    constexpr unsigned VEX_66 = 0x81, none = 0x78, VPXOR = 0xef, VMOVDQA = 0x6f;
    a_.byte(0xc5), a_.byte(VEX_66 | (all ? (~n & 15) << 3 : none)), a_.byte(all ? VPXOR : VMOVDQA);
    a_.byte(0xc0 | n << 3 | n);
  }
  return true;
}

void Translator::emit_native(const Insn& insn) {
  using x86::AddressForm;
  switch (insn.row.form) {
    case AddressForm::None:
      if (flags_need_hardware(insn)) materialise();
      note_native_fault(insn);
      if (!mode_.has(Mode::CODE64) && emit_vzero(insn.mnemonic())) return;
      emit_operation(insn, nullptr);
      if (changes_x87_pointers_only(insn.mnemonic())) engine_.expect_x87_pointers_alone();
      return;
    case AddressForm::Hint:
      return;  // no effect that software can see
    case AddressForm::AddressOnly:
      if (insn.mnemonic() == ZYDIS_MNEMONIC_LEA) emit_lea(insn);
      return;  // NOP r/m
    case AddressForm::Moffs:
      return emit_moffs(insn);
    case AddressForm::BitString:
      return emit_bit_string(insn);
    case AddressForm::ModRm:
    case AddressForm::ElementMask:
    case AddressForm::Compress:
    case AddressForm::FpuEnv:
    case AddressForm::FpuState:
      break;
    case AddressForm::CacheLine: {
      flags_before_access(insn);
      effective_address(memory_operand(insn));
      finish_access(check(insn, {.size = 1}, nullptr));
      return;  // the line's place in a cache is not visible to a guest
    }
    default:
      // Gathers, MASKMOV: element by element in C++.
      if (CalloutFunction f = callout_for(insn)) return emit_callout(insn, f);
      return emit_undefined(insn);
  }
  if (insn.group >= 0) return emit_grouped(insn);
  flags_before_access(insn);
  const MemoryOperand m = memory_operand(insn);
  effective_address(m);
  AccessSpec spec{.size = insn.op[insn.memory_op].size / 8u};
  if (spec.size == 0) return emit_undefined(insn);
  spec.write = insn.row.access == x86::MemAccess::Write || insn.row.access == x86::MemAccess::ReadWrite;
  // x87 stores write nothing, or (FBSTP) a part, when an unmasked exception comes up.
  spec.read = insn.row.access != x86::MemAccess::Write || x86::suppresses_faults(insn.z, insn.row) ||
              insn.row.fp == x86::FpClass::X87;
  spec.keeps_address = !plain_operand(m);
  Cold& cold = check(insn, spec, &Translator::native_body);
  cold.address = m;
  native_body(insn, false);
  finish_access(cold);
}

void Translator::moffs_body(const Insn& insn, bool cold) {
  if (!cold && flags_need_hardware(insn)) materialise();  // the accumulator may be an operand of the recipe
  const unsigned size = insn.z.operand_width / 8u;
  if (insn.row.access == x86::MemAccess::Write)
    a_.store(size, T0, T1, rax);
  else
    a_.load(size, rax, T0, T1);
}

/// MOV between the accumulator and an absolute address.
void Translator::emit_moffs(const Insn& insn) {
  flags_before_access(insn);
  effective_address(memory_operand(insn));
  const bool write = insn.row.access == x86::MemAccess::Write;
  Cold& cold =
      check(insn, {.size = insn.z.operand_width / 8u, .write = write, .read = !write}, &Translator::moffs_body);
  moffs_body(insn, false);
  finish_access(cold);
}

void Translator::bit_string_body(const Insn& insn, bool cold) {
  if (!cold && flags_need_hardware(insn)) materialise();
  // The operand is reached already: only the index within it is left. No flags may change but by the instruction.
  const unsigned bits = insn.z.operand_width;
  bool high;
  const auto guest = static_cast<unsigned>(gpr_number(insn.op[1].reg.value, high));
  a_.lea(T0, T0, T1, 0, 0);
  const Host index = use(guest, T1);
  a_.mov_imm32(T2, 64 - (bits == 64 ? 6u : bits == 32 ? 5u : 4u));
  a_.shlx(T1, index, T2);
  a_.shrx(T1, T1, T2);
  Substitution sub;
  sub.base = T0;
  sub.reg = T1;
  emit_encoded(a_, insn, sub);
}

/// BT, BTS, BTR, BTC m,r: the register indexes a bit string far beyond the operand (SDM 2A 3.1.1.9).
void Translator::emit_bit_string(const Insn& insn) {
  flags_before_access(insn);
  const MemoryOperand m = memory_operand(insn);
  offset_address(m, T0, m.address_bytes == 8);
  const unsigned bits = insn.z.operand_width;
  const unsigned bytes = bits / 8;
  bool high;
  const auto guest = static_cast<unsigned>(gpr_number(insn.op[1].reg.value, high));
  const Host index = use(guest, T1);
  if (bits == 16) {
    a_.movsx16(T1, index);
  } else if (bits == 32) {
    a_.movsxd(T1, index);
  } else if (index != T1) {
    a_.mov(T1, index);
  }
  a_.mov_imm32(T2, bits == 64 ? 6 : bits == 32 ? 5 : 4);
  a_.sarx(T1, T1, T2);
  a_.lea(T0, T0, T1, bits == 64 ? 3 : bits == 32 ? 2 : 1, 0, m.address_bytes == 8);
  if (m.address_bytes == 2) a_.movzx16(T0, T0);
  add_segment_base(m);
  const bool write = insn.mnemonic() != ZYDIS_MNEMONIC_BT;
  Cold& cold = check(insn, {.size = bytes, .write = write}, &Translator::bit_string_body);
  bit_string_body(insn, false);
  finish_access(cold);
}

void Translator::emit_lea(const Insn& insn) {
  const MemoryOperand m = memory_operand(insn);
  bool high;
  const auto guest = static_cast<unsigned>(gpr_number(insn.op[0].reg.value, high));
  if (flags_need_hardware(insn)) materialise();  // the target may be an operand of the recipe
  const unsigned width = insn.z.operand_width;
  const bool direct = width != 16 && resident(guest);
  const bool wide = width == 64 && m.address_bytes == 8;
  offset_address(m, direct ? host_of(guest) : T0, wide);
  if (width == 16) {
    const Host target = use(guest, T1);
    a_.mov16(target, T0);
    if (!resident(guest)) a_.store_gs(block_offset_gpr(guest), T1);
  } else if (!direct) {
    a_.store_gs(block_offset_gpr(guest), T0);
  }
}

}  // namespace veneer::cpu::bt
