// Re-encoding a guest instruction with other registers and a host address in place of its operands.
#pragma once

#include "cpu/bt/assembler.h"
#include "cpu/bt/insn.h"

namespace veneer::cpu::bt {

/// What replaces the fields of an instruction; -1 keeps a field as it is.
struct Substitution {
  int reg = -1;     ///< ModRM.reg
  int rm = -1;      ///< ModRM.rm when it is a register
  int vvvv = -1;    ///< VEX/EVEX.vvvv
  int opcode = -1;  ///< register in the opcode's low 3 bits
  int base = -1;    ///< memory operand becomes [base + displacement] or [base + index + displacement]
  int index = -1;
  std::int32_t displacement = 0;
};

/// Emits `insn` with the substitution. Segment and address-size prefixes are dropped.
/// A legacy instruction must not name AH-BH when a substituted field needs REX (the caller sees to it).
void emit_encoded(Assembler& a, const Insn& insn, const Substitution& s);

}  // namespace veneer::cpu::bt
