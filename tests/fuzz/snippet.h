// A snippet: a few instructions that can be laid out at any place, and laid out again with some of them left out.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <vector>

#include "image.h"

namespace veneer::fuzz {

inline constexpr unsigned max_instructions = 12, max_shape_instructions = 4;

struct Instruction {
  std::array<std::uint8_t, 16> bytes{};
  std::uint8_t length = 0;
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  int branch_to = -1;  ///< index of the instruction a relative branch leads to; one past the last is the end
  std::uint8_t branch_at = 0, branch_bytes = 0;  ///< its displacement in `bytes`
  std::uint64_t rip_target = 0;                  ///< what a RIP-relative operand refers to, if not 0
  std::uint8_t displacement_at = 0;
};

/// Where the snippet lies in the code pages.
enum class Placement : std::uint8_t { Anywhere, AcrossPages, BeforePageEnd, AtEndOfCode };

struct Snippet {
  CodeWidth width = CodeWidth::Bits64;
  std::vector<Instruction> instructions;
  std::vector<bool> left_out;  ///< by index; empty when nothing is
  Placement placement = Placement::Anywhere;
  std::uint32_t position = 0;  ///< a random number for the placement
  Image start{};               ///< rip is set by lay_out()
  std::uint32_t memory_start = 0;
  int code_pointer = -1;  ///< register that holds the address of an instruction, or -1
  int code_pointer_to = 0;

  void lay_out(Case& out) const;
};

}  // namespace veneer::fuzz
