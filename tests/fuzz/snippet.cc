// Lays out snippets: addresses of instructions, branch displacements, RIP-relative displacements.
#include "snippet.h"

#include <algorithm>
#include <cstring>

namespace veneer::fuzz {

namespace {

std::uint32_t place(Placement placement, std::uint32_t position, std::uint32_t size) {
  constexpr auto end = static_cast<std::uint32_t>(code_pages * page_bytes);
  constexpr auto page = static_cast<std::uint32_t>(page_bytes);
  switch (placement) {
    case Placement::AcrossPages:
      return page - 1 - position % std::max(size, 1u);
    case Placement::BeforePageEnd:
      return page - size - position % 4;
    case Placement::AtEndOfCode:
      return end - size;
    case Placement::Anywhere:
      break;
  }
  return position % (page - size - 16);
}

}  // namespace

void Snippet::lay_out(Case& out) const {
  const auto kept = [&](std::size_t i) { return left_out.empty() || !left_out[i]; };
  std::uint32_t size = 0;
  std::array<std::uint32_t, max_instructions + max_shape_instructions + 1> offsets{};
  for (std::size_t i = 0; i < instructions.size(); i++) {
    offsets[i] = size;
    if (kept(i)) size += instructions[i].length;
  }
  offsets[instructions.size()] = size;
  out.start = start;
  out.width = width;
  out.memory_start = memory_start;
  out.code_offset = place(placement, position, size);
  out.code_size = size;
  const std::uint64_t base = code_base - code_segment_base(width) + out.code_offset;
  out.start.rip = base;
  if (code_pointer >= 0)
    out.start.gpr[static_cast<unsigned>(code_pointer)] = base + offsets[static_cast<std::size_t>(code_pointer_to)];
  for (std::size_t i = 0; i < instructions.size(); i++) {
    if (!kept(i)) continue;
    const Instruction& insn = instructions[i];
    std::uint8_t* at = out.code + offsets[i];
    std::memcpy(at, insn.bytes.data(), insn.length);
    const std::uint32_t next = offsets[i] + insn.length;
    if (insn.branch_to >= 0) {
      const std::uint32_t distance = offsets[static_cast<std::size_t>(insn.branch_to)] - next;
      std::memcpy(at + insn.branch_at, &distance, insn.branch_bytes);
    }
    if (insn.rip_target) {
      const auto distance = static_cast<std::uint32_t>(insn.rip_target - (base + next));
      std::memcpy(at + insn.displacement_at, &distance, 4);
    }
  }
}

}  // namespace veneer::fuzz
