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

}  // namespace

void correct_decoding(const std::uint8_t* bytes, ZydisDecodedInstruction& instruction, ZydisDecodedOperand* operands) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
      // A source of 0 leaves the destination alone (APM 3 says so; Intel's processors do it).
      operands[0].actions = ZYDIS_OPERAND_ACTION_READWRITE;
      break;
    default:
      break;
  }
  drop_r13d(bytes, instruction, operands);
  loop_under_rep(instruction);
}

}  // namespace veneer::cpu::x86
