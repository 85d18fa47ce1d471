// Corrections to what Zydis 4.0 says where processors do otherwise. tests/fuzz found each of them.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>

namespace veneer::cpu::x86 {

/// Puts right a decoded instruction and its visible operands. `bytes` is its encoding.
void correct_decoding(const std::uint8_t* bytes, ZydisDecodedInstruction& instruction, ZydisDecodedOperand* operands);

}  // namespace veneer::cpu::x86
