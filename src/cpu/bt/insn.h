// One decoded guest instruction, with what the translator's passes found out about it.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>

#include "cpu/bt/callout.h"
#include "cpu/x86/insn_table.h"

namespace veneer::cpu::bt {

struct Insn {
  ZydisDecodedInstruction z;
  ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
  x86::Row row;
  std::uint16_t offset = 0;  ///< in the page
  std::uint8_t raw[16] = {};
  std::int8_t memory_op = -1;  ///< index of the memory operand
  bool undefined = false;      ///< gives #UD
  bool too_long = false;       ///< gives #GP(0): more than 15 bytes (SDM 2A 2.3.11)

  // Arithmetic flags (CF PF AF ZF SF OF) as one unit.
  bool reads_flags = false;
  bool writes_all_flags = false;
  bool writes_some_flags = false;
  bool native_fault = false;  ///< may fault natively with flags visible: divide, x87, SIMD arithmetic
  std::uint8_t accesses = 0;  ///< memory checks it will have, roughly
  bool flags_needed = false;  ///< somebody may look at the flags as they are before this instruction

  // Access groups (groups.cc).
  std::int8_t group = -1;      ///< the group its memory access belongs to
  bool group_leader = false;   ///< it makes the check for all of them
  std::int32_t group_low = 0;  ///< the leader: displacement of the group's first byte at this point
  std::int32_t group_at = 0;   ///< its access, in bytes from the base's value at the block's start

  std::uint32_t gpr_written = 0;  ///< guest registers it may write, hidden operands included

  /// As new; the decoder fills `z` and `op` itself (they are large).
  void reset(std::uint16_t at) {
    offset = at;
    row = {};
    memory_op = -1;
    undefined = too_long = reads_flags = writes_all_flags = writes_some_flags = native_fault = flags_needed = false;
    accesses = 0;
    for (auto& byte : raw) byte = 0;
    group = -1;
    group_leader = false;
    gpr_written = 0;
  }

  std::uint16_t next_offset() const { return static_cast<std::uint16_t>(offset + z.length); }
  ZydisMnemonic mnemonic() const { return z.mnemonic; }
};

/// Number of a general-purpose register (0-15), or -1; `high` tells AH, CH, DH, BH (then 0-3).
int gpr_number(ZydisRegister reg, bool& high);

/// Fills the analysis fields of a decoded instruction.
void analyse(Insn& insn);

/// Pending x87 exceptions come before the memory operand's faults (SDM 1 8.7.3, 3A 12.5).
bool waits_for_x87(const Insn& insn);

/// The instruction's memory operand in engine terms. RIP-relative displacements count from the page's start.
MemoryOperand memory_operand(const Insn& insn);

}  // namespace veneer::cpu::bt
