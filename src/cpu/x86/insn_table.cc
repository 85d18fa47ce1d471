// The instruction table put together from its rows, and what the encoding adds to a row.
#include "cpu/x86/insn_table.h"

namespace veneer::cpu::x86 {

namespace {

using Table = std::array<Row, ZYDIS_MNEMONIC_MAX_VALUE + 1>;

constexpr bool Lock = true;
constexpr bool NoLock = false;

constexpr Table make_table() {
  Table table{};
  for (std::size_t mnemonic = 0; mnemonic < table.size(); ++mnemonic) {
    table[mnemonic].mnemonic = static_cast<ZydisMnemonic>(mnemonic);
  }
#define INSN(name, treatment_, form_, fp_, lock, access_) \
  table[ZYDIS_MNEMONIC_##name] = {                        \
      ZYDIS_MNEMONIC_##name, Treatment::treatment_, AddressForm::form_, FpClass::fp_, lock, MemAccess::access_};
#include "cpu/x86/rows_avx.inc"
#include "cpu/x86/rows_avx512.inc"
#include "cpu/x86/rows_control.inc"
#include "cpu/x86/rows_integer.inc"
#include "cpu/x86/rows_sse.inc"
#include "cpu/x86/rows_system.inc"
#include "cpu/x86/rows_x87.inc"
#undef INSN
  return table;
}

constexpr Table table = make_table();

MemAccess access_of(const ZydisDecodedOperand& operand) {
  const bool read = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
  const bool write = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
  if (read && write) return MemAccess::ReadWrite;
  if (write) return MemAccess::Write;
  return read ? MemAccess::Read : MemAccess::None;
}

/// MOV stands for the moves of general, segment, control and debug registers (SDM 2B, MOV).
void refine_mov(const ZydisDecodedInstruction& instruction, Row& row) {
  if (instruction.opcode_map == ZYDIS_OPCODE_MAP_0F) {  // 0F 20-23
    row.treatment = Treatment::CallOut;
    return;
  }
  switch (instruction.opcode) {
    case 0x8c:
    case 0x8e:
      row.treatment = Treatment::Emit;
      break;
    case 0xa0:
    case 0xa1:
    case 0xa2:
    case 0xa3:
      row.treatment = Treatment::Emit;
      row.form = AddressForm::Moffs;
      break;
    default:
      break;
  }
}

/// Outside 64-bit mode these ignore VEX.W and EVEX.W; the same bytes in 64-bit mode have 64-bit operands, and would
/// reach past a 4-byte operand. No assembler sets W here, so #UD is what such a guest gets from us.
bool w_would_widen(const ZydisDecodedInstruction& instruction) {
  if (instruction.machine_mode == ZYDIS_MACHINE_MODE_LONG_64) return false;
  switch (instruction.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
      if (instruction.raw.vex.W == 0) return false;
      break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
      if (instruction.raw.evex.W == 0) return false;
      break;
    default:
      return false;
  }
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_ANDN:
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BZHI:
    case ZYDIS_MNEMONIC_MULX:
    case ZYDIS_MNEMONIC_PDEP:
    case ZYDIS_MNEMONIC_PEXT:
    case ZYDIS_MNEMONIC_RORX:
    case ZYDIS_MNEMONIC_SARX:
    case ZYDIS_MNEMONIC_SHLX:
    case ZYDIS_MNEMONIC_SHRX:
    case ZYDIS_MNEMONIC_VCVTSD2SI:
    case ZYDIS_MNEMONIC_VCVTSD2USI:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTSS2USI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2USI:
    case ZYDIS_MNEMONIC_VCVTTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSS2USI:
    case ZYDIS_MNEMONIC_VCVTUSI2SD:
    case ZYDIS_MNEMONIC_VCVTUSI2SS:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPINSRD:
      return true;
    case ZYDIS_MNEMONIC_KMOVD:
      return instruction.opcode == 0x92 || instruction.opcode == 0x93;  // k,r32; r32,k
    case ZYDIS_MNEMONIC_VPBROADCASTD:
      return instruction.opcode == 0x7c;  // from a GPR
    default:
      return false;
  }
}

/// Mnemonics that stand for different instructions, and encodings that a 64-bit host does not have.
void refine_treatment(const ZydisDecodedInstruction& instruction, Row& row) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
      refine_mov(instruction, row);
      return;
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_CMPSD:
      if (instruction.meta.category == ZYDIS_CATEGORY_STRINGOP) {
        row = {instruction.mnemonic, Treatment::Emit, AddressForm::String, FpClass::None, false, MemAccess::None};
      }
      return;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_RET:
      if (instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        row.treatment = Treatment::CallOut;
        if (row.form == AddressForm::ModRm) row.form = AddressForm::FarPointer;
      }
      return;
    default:
      break;
  }
  if (row.treatment != Treatment::Native || instruction.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT ||
      instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
    return;
  }
  const bool short_inc_dec = instruction.opcode >= 0x40 && instruction.opcode <= 0x4f;
  const bool alias_of_80 = instruction.opcode == 0x82;
  if (short_inc_dec || alias_of_80) row.treatment = Treatment::Emit;
}

void refine_fp(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands, Row& row) {
  if (row.fp == FpClass::Avx && instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) row.fp = FpClass::Avx512;
  if (row.fp != FpClass::Sse) return;
  bool mmx = false, xmm = false;
  for (unsigned i = 0; i < instruction.operand_count_visible; ++i) {
    if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const ZydisRegisterClass file = ZydisRegisterGetClass(operands[i].reg.value);
    mmx |= file == ZYDIS_REGCLASS_MMX;
    xmm |= file == ZYDIS_REGCLASS_XMM;
  }
  // SDM 3B 24.25.3: the MMX forms do not look at CR4.OSFXSR; those between both files do.
  if (mmx && !xmm) row.fp = FpClass::Mmx;
}

void refine_memory(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands, Row& row) {
  switch (row.form) {
    case AddressForm::String:
    case AddressForm::Xlat:
    case AddressForm::MaskMov:
      return;  // addresses that no operand field holds
    default:
      break;
  }
  const int memory = memory_operand(instruction, operands);
  if (memory < 0) {
    row.form = AddressForm::None;
    row.access = MemAccess::None;
    row.lockable = false;
    return;
  }
  // BT m,imm8 stays within its operand; BT m,r does not.
  if (row.form == AddressForm::BitString && operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER) {
    row.form = AddressForm::ModRm;
  }
  if (row.access == MemAccess::Operand) row.access = access_of(operands[memory]);
}

/// The SDM's exception types that end in NF have no fault suppression (SDM 2A 2.8).
bool full_access_despite_mask(const ZydisDecodedInstruction& instruction) {
  switch (instruction.mnemonic) {
    // E4NF in the SDM, and so processors behave; Zydis 4.0 has them as E4.
    case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
    case ZYDIS_MNEMONIC_VDBPSADBW:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
      return true;
    default:
      break;
  }
  switch (instruction.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF:
    case ZYDIS_EXCEPTION_CLASS_E2NF:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E4NF:
    case ZYDIS_EXCEPTION_CLASS_E5NF:
    case ZYDIS_EXCEPTION_CLASS_E6NF:
    case ZYDIS_EXCEPTION_CLASS_E9NF:
    case ZYDIS_EXCEPTION_CLASS_E10NF:
    case ZYDIS_EXCEPTION_CLASS_E11NF:
      return true;
    default:
      return false;
  }
}

}  // namespace

const Row& row(ZydisMnemonic mnemonic) {
  const auto index = static_cast<std::size_t>(mnemonic);
  return table[index < table.size() ? index : 0];
}

Row classify(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  Row result = row(instruction.mnemonic);
  if (result.treatment == Treatment::Undefined) return result;
  if (w_would_widen(instruction)) return Row{.mnemonic = instruction.mnemonic};
  refine_treatment(instruction, result);
  refine_fp(instruction, operands, result);
  refine_memory(instruction, operands, result);
  return result;
}

bool suppresses_faults(const ZydisDecodedInstruction& instruction, const Row& row) {
  switch (row.form) {
    case AddressForm::MaskMov:
    case AddressForm::ElementMask:
    case AddressForm::Compress:
    case AddressForm::Vsib:
      return true;
    case AddressForm::ModRm:
      break;
    default:
      return false;
  }
  if (instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX) return false;
  const ZydisMaskMode mask = instruction.avx.mask.mode;
  if (mask == ZYDIS_MASK_MODE_INVALID || mask == ZYDIS_MASK_MODE_DISABLED) return false;
  return !full_access_despite_mask(instruction);
}

int memory_operand(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  for (int i = 0; i < instruction.operand_count_visible; ++i) {
    if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) return i;
  }
  return -1;
}

}  // namespace veneer::cpu::x86
