// Walks systematically through the encoding space, for tests that want to see every instruction once.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <functional>

namespace veneer::cpu::x86 {

/// One decoded instruction of the sweep.
struct SweepItem {
  std::array<std::uint8_t, 24> bytes;  ///< the instruction, then zeros
  ZydisDecodedInstruction instruction;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
};

using SweepVisitor = std::function<void(const SweepItem&)>;

/// Calls `visit` for everything that decodes among: legacy maps with and without 66, F2, F3, F0 and REX.W; VEX and
/// EVEX maps with each W, length, pp, and (EVEX) zeroing, broadcast and an opmask. ModRM takes `modrm_rm` as its rm
/// field with mod 00 (memory) and mod 11 (register), and every reg field. Immediates and displacements are zero.
void sweep_encodings(const ZydisDecoder& decoder, std::uint8_t modrm_rm, const SweepVisitor& visit);

}  // namespace veneer::cpu::x86
