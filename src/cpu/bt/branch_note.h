// What a near branch leaves behind for the case that its target cannot be reached.
//
// A target that is not canonical (or beyond CS.limit) is #GP(0) at the branch, with nothing pushed or popped (SDM 2
// CALL, JMP, RET; AMD's processors agree). To look at every target would cost every indirect branch. But such a target
// is in no jump cache, so the look-up in C++ sees it: by then the branch is done, and this note says how to take it
// back. It stands behind the call of stub_branch. A CALL's note can only give back the stack's old contents if they
// were kept in VcpuBlock::under_call: indirect calls of 64-bit code do so. Direct calls could leave the canonical half
// at its very edge only, and there the word under the stack pointer stays changed.
#pragma once

#include <cstdint>

namespace veneer::cpu::bt {

struct [[gnu::packed]] BranchNote {  // in the code stream, at any address
  std::uint32_t bits;

  /// `stack_bytes`: what to add to rSP; 2, 4 or 8 after a CALL, negative after a RET.
  static constexpr BranchNote of(std::uint16_t offset, std::int32_t stack_bytes, bool kept) {
    return {static_cast<std::uint32_t>(offset) | (kept ? KEPT : 0) | static_cast<std::uint32_t>(stack_bytes) << 13};
  }
  /// No branch: execution ran on from the block's end.
  static constexpr BranchNote none() { return {~0u}; }

  bool is_branch() const { return bits != ~0u; }
  std::uint16_t offset() const { return bits & 0xfff; }  ///< of the branch in its page
  bool kept() const { return (bits & KEPT) != 0; }
  std::int32_t stack_bytes() const { return static_cast<std::int32_t>(bits) >> 13; }

 private:
  static constexpr std::uint32_t KEPT = 1u << 12;
};
static_assert(sizeof(BranchNote) == 4);

}  // namespace veneer::cpu::bt
