// What VMRUN refuses (APM 2 15.5.1, "Canonicalization and Consistency Checks"; 15.20; 15.25.3). Register-only.
#include "cpu/bt/control_registers.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"
#include "cpu/msr.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t upper_half = ~std::uint64_t{0xffffffff};

bool injection_allowed(EventField event) {
  if (!event.valid()) return true;
  switch (event.type()) {
    case EventField::INTR:
    case EventField::NMI:
    case EventField::SOFTWARE:
      return true;
    case EventField::EXCEPTION:
      return event.vector() < 32 && event.vector() != VECTOR_NMI;
    default:
      return false;
  }
}

/// Each byte a memory type that exists.
bool pat_allowed(std::uint64_t pat) {
  for (unsigned i = 0; i < 8; i++, pat >>= 8) {
    const std::uint64_t type = pat & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

}  // namespace

bool BtVcpu::guest_state_allowed(const VmcbControl& control, const VmcbSave& save) const {
  const CpuidPolicy& cpuid = engine_.cpuid();
  const std::uint64_t beyond = ~std::uint64_t{0} << cpuid.physical_bits();
  const auto past_end = [&](std::uint64_t base, std::uint64_t bytes) {
    base &= ~page_offset_mask;
    return ((base | (base + bytes - 1)) & beyond) != 0;
  };
  std::uint64_t efer = EFER_SVME | EFER_LMA;
  if (has(cpuid, Feature::SYSCALL)) efer |= EFER_SCE;
  if (has(cpuid, Feature::NX)) efer |= EFER_NXE;
  if (has(cpuid, Feature::LONG_MODE)) efer |= EFER_LME;
  const bool paging = save.cr0 & CR0_PG, lme = save.efer & EFER_LME, pae = save.cr4 & CR4_PAE;
  const bool long_mode = lme && paging;
  constexpr auto vmrun_bit = static_cast<unsigned>(ExitCode::VMRUN);
  if (!(control.intercepts[vmrun_bit / 32] & (1u << vmrun_bit % 32)) || control.asid == 0) return false;
  if (past_end(control.iopm_base_pa, io_map_bytes) || past_end(control.msrpm_base_pa, msr_map_bytes)) return false;
  if (!injection_allowed({control.event_injection})) return false;
  if ((control.np_enable & NP_ENABLE) && has(cpuid, Feature::NPT) &&
      (!(s.cr0 & CR0_PG) || (control.n_cr3 & beyond) || !pat_allowed(save.g_pat)))
    return false;
  if (!(save.efer & EFER_SVME) || (save.efer & ~efer)) return false;
  if ((save.cr0 & upper_half) || (!(save.cr0 & CR0_CD) && (save.cr0 & CR0_NW))) return false;
  if ((save.dr6 | save.dr7) & upper_half) return false;
  if (save.cr4 & ~cr4_allowed(cpuid)) return false;
  if (long_mode && (!pae || !(save.cr0 & CR0_PE) || (save.cr3 & beyond))) return false;
  if ((save.cr4 & CR4_PCIDE) && !long_mode) return false;
  return !(long_mode && (save.cs.attributes & Segment::L) && (save.cs.attributes & Segment::DB));
}

}  // namespace veneer::cpu::bt
