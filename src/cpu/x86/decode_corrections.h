// Corrections to what Zydis 4.0 says where processors do otherwise. tests/fuzz found each of them.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>

namespace veneer::cpu::x86 {

/// Puts right an instruction that `decoder` (of make_decoder()) took from `bytes`, and its operands
/// (ZYDIS_MAX_OPERAND_COUNT of them). An encoding that the processor does not know gets ZYDIS_MNEMONIC_INVALID.
void correct_decoding(const ZydisDecoder& decoder, const std::uint8_t* bytes, ZydisDecodedInstruction& instruction,
                      ZydisDecodedOperand* operands);

}  // namespace veneer::cpu::x86
