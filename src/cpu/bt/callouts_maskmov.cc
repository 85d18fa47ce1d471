// Callouts for MASKMOVQ, MASKMOVDQU and VMASKMOVDQU: only bytes whose mask bit is set are written. Register-only.
//
// The destination is [rDI] with a segment override allowed. What bytes with a clear mask bit may fault is the
// processor's choice (SDM 2B MASKMOVDQU): AMD's check the whole operand as for a plain store, and so do we there;
// else only bytes that are written count.
#include <Zydis/Zydis.h>

#include "base/units.h"
#include "cpu/bt/callouts.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/masked_access.h"
#include "cpu/bt/vcpu.h"
#include "cpu/bt/vector_registers.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint16_t FSW_ES = 1u << 7;

/// MMX instructions raise what an x87 instruction left pending (SDM 3A 12.5).
bool x87_exception_pending() {
  std::uint16_t status;
  asm volatile("fnstsw %0" : "=a"(status));
  return status & FSW_ES;
}

std::uint64_t wrap(const BtVcpu& v, std::uint64_t address) { return v.code64() ? address : address & 0xffffffffu; }

/// Whether a store of `size` bytes, at most a page, may go ahead; else the fault is noted.
bool writable(BtVcpu& v, std::uint64_t address, unsigned size, std::uint8_t segment) {
  const std::uint64_t last = address + size - 1;
  if (!v.range_reachable(segment, address, size)) return v.raise(segment == SS ? VECTOR_SS : VECTOR_GP, 0);
  GuestPhys physical;
  bool faulted;
  v.page_pointer(wrap(v, address), Access::Write, false, physical, faulted);
  if (faulted || ((address ^ last) >> page_shift) == 0) return !faulted;
  v.page_pointer(wrap(v, last) & ~page_offset_mask, Access::Write, false, physical, faulted);
  return !faulted;
}

struct MaskedBytes {
  VectorValue data;
  std::uint64_t mask;  ///< a bit per byte
};

void load_mmx(const VectorOperands& o, MaskedBytes& m) {
  const std::uint64_t data = vector_registers::mmx(o.reg), mask = vector_registers::mmx(o.mask);
  __builtin_memcpy(m.data.byte, &data, sizeof data);
  m.mask = 0;
  for (unsigned i = 0; i < sizeof mask; i++) m.mask |= (mask >> (8 * i + 7) & 1) << i;
}

}  // namespace

Outcome callout_maskmov(BtVcpu& v, const CalloutRecord& r) {
  MaskedBytes m;
  if (r.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ) {
    if (x87_exception_pending()) return v.fault(VECTOR_MF);
    load_mmx(r.vector, m);
  } else {
    vector_registers::store(r.vector.reg, false, m.data);
    m.mask = mask_value(r.vector);
  }
  MemoryOperand operand = r.memory;
  operand.base = RDI;
  operand.index = MemoryOperand::none;
  operand.displacement = 0;
  std::uint64_t address;
  const unsigned size = r.vector.elements;
  // The halves of 16 bytes are two accesses, each with a #GP and a #PF of its own (Zen 4).
  constexpr unsigned half_bytes = 8;
  if (!v.linear_address(operand, address, v.code64() ? 1 : half_bytes, Access::Write)) return Outcome::Fault;
  if (!v.check_alignment(address, 8)) return Outcome::Fault;  // of both forms
  const BtVcpu::AlignmentUnchecked once_is_enough(v);
  const std::uint64_t checked = v.engine().amd() ? low_bits(size) : m.mask & low_bits(size);
  bool ok = true;
  // Every byte is checked before the first is written; the two halves of 16 one after the other (Zen 4).
  for (unsigned half = 0; half < size && ok; half += half_bytes) {
    const auto segment = static_cast<SegReg>(operand.segment);
    const std::uint64_t offset = ((address - v.b->segment_base[segment]) & 0xffffffffu) + half;
    if (half && !v.code64() && !v.check_segment(segment, offset, half_bytes, Access::Write)) return Outcome::Fault;
    for_each_run(checked & (std::uint64_t{0xff} << half),
                 [&](unsigned first, unsigned n) { ok = ok && writable(v, address + first, n, operand.segment); });
  }
  for_each_run(m.mask, [&](unsigned first, unsigned n) {
    ok = ok && v.write_memory(wrap(v, address + first), m.data.byte + first, n);
  });
  return ok ? Outcome::Continue : Outcome::Fault;
}

}  // namespace veneer::cpu::bt
