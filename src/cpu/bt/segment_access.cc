// What a segment lets through: limits, expand-down, types (SDM 3A 5.3, 5.4). Register-only.
//
// Translated code compares with read_limit and write_limit of the vCPU block, which stand for everything that an
// expand-up segment of the right type says; whatever else there is asks here.
#include <algorithm>

#include "cpu/bt/descriptor.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint32_t whole = 0xffffffffu;
constexpr std::int64_t ask = -1;

bool expands_down(const Segment& g) { return (g.attributes & (TYPE_CODE | TYPE_EXPAND_DOWN)) == TYPE_EXPAND_DOWN; }

}  // namespace

bool BtVcpu::segment_permits(SegReg which, Access access) const {
  const Segment& g = s.segments[which];
  if (!(g.attributes & Segment::P)) return false;
  // Real and virtual-8086 mode write through CS as they please.
  if (which == CS && (!(s.cr0 & CR0_PE) || (s.rflags & RFLAGS_VM))) return true;
  if (g.attributes & TYPE_CODE) return access == Access::Read && (g.attributes & TYPE_WRITE_READ);
  return access == Access::Read || (g.attributes & TYPE_WRITE_READ);
}

bool BtVcpu::segment_covers(const Segment& g, std::uint64_t offset, std::uint64_t size) {
  const std::uint64_t last = offset + size - 1;
  // Operands do not wrap round at 4 GiB either: SDM 3A 5.3 leaves that open, AMD's processors say #GP and #SS.
  if (!expands_down(g)) return last <= g.limit;
  return offset > g.limit && last <= (g.attributes & Segment::DB ? whole : 0xffffu);
}

bool BtVcpu::segment_allows(SegReg which, std::uint64_t offset, std::uint64_t size, Access access) const {
  return segment_permits(which, access) && segment_covers(s.segments[which], offset, size);
}

bool BtVcpu::check_segment(SegReg which, std::uint64_t offset, std::uint64_t size, Access access) {
  return segment_allows(which, offset, size, access) || raise(which == SS ? VECTOR_SS : VECTOR_GP, 0);
}

bool BtVcpu::flat(SegReg which) const {
  const Segment& g = s.segments[which];
  return g.limit == whole && (g.attributes & Segment::P) && !expands_down(g) &&
         (which == CS || segment_permits(which, Access::Write));
}

void BtVcpu::limits_changed() {
  for (unsigned i = 0; i < segment_count; i++) {
    const auto which = static_cast<SegReg>(i);
    const Segment& g = s.segments[which];
    const std::int64_t limit = expands_down(g) ? ask : std::int64_t{g.limit};
    b->read_limit[i] = segment_permits(which, Access::Read) ? limit : ask;
    b->write_limit[i] = segment_permits(which, Access::Write) ? limit : ask;
  }
  // 16-bit code wraps at 64 KiB whatever the limit.
  const Segment& cs = s.segments[CS];
  const std::uint64_t last = cs.attributes & Segment::DB ? cs.limit : std::min<std::uint32_t>(cs.limit, 0xffff);
  b->code_limit = static_cast<std::int64_t>(((cs.base + last + 1) & ~page_offset_mask) - cs.base) - 1;
}

}  // namespace veneer::cpu::bt
