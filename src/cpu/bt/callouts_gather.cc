// Callouts for gathers and scatters (VSIB): element by element, low to high, through checked memory. Register-only.
//
// A fault leaves the elements below it done and their mask bits clear, so that the instruction restarts where it
// stopped (SDM 2C VGATHERDPS, VPSCATTERDD; traps.md 7).
#include "cpu/bt/callouts.h"
#include "cpu/bt/masked_access.h"
#include "cpu/bt/vcpu.h"
#include "cpu/bt/vector_registers.h"

namespace veneer::cpu::bt {
namespace {

/// One gather or scatter on its way through its elements.
struct Elements {
  const VectorOperands& operands;
  bool evex;
  std::uint64_t base;     ///< effective address without the index
  std::uint64_t pending;  ///< a bit for each element still to be done
  VectorValue data, index, mask;
};

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
  if (!v.linear_address(m, address)) return false;
  if (v.code64() && !v.canonical(address + e.operands.element_bytes - 1))
    return v.raise(m.segment == SS ? VECTOR_SS : VECTOR_GP, 0);
  return true;
}

/// Clears the mask of the elements that are done; of all of it once none is pending.
void put_mask(Elements& e, std::uint64_t done) {
  const VectorOperands& o = e.operands;
  if (e.evex) {
    vector_registers::set_opmask(o.mask, e.pending ? vector_registers::opmask(o.mask) & ~done : 0);
    return;
  }
  for (unsigned i = 0; i < sizeof e.mask.byte / 8; i++) {
    std::uint64_t lane = 0;
    for (unsigned j = 0; j < 8 / o.element_bytes; j++) {
      const unsigned element = i * 8 / o.element_bytes + j;
      if (element < o.elements && ((e.pending >> element) & 1))
        lane |= (o.element_bytes == 8 ? ~std::uint64_t{0} : 0xffffffffu) << (j * 32);
    }
    __builtin_memcpy(e.mask.byte + i * 8, &lane, 8);
  }
  vector_registers::load(o.mask, false, e.mask);
}

/// A gather's result: the register's bytes above the last element are cleared.
void put_destination(Elements& e) {
  const unsigned used = e.operands.elements * e.operands.element_bytes;
  for (unsigned i = used; i < sizeof e.data.byte; i += 8) __builtin_memset(e.data.byte + i, 0, 8);
  vector_registers::load(e.operands.reg, e.evex, e.data);
}

}  // namespace

Outcome callout_gather(BtVcpu& v, const CalloutRecord& r) {
  Elements e{.operands = r.vector,
             .evex = r.vector.kind == MaskKind::Opmask,
             .base = v.effective_address(r.memory),
             .pending = mask_value(r.vector) & low_bits(r.vector.elements),
             .data = {},
             .index = {},
             .mask = {}};
  const bool scatter = scatters(r);
  const unsigned bytes = e.operands.element_bytes;
  vector_registers::store(e.operands.reg, e.evex, e.data);
  vector_registers::store(e.operands.index, e.evex, e.index);
  const std::uint64_t all = e.pending;
  bool ok = true;
  while (e.pending) {
    const auto i = static_cast<unsigned>(__builtin_ctzll(e.pending));
    std::uint64_t address;
    std::uint8_t* element = e.data.byte + i * bytes;
    ok = element_address(v, r, e, i, address) &&
         (scatter ? v.write_memory(address, element, bytes) : v.read_memory(address, element, bytes));
    if (!ok) break;
    e.pending &= e.pending - 1;
  }
  // A device may have been asked: then the registers went to the save area.
  v.load_vectors();
  if (!scatter && (ok || e.pending != all)) put_destination(e);
  put_mask(e, all & ~e.pending);
  return ok ? Outcome::Continue : Outcome::Fault;
}

}  // namespace veneer::cpu::bt
