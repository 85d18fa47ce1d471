// Instructions that shadow mode cannot run twice.
#pragma once

#include "cpu/bt/insn.h"

namespace veneer::cpu::bt {

/// True when running the instruction again, after undoing registers and memory, is not the same: its result is new each
/// time (time stamps, random numbers), or it changes more than registers and memory (ports, MSRs, control and debug
/// registers, TLBs).
bool once_only(const Insn& insn);

}  // namespace veneer::cpu::bt
