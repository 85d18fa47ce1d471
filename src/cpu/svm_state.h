// What SVM adds to a processor's state (APM 2 chapter 15): its MSRs, GIF, and what VMRUN keeps until the #VMEXIT.
//
// The host's state stays in here, not in the area that VM_HSAVE_PA points to: its contents are the processor's own (APM
// 2 15.30.4), and so a guest cannot break it.
#pragma once

#include <cstdint>

#include "cpu/segment.h"

namespace veneer::cpu {

struct SvmState {
  // MSRs
  std::uint64_t vm_cr = 0;
  std::uint64_t vm_hsave_pa = 0;

  bool gif = true;     ///< clear: interrupts, NMIs and INIT wait (APM 2 15.17)
  bool guest = false;  ///< between VMRUN and #VMEXIT; what follows counts then only

  bool nested_paging = false;
  bool virtual_interrupt_masking = false;  ///< V_INTR_MASKING: the host's IF masks interrupts, CR8 is V_TPR
  bool virtual_interrupt = false;          ///< V_IRQ
  bool virtual_ignore_tpr = false;         ///< V_IGN_TPR
  std::uint8_t virtual_tpr = 0;            ///< V_TPR
  std::uint8_t virtual_priority = 0;       ///< V_INTR_PRIO
  std::uint8_t virtual_vector = 0;         ///< V_INTR_VECTOR

  std::uint64_t vmcb = 0;            ///< physical address
  std::uint32_t intercepts[5] = {};  ///< the VMCB's first words: the bit's number is the exit code
  std::uint32_t asid = 0;
  std::uint64_t io_map = 0, msr_map = 0;
  std::uint64_t tsc_offset = 0;  ///< part of ArchState::tsc_offset
  std::uint64_t nested_cr3 = 0;

  /// Of the host, at its VMRUN.
  struct Host {
    Segment es, cs, ss, ds;
    DescriptorTable gdtr, idtr;
    std::uint64_t efer = 0, cr0 = 0, cr3 = 0, cr4 = 0, rflags = 0, rip = 0, rsp = 0, rax = 0, pat = 0;
  } host;
};

}  // namespace veneer::cpu
