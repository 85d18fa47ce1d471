// Corrections to what Zydis 4.0 says where processors do otherwise.
#include "cpu/x86/decode_corrections.h"

#include <cstring>

namespace veneer::cpu::x86 {

namespace {

/// SIB base 101b with mod 00 is a displacement without a base, whatever REX.B says (SDM 2A table 2-3, note 1). With
/// an address-size prefix and REX.B, Zydis takes R13D for a base and forgets the displacement's value.
void drop_r13d(const std::uint8_t* bytes, const ZydisDecodedInstruction& instruction, ZydisDecodedOperand* operands) {
  const auto& raw = instruction.raw;
  if (instruction.address_width != 32 || raw.sib.offset == 0 || raw.modrm.mod != 0 || (raw.sib.base & 7) != 5) return;
  for (unsigned i = 0; i < instruction.operand_count_visible; ++i) {
    auto& memory = operands[i].mem;
    if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY || memory.base != ZYDIS_REGISTER_R13D) continue;
    std::int32_t displacement;
    std::memcpy(&displacement, bytes + raw.sib.offset + 1, sizeof displacement);
    memory.base = ZYDIS_REGISTER_NONE;
    memory.disp.has_displacement = ZYAN_TRUE;
    memory.disp.value = displacement;
  }
}

/// REPE makes LOOPNE a LOOPE and REPNE makes LOOPE a LOOPNE; the last REP prefix counts.
void loop_under_rep(ZydisDecodedInstruction& instruction) {
  if (instruction.mnemonic != ZYDIS_MNEMONIC_LOOPE && instruction.mnemonic != ZYDIS_MNEMONIC_LOOPNE) return;
  constexpr std::uint8_t REPNE = 0xf2, REPE = 0xf3;
  for (unsigned i = 0; i < instruction.raw.prefix_count; ++i) {
    if (instruction.raw.prefixes[i].value == REPNE) instruction.mnemonic = ZYDIS_MNEMONIC_LOOPNE;
    if (instruction.raw.prefixes[i].value == REPE) instruction.mnemonic = ZYDIS_MNEMONIC_LOOPE;
  }
}

/// F3 90 is PAUSE, but with REX.B it is XCHG r8, rAX, and the prefix means nothing.
void xchg_r8(const ZydisDecoder& decoder, const std::uint8_t* bytes, ZydisDecodedInstruction& instruction,
             ZydisDecodedOperand* operands) {
  if (instruction.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 || !instruction.raw.rex.B) return;
  constexpr std::uint8_t REPNE = 0xf2, REPE = 0xf3, harmless = 0x3e;  // DS, which 64-bit code ignores
  std::uint8_t without[ZYDIS_MAX_INSTRUCTION_LENGTH];
  std::memcpy(without, bytes, instruction.length);
  for (unsigned i = 0; i < instruction.raw.prefix_count; ++i)
    if (without[i] == REPNE || without[i] == REPE) without[i] = harmless;
  ZydisDecoderDecodeFull(&decoder, without, instruction.length, &instruction, operands);
}

/// 66h without REX.W makes the target of a near branch 16 bits wide on AMD processors, and what CALL and RET push and
/// pop (APM 3, near branches in 64-bit mode). Zydis' AMD mode does so for rel32 only.
void narrow_branch(ZydisDecodedInstruction& instruction, ZydisDecodedOperand* operands) {
  const ZydisBranchType type = instruction.meta.branch_type;
  if (type != ZYDIS_BRANCH_TYPE_SHORT && type != ZYDIS_BRANCH_TYPE_NEAR) return;
  if (!(instruction.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) || instruction.raw.rex.W) return;
  instruction.operand_width = 16;
  if (operands[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) operands[0].size = 16;
}

/// Far CALL and JMP know no 64-bit offset on AMD processors: with REX.W the pointer has a 32-bit one (APM 3 JMP far),
/// though CALL pushes 64 bits.
void narrow_far_pointer(ZydisDecodedInstruction& instruction, ZydisDecodedOperand* operands) {
  if (instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR || !instruction.raw.rex.W) return;
  if (instruction.mnemonic != ZYDIS_MNEMONIC_CALL && instruction.mnemonic != ZYDIS_MNEMONIC_JMP) return;
  constexpr ZyanU16 pointer_bits = 32 + 16;
  operands[0].size = pointer_bits;
}

/// Where AMD's processors read an encoding otherwise than Intel's.
void as_amd_does(ZydisDecodedInstruction& instruction, ZydisDecodedOperand* operands) {
  if (instruction.machine_mode == ZYDIS_MACHINE_MODE_LONG_64) {
    narrow_branch(instruction, operands);
    narrow_far_pointer(instruction, operands);
  }
  // PREFETCH and PREFETCHW of a register (APM 3); Intel's processors do nothing there.
  constexpr std::uint8_t PREFETCH = 0x0d;
  if (instruction.opcode_map == ZYDIS_OPCODE_MAP_0F && instruction.opcode == PREFETCH && instruction.raw.modrm.mod == 3)
    instruction.mnemonic = ZYDIS_MNEMONIC_INVALID;
}

}  // namespace

void correct_decoding(const ZydisDecoder& decoder, const std::uint8_t* bytes, ZydisDecodedInstruction& instruction,
                      ZydisDecodedOperand* operands) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
      // A source of 0 leaves the destination alone (APM 3 says so; Intel's processors do it).
      operands[0].actions = ZYDIS_OPERAND_ACTION_READWRITE;
      break;
    case ZYDIS_MNEMONIC_PAUSE:
      xchg_r8(decoder, bytes, instruction, operands);
      break;
    default:
      break;
  }
  drop_r13d(bytes, instruction, operands);
  loop_under_rep(instruction);
  if (decoder.decoder_mode[ZYDIS_DECODER_MODE_AMD_BRANCHES]) as_amd_does(instruction, operands);
}

}  // namespace veneer::cpu::x86
