// What masks, indices and elements a vector instruction has, for those that touch memory element by element.
#pragma once

#include "cpu/bt/insn.h"

namespace veneer::cpu::bt {

/// Filled for Vsib, MaskMov, ElementMask and Compress forms and for opmasked memory operands; else kind is None.
VectorOperands vector_operands(const Insn& insn);

/// True when the memory operand goes through masked_access() once the plain check fails.
bool masked_operand(const Insn& insn);

}  // namespace veneer::cpu::bt
