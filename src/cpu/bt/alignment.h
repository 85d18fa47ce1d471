// Which instructions refuse a misaligned memory operand with #GP.
#pragma once

#include "cpu/bt/insn.h"

namespace veneer::cpu::bt {

/// True when the operand must be aligned to its size. #GP for that comes before any page fault (SDM 3A 6.9).
bool demands_alignment(const Insn& insn);

}  // namespace veneer::cpu::bt
