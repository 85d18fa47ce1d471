// Callouts for gathers and scatters (VSIB): element by element, low to high, through checked memory. Register-only.
//
// A fault leaves the elements below it done and their mask bits clear, so that the instruction restarts where it
// stopped (SDM 2C VGATHERDPS, VPSCATTERDD; traps.md 7).
#include <algorithm>

#include "cpu/bt/callouts.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/masked_access.h"
#include "cpu/bt/vcpu.h"
#include "cpu/bt/vector_registers.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t XCR0_AVX512 = 0xe0;

/// One gather or scatter on its way through its elements.
struct Elements {
  const VectorOperands& operands;
  bool wide;              ///< the host's registers have 64 bytes, all of which a fault must keep
  std::uint64_t base;     ///< effective address without the index
  std::uint64_t pending;  ///< a bit for each element still to be done
  VectorValue data, index, mask;
};

void clear(void* to, std::uint64_t n) { asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0) : "memory"); }

bool scatters(const CalloutRecord& r) {
  switch (r.mnemonic) {
    case ZYDIS_MNEMONIC_VPSCATTERDD:
    case ZYDIS_MNEMONIC_VPSCATTERDQ:
    case ZYDIS_MNEMONIC_VPSCATTERQD:
    case ZYDIS_MNEMONIC_VPSCATTERQQ:
    case ZYDIS_MNEMONIC_VSCATTERDPS:
    case ZYDIS_MNEMONIC_VSCATTERDPD:
    case ZYDIS_MNEMONIC_VSCATTERQPS:
    case ZYDIS_MNEMONIC_VSCATTERQPD:
      return true;
    default:
      return false;
  }
}

std::int64_t index_of(const Elements& e, unsigned i) {
  if (e.operands.index_bytes == 4) {
    std::int32_t index;
    __builtin_memcpy(&index, e.index.byte + i * 4, 4);
    return index;
  }
  std::int64_t index;
  __builtin_memcpy(&index, e.index.byte + i * 8, 8);
  return index;
}

bool element_address(BtVcpu& v, const CalloutRecord& r, const Elements& e, unsigned i, std::uint64_t& address) {
  MemoryOperand m = r.memory;
  m.base = m.index = MemoryOperand::none;
  m.displacement =
      static_cast<std::int64_t>(e.base + (static_cast<std::uint64_t>(index_of(e, i)) << r.memory.scale_log2));
  if (!v.linear_address(m, address, e.operands.element_bytes, scatters(r) ? Access::Write : Access::Read)) return false;
  if (v.code64() && !v.canonical(address + e.operands.element_bytes - 1))
    return v.raise(m.segment == SS ? VECTOR_SS : VECTOR_GP, 0);
  return true;
}

/// Clears the mask of the elements below the first pending one; all of it when none is.
void put_mask(Elements& e) {
  const VectorOperands& o = e.operands;
  const unsigned finished = e.pending ? static_cast<unsigned>(__builtin_ctzll(e.pending)) : 64;
  if (o.kind == MaskKind::Opmask) {
    vector_registers::set_opmask(o.mask, vector_registers::opmask(o.mask) & ~low_bits(finished));
    return;
  }
  clear(e.mask.byte, e.pending ? finished * o.element_bytes : sizeof e.mask.byte);
  vector_registers::load(o.mask, e.wide, e.mask);
}

/// A gather's result. The register's bytes above the last element are cleared once all is done. After a fault a VEX
/// form has left them alone, while an EVEX form writes whole registers of its length (as AMD Zen 4 does).
void put_destination(Elements& e, bool any_done) {
  const VectorOperands& o = e.operands;
  const unsigned used = o.elements * o.element_bytes;
  const unsigned length = o.elements * std::max(o.element_bytes, o.index_bytes);
  if (!e.pending)
    clear(e.data.byte + used, sizeof e.data.byte - used);
  else if (!any_done)
    return;
  else if (o.kind == MaskKind::Opmask)
    clear(e.data.byte + length, sizeof e.data.byte - length);
  vector_registers::load(e.operands.reg, e.wide, e.data);
}

}  // namespace

Outcome callout_gather(BtVcpu& v, const CalloutRecord& r) {
  Elements e{.operands = r.vector,
             .wide = (v.engine().vector_mask() & XCR0_AVX512) == XCR0_AVX512,
             .base = v.effective_address(r.memory),
             .pending = mask_value(r.vector) & low_bits(r.vector.elements),
             .data = {},
             .index = {},
             .mask = {}};
  const BtVcpu::AlignmentUnchecked as_processors_do(v);
  const bool scatter = scatters(r);
  const unsigned bytes = e.operands.element_bytes;
  vector_registers::store(e.operands.reg, e.wide, e.data);
  vector_registers::store(e.operands.index, e.wide, e.index);
  if (e.operands.kind == MaskKind::SignBits) vector_registers::store(e.operands.mask, e.wide, e.mask);
  const std::uint64_t all = e.pending;
  bool ok = true;
  while (e.pending) {
    const auto i = static_cast<unsigned>(__builtin_ctzll(e.pending));
    std::uint64_t address;
    std::uint64_t value;  // a fault in an element's second page must leave the register alone
    __builtin_memcpy(&value, e.data.byte + i * bytes, bytes);
    ok = element_address(v, r, e, i, address) &&
         (scatter ? v.write_memory(address, &value, bytes) : v.read_memory(address, &value, bytes));
    if (!ok) break;
    if (!scatter) __builtin_memcpy(e.data.byte + i * bytes, &value, bytes);
    e.pending &= e.pending - 1;
  }
  // A device may have been asked: then the registers went to the save area.
  v.load_vectors();
  if (!scatter) put_destination(e, e.pending != all);
  put_mask(e);
  if (ok) return Outcome::Continue;
  // Elements that are done make a pending single-step trap due; the fault comes when the rest is tried again.
  if ((v.s.rflags & RFLAGS_TF) && e.pending != all) {
    v.b->rip = v.rip_of(r.offset);
    return Outcome::Leave;
  }
  return Outcome::Fault;
}

}  // namespace veneer::cpu::bt
