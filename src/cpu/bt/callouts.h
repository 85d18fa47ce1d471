// The C++ routines behind instructions that translated code calls out for.
#pragma once

#include <Zydis/Zydis.h>

#include "cpu/bt/callout.h"

namespace veneer::cpu::bt {

#define VENEER_CALLOUT(name) Outcome callout_##name(BtVcpu& v, const CalloutRecord& r)

// callouts_flow.cc
VENEER_CALLOUT(undefined);
VENEER_CALLOUT(too_long);
VENEER_CALLOUT(not_available);
VENEER_CALLOUT(hlt);
VENEER_CALLOUT(pause);
VENEER_CALLOUT(syscall);
VENEER_CALLOUT(sysret);
VENEER_CALLOUT(sysenter);
VENEER_CALLOUT(sysexit);
VENEER_CALLOUT(iret);
VENEER_CALLOUT(int_n);
VENEER_CALLOUT(int3);
VENEER_CALLOUT(int1);
VENEER_CALLOUT(into);
VENEER_CALLOUT(far_jump);
VENEER_CALLOUT(far_call);
VENEER_CALLOUT(far_return);
VENEER_CALLOUT(hypercall);

// callouts_flags.cc
VENEER_CALLOUT(pushf);
VENEER_CALLOUT(popf);
VENEER_CALLOUT(clac);
VENEER_CALLOUT(stac);

// virtual8086.cc
VENEER_CALLOUT(cli);
VENEER_CALLOUT(sti);

// callouts_stack.cc
VENEER_CALLOUT(push_segment);
VENEER_CALLOUT(pop_segment);
VENEER_CALLOUT(enter);
VENEER_CALLOUT(pusha);
VENEER_CALLOUT(popa);
VENEER_CALLOUT(xlat);

// callouts_system.cc
VENEER_CALLOUT(cpuid);
VENEER_CALLOUT(rdmsr);
VENEER_CALLOUT(wrmsr);
VENEER_CALLOUT(rdtsc);
VENEER_CALLOUT(rdtscp);
VENEER_CALLOUT(mov_from_control);
VENEER_CALLOUT(mov_to_control);
VENEER_CALLOUT(mov_from_debug);
VENEER_CALLOUT(mov_to_debug);
VENEER_CALLOUT(clts);
VENEER_CALLOUT(lmsw);
VENEER_CALLOUT(smsw);
VENEER_CALLOUT(invlpg);
VENEER_CALLOUT(invpcid);
VENEER_CALLOUT(cache_control);
VENEER_CALLOUT(xgetbv);
VENEER_CALLOUT(xsetbv);
VENEER_CALLOUT(swapgs);
VENEER_CALLOUT(fsgsbase);
VENEER_CALLOUT(rdpmc);
VENEER_CALLOUT(in_out);
VENEER_CALLOUT(string_in_out);

// callouts_segment.cc
VENEER_CALLOUT(mov_from_segment);
VENEER_CALLOUT(mov_to_segment);
VENEER_CALLOUT(load_far_pointer);
VENEER_CALLOUT(store_descriptor_table);
VENEER_CALLOUT(load_descriptor_table);
VENEER_CALLOUT(sldt_str);
VENEER_CALLOUT(lldt);
VENEER_CALLOUT(ltr);
VENEER_CALLOUT(lar_lsl);
VENEER_CALLOUT(verr_verw);

// callouts_vectors.cc
VENEER_CALLOUT(fxsave);
VENEER_CALLOUT(fxrstor);
VENEER_CALLOUT(xsave);
VENEER_CALLOUT(xrstor);

// callouts_bcd.cc
VENEER_CALLOUT(aaa);
VENEER_CALLOUT(aas);
VENEER_CALLOUT(aad);
VENEER_CALLOUT(aam);
VENEER_CALLOUT(daa);
VENEER_CALLOUT(das);
VENEER_CALLOUT(salc);
VENEER_CALLOUT(bound);
VENEER_CALLOUT(arpl);

// callouts_fpu_env.cc
VENEER_CALLOUT(fnstenv);
VENEER_CALLOUT(fldenv);
VENEER_CALLOUT(fnsave);
VENEER_CALLOUT(frstor);

// callouts_gather.cc
VENEER_CALLOUT(gather);

// callouts_maskmov.cc
VENEER_CALLOUT(maskmov);

// svm/callouts_svm.cc
VENEER_CALLOUT(vmrun);
VENEER_CALLOUT(vmload);
VENEER_CALLOUT(vmsave);
VENEER_CALLOUT(stgi);
VENEER_CALLOUT(clgi);
VENEER_CALLOUT(invlpga);

// svm/intercepts.cc
VENEER_CALLOUT(in_guest);

#undef VENEER_CALLOUT

/// The TSS's I/O permission bitmap (SDM 1 19.5.2). False after noting a fault.
bool port_allowed(BtVcpu& v, std::uint16_t port, unsigned bytes);

/// The routine of a mnemonic that is not told apart by operands; null when there is none.
CalloutFunction callout_for_mnemonic(ZydisMnemonic mnemonic);

/// Whether a hypervisor can ask for this instruction of its guest (svm/intercepts.cc).
bool may_be_intercepted(ZydisMnemonic mnemonic);
/// The record of callout_in_guest: what is done unless the instruction is intercepted.
struct GuestCalloutRecord : CalloutRecord {
  CalloutFunction instruction = nullptr;
};

// strings.cc
CalloutFunction string_callout(ZydisMnemonic mnemonic);

}  // namespace veneer::cpu::bt
