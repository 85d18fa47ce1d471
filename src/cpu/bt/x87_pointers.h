// The x87's last instruction and data pointers, as a guest sees them in its state images.
//
// Guest x87 instructions run natively, so the host's registers hold addresses of ours: of translated code, and of
// guest RAM or the bounce buffer. Nothing is recorded while they run. Only when an image is stored are these addresses
// led back (x87_pointers.cc): the instruction by the code cache's tables, the data by the software TLB.
#pragma once

#include <cstdint>

#include "cpu/bt/block.h"
#include "cpu/bt/callout.h"

namespace veneer::cpu::bt {

/// As software sees them (SDM 1 8.1.8). The pointers are offsets in their segments.
struct X87Pointers {
  std::uint64_t instruction = 0, data = 0;
  std::uint16_t code_selector = 0, data_selector = 0;
  std::uint16_t opcode = 0;  ///< low 3 bits of the first opcode byte, and ModRM
};

/// What the host's registers hold: the low halves say all that is needed. Zero is zero for the guest too.
struct HostX87Pointers {
  /// The guest loaded a pointer and no instruction has changed it since.
  static constexpr std::uint32_t loaded = 1;

  std::uint32_t instruction = 0, data = 0;
  std::uint16_t opcode = 0;
};

/// What the pointers are made of. The operand's displacement is from the page's start where it is relative to RIP.
struct X87Instruction {
  std::uint16_t opcode = 0;
  bool has_data = false;  ///< it updates the data pointer
  MemoryOperand operand;
};

/// Takes apart an instruction at `offset` in its page, of which at most `count` bytes are there. False when it is none
/// of the x87's.
bool decode_x87(const std::uint8_t* bytes, unsigned count, Mode mode, unsigned offset, X87Instruction& out);

}  // namespace veneer::cpu::bt
