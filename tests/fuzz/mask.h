// What fuzz_cpu does not compare, and why. Printed by `fuzz_cpu --mask`.
#pragma once

namespace veneer::fuzz {

inline constexpr const char* mask_text = R"(Not compared, and why:

  x87 FIP, FDP, FOP        in the final state: the signal frame's have gone through the kernel. They are compared
                           where a snippet stores them (FNSTENV, FNSAVE, FXSAVE, XSAVE), unless one of two runs has
                           zeros there: AMD's processors forget them when the host switches tasks.
  MXCSR_MASK, reserved     bytes 28-31 and 416-511 of the area belong to the processor and the kernel.
  components in their      an area marked "initial" may hold anything: both sides are given initial values first.
  initial configuration
  XSAVE images in memory   whether a component in its initial configuration is marked in use (SDM 1 13.6 leaves that
                           to the processor; Zen 4 forgets it when the state is saved and restored). Where such
                           images differ, so may all that later instructions read from them ("undetermined").
  RSP's upper half         in 16-bit code: natively the kernel's own stack pointer shows there.
  #PF error code bit 0     for addresses from 0x7ffffffff000 on: Linux always reports a protection violation there.

Not run:

  RDTSC RDTSCP RDPMC RDRAND RDSEED          not the same twice
  CPUID XGETBV RDPID LAR LSL VERR VERW      the host's answer, not the guest's
  SGDT SIDT SLDT STR SMSW                   Linux answers in the kernel where UMIP is on
  SYSCALL SYSENTER INT VMCALL VMMCALL       enter the kernel or the hypervisor
  INT1 (ICEBP)                              Linux handles its #DB in its own way (RIP is not compared where a jump into
                                            an instruction finds one: "undetermined")
  EVEX.X with RSP as r/m                    Zen 4 reads RSP without the pushes and pops just before
  MOV sreg, POP FS/GS, LFS LGS LSS          selectors would stay loaded in the native child
  WRPKRU XRSTOR                             would change what the native child needs
)";

}  // namespace veneer::fuzz
