// Callouts for MASKMOVQ, MASKMOVDQU and VMASKMOVDQU: only bytes whose mask bit is set are written. Register-only.
//
// The destination is [rDI] with a segment override allowed. A mask of all zeros touches nothing and so faults nowhere,
// one of the choices that SDM 2B MASKMOVDQU leaves to the processor.
#include <Zydis/Zydis.h>

#include "cpu/bt/callouts.h"
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
  bool ok = true;
  // Every byte is checked before the first is written.
  for (const bool write : {false, true})
    for_each_run(m.mask, [&](unsigned first, unsigned n) {
      for (unsigned i = first; ok && i < first + n; i += write ? n : 1) {
        MemoryOperand at = operand;
        at.displacement = i;
        std::uint64_t address;
        ok = v.linear_address(at, address);
        if (!ok) return;
        if (write) {
          ok = v.write_memory(address, m.data.byte + i, n);
        } else {
          GuestPhys physical;
          bool faulted;
          v.page_pointer(address, Access::Write, false, physical, faulted);
          ok = !faulted;
        }
      }
    });
  return ok ? Outcome::Continue : Outcome::Fault;
}

}  // namespace veneer::cpu::bt
