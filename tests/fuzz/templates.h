// Templates: one example of every encoding that the host runs and the guest is offered, grouped by mnemonic.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <vector>

#include "cpu/cpuid.h"
#include "cpu/x86/insn_table.h"

namespace veneer::fuzz {

enum class Map : std::uint8_t { Legacy, Vex, Evex };

/// The parts of an encoding. Instruction bytes are: `prefixes`, then REX, `opcode` for Legacy, or the VEX/EVEX
/// payload and one opcode byte; ModRM, SIB and displacement; immediates.
struct Template {
  ZydisMnemonic mnemonic;
  Map map;
  bool memory;  ///< ModRM with a memory operand
  bool has_modrm;
  bool reg_free;  ///< ModRM.reg selects a register, not an operation
  bool rm_free;
  bool vvvv_free;
  bool vsib;      ///< gather or scatter: needs a SIB byte whose index is a vector
  bool relative;  ///< the immediate is a branch displacement
  bool moffs;
  bool rex_w;
  std::uint8_t modrm;
  std::uint8_t prefix_count, opcode_count, immediate_bytes;
  std::array<std::uint8_t, 4> prefixes;  ///< mandatory ones and LOCK
  std::array<std::uint8_t, 4> opcode;    ///< with escape bytes for Legacy
  std::array<std::uint8_t, 3> payload;   ///< VEX's last two bytes or EVEX's three
};

/// All templates of one mnemonic, register and memory forms.
struct RowTemplates {
  ZydisMnemonic mnemonic;
  std::vector<Template> forms;
};

/// True when a case may hold this instruction: deterministic, and harmless to run natively.
bool may_run_natively(const ZydisDecodedInstruction& instruction);

std::vector<RowTemplates> collect_templates(const ZydisDecoder& decoder, const cpu::x86::FeatureGate& gate);

}  // namespace veneer::fuzz
