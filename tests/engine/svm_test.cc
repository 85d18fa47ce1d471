// SVM: VMRUN, #VMEXIT, intercepts, injected and virtual interrupts, GIF (APM 2 chapter 15).
#include "svm_machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Svm : public SvmTest {};

GUEST_CODE(svm_cpuid, 64, "nop\ncpuid\nhlt");

TEST_P(Svm, AnInterceptedCpuidExits) {
  guest(svm_cpuid);
  intercept(ExitCode::CPUID);
  machine().state.gpr[RBX] = 77;
  EXPECT_EQ(run(), ExitCode::CPUID);
  EXPECT_EQ(guest_rip(), guest_code_at + 1);
  EXPECT_EQ(field(0xc8), guest_code_at + 3);  // nRIP
  EXPECT_EQ(guest_rax(), 0x1234u);
  EXPECT_EQ(machine().state.gpr[RAX], vmcb_at);  // the host's is back
  EXPECT_EQ(machine().state.gpr[RBX], 77u);
  EXPECT_FALSE(machine().state.svm.gif);
}

TEST_P(Svm, WhatIsNotInterceptedRuns) {
  guest(svm_cpuid);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rip(), guest_code_at + 3);
  EXPECT_NE(machine().state.gpr[RBX], 77u);  // CPUID's
}

TEST_P(Svm, WithoutSvmeVmrunIsUndefined) {
  guest(svm_cpuid);
  machine().state.efer &= ~EFER_SVME;
  const auto taken = machine().run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
  EXPECT_EQ(taken->rip, code_at + 5);
}

GUEST_CODE(svm_vmrun_odd, 64, "mov eax, 0x500010\nvmrun\nhlt");

TEST_P(Svm, AVmcbOutsideAPageStartIsRefused) {
  machine().load(code_at, svm_vmrun_odd);
  const auto taken = machine().run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

// VMRUN's consistency checks.
#define REFUSES(name, change)             \
  TEST_P(Svm, Refuses##name) {            \
    guest(svm_cpuid);                     \
    Machine& m = machine();               \
    change;                               \
    EXPECT_EQ(run(), ExitCode::INVALID);  \
    EXPECT_EQ(guest_rax(), 0x1234u);      \
    EXPECT_EQ(m.state.gpr[RAX], vmcb_at); \
  }
REFUSES(AsidZero, m.put(vmcb_at + 0x58, 0, 4))
REFUSES(GuestsThatMayRunGuests, m.put(vmcb_at + 0x10, 0, 4))
REFUSES(EferWithoutSvme, m.put(vmcb_at + 0x4d0, EFER_LME | EFER_LMA))
REFUSES(ReservedBitsOfEfer, m.put(vmcb_at + 0x4d0, m.state.efer | 1u << 20))
REFUSES(ReservedBitsOfCr0, m.put(vmcb_at + 0x558, m.state.cr0 | std::uint64_t{1} << 40))
REFUSES(NotWriteThroughAlone, m.put(vmcb_at + 0x558, m.state.cr0 | CR0_NW))
REFUSES(ReservedBitsOfCr4, m.put(vmcb_at + 0x548, m.state.cr4 | 1u << 30))
REFUSES(ReservedBitsOfCr3, m.put(vmcb_at + 0x550, m.state.cr3 | std::uint64_t{1} << 60))
REFUSES(UpperHalfOfDr7, m.put(vmcb_at + 0x560, std::uint64_t{1} << 32))
REFUSES(UpperHalfOfDr6, m.put(vmcb_at + 0x568, std::uint64_t{1} << 32))
REFUSES(LongModeWithoutPae, m.put(vmcb_at + 0x548, m.state.cr4 & ~CR4_PAE))
REFUSES(CodeOfTwoSizes, m.put(vmcb_at + 0x412, 0xe9b, 2))
REFUSES(MapsBeyondMemory, m.put(vmcb_at + 0x40, std::uint64_t{1} << 51))
REFUSES(EventsOfUnknownType, m.put(vmcb_at + 0xa8, EventField::VALID | 5u << 8))
REFUSES(ExceptionsBeyond31, m.put(vmcb_at + 0xa8, EventField::VALID | 3u << 8 | 32))

GUEST_CODE(svm_ports, 64, "mov al, 7\nout 0x80, al\nmov dx, 0x3fe\nin eax, dx\nhlt");

TEST_P(Svm, PortsAreInterceptedByTheMap) {
  guest(svm_ports);
  intercept(ExitCode::IOIO);
  machine().put(io_map_at + 0x401 / 8, 1u << (0x401 & 7), 1);  // the last byte of the second access
  EXPECT_EQ(run(), ExitCode::IOIO);
  ASSERT_EQ(machine().board.ports.size(), 1u);
  EXPECT_EQ(machine().board.ports[0], (BusAccess{true, 0x80, 1, 7}));
  constexpr std::uint64_t IN = 1, SZ32 = 1 << 6, A64 = 1 << 9;
  EXPECT_EQ(info1(), std::uint64_t{0x3fe} << 16 | IN | SZ32 | A64);
  EXPECT_EQ(info2(), guest_code_at + 9);
  EXPECT_EQ(guest_rip(), guest_code_at + 8);
}

GUEST_CODE(svm_outs, 64, "mov esi, 0x200000\nmov ecx, 3\nmov dx, 0x80\n.byte 0x65, 0xf3, 0x6e\nhlt");

TEST_P(Svm, StringOutputNamesItsSegment) {
  guest(svm_outs);
  intercept(ExitCode::IOIO);
  machine().put(io_map_at + 0x80 / 8, 1, 1);
  EXPECT_EQ(run(), ExitCode::IOIO);
  constexpr std::uint64_t STR = 1 << 2, REP = 1 << 3, SZ8 = 1 << 4, A64 = 1 << 9;
  EXPECT_EQ(info1(), std::uint64_t{0x80} << 16 | STR | REP | SZ8 | A64 | GS << 10);
}

GUEST_CODE(svm_msrs, 64, R"(
  mov ecx, 0xc0000081
  rdmsr
  xor eax, eax
  xor edx, edx
  wrmsr
  hlt
)");

TEST_P(Svm, MsrsAreInterceptedByTheMap) {
  guest(svm_msrs);
  intercept(ExitCode::MSR);
  machine().put(msr_map_at + 0x800 + 0x81 / 4, 1u << (2 * (0x81 & 3) + 1), 1);  // writes of STAR
  EXPECT_EQ(run(), ExitCode::MSR);
  EXPECT_EQ(info1(), 1u);
  EXPECT_EQ(guest_rip(), guest_code_at + 11);
}

GUEST_CODE(svm_odd_msr, 64, "mov ecx, 0x4b564d00\nrdmsr\nhlt");

TEST_P(Svm, MsrsThatNoMapHasAreIntercepted) {
  guest(svm_odd_msr);
  intercept(ExitCode::MSR);
  EXPECT_EQ(run(), ExitCode::MSR);
  EXPECT_EQ(info1(), 0u);
}

GUEST_CODE(svm_ud2, 64, "nop\nud2");

TEST_P(Svm, AnInterceptedExceptionExits) {
  guest(svm_ud2);
  intercept(ExitCode::EXCP0 + VECTOR_UD);
  EXPECT_EQ(run(), ExitCode::EXCP0 + VECTOR_UD);
  EXPECT_EQ(guest_rip(), guest_code_at + 1);
  EXPECT_EQ(field(0x88), 0u);
}

TEST_P(Svm, AnotherExceptionIsTheGuestsOwn) {
  guest(svm_ud2);
  EXPECT_EQ(run(), ExitCode::HLT);  // its handler's
  EXPECT_EQ(guest_rip(), handlers_at + 16 * VECTOR_UD);
}

GUEST_CODE(svm_fault, 64, "mov rbx, 0x700000000000\nmov [rbx], eax\nhlt");

TEST_P(Svm, AnInterceptedPageFaultKeepsCr2) {
  guest(svm_fault);
  intercept(ExitCode::EXCP0 + VECTOR_PF);
  machine().put(vmcb_at + 0x640, 0x77);
  EXPECT_EQ(run(), ExitCode::EXCP0 + VECTOR_PF);
  EXPECT_EQ(info1(), 2u);
  EXPECT_EQ(info2(), unmapped_at);
  EXPECT_EQ(field(0x640), 0x77u);
}

GUEST_CODE(svm_push_nowhere, 64, "mov rsp, 0x700000000100\nud2");

TEST_P(Svm, AFaultWhileAnotherIsDeliveredNamesIt) {
  guest(svm_push_nowhere);
  intercept(ExitCode::EXCP0 + VECTOR_PF);
  EXPECT_EQ(run(), ExitCode::EXCP0 + VECTOR_PF);
  EXPECT_EQ(field(0x88), VECTOR_UD | EventField::EXCEPTION << 8 | EventField::VALID);
  EXPECT_EQ(guest_rip(), guest_code_at + 10);
}

TEST_P(Svm, AShutdownOfTheGuestExits) {
  guest(svm_push_nowhere);
  EXPECT_EQ(run(), ExitCode::SHUTDOWN);
}

GUEST_CODE(svm_int3, 64, "nop\nint3\nhlt");

TEST_P(Svm, AnInterceptedInt3PointsAtItself) {
  guest(svm_int3);
  intercept(ExitCode::EXCP0 + VECTOR_BP);
  EXPECT_EQ(run(), ExitCode::EXCP0 + VECTOR_BP);
  EXPECT_EQ(guest_rip(), guest_code_at + 1);
  EXPECT_EQ(field(0xc8), guest_code_at + 2);
}

GUEST_CODE(svm_int, 64, "int 0x77\nhlt");

TEST_P(Svm, AnInterceptedIntNames) {
  guest(svm_int);
  intercept(ExitCode::SWINT);
  EXPECT_EQ(run(), ExitCode::SWINT);
  EXPECT_EQ(guest_rip(), guest_code_at);
}

// One instruction, its intercept, EXITINFO1.
#define EXITS(name, text, code, information)        \
  GUEST_CODE(svm_exits_##name, 64, text "\nhlt");   \
  TEST_P(Svm, Exits##name) {                        \
    guest(svm_exits_##name);                        \
    intercept(code);                                \
    EXPECT_EQ(run(), code);                         \
    EXPECT_EQ(guest_rip(), guest_code_at);          \
    EXPECT_EQ(info1(), std::uint64_t{information}); \
  }
constexpr std::uint64_t MOV_CR = std::uint64_t{1} << 63;
EXITS(ReadOfCr0, "mov rbx, cr0", ExitCode::READ_CR0, MOV_CR | RBX)
EXITS(ReadOfCr3, "mov r9, cr3", ExitCode::READ_CR0 + 3, MOV_CR | R9)
EXITS(WriteOfCr4, "mov cr4, rbx", ExitCode::WRITE_CR0 + 4, MOV_CR | RBX)
EXITS(WriteOfCr8, "mov cr8, rbx", ExitCode::WRITE_CR0 + 8, MOV_CR | RBX)
EXITS(Clts, "clts", ExitCode::WRITE_CR0, 0)
EXITS(Smsw, "smsw ebx", ExitCode::READ_CR0, 0)
EXITS(Lmsw, "lmsw bx", ExitCode::CR0_SEL_WRITE, 0)
EXITS(ReadOfDr6, "mov rbx, dr6", ExitCode::READ_DR0 + 6, MOV_CR | RBX)
EXITS(WriteOfDr7, "mov dr7, rbx", ExitCode::WRITE_DR0 + 7, MOV_CR | RBX)
EXITS(Sgdt, "sgdt [rsp - 16]", ExitCode::GDTR_READ, 0)
EXITS(Sidt, "sidt [rsp - 16]", ExitCode::IDTR_READ, 0)
EXITS(Sldt, "sldt ebx", ExitCode::LDTR_READ, 0)
EXITS(Str, "str ebx", ExitCode::TR_READ, 0)
EXITS(Lgdt, "lgdt [rsp - 16]", ExitCode::GDTR_WRITE, 0)
EXITS(Lidt, "lidt [rsp - 16]", ExitCode::IDTR_WRITE, 0)
EXITS(Lldt, "lldt bx", ExitCode::LDTR_WRITE, 0)
EXITS(Ltr, "ltr bx", ExitCode::TR_WRITE, 0)
EXITS(Rdtsc, "rdtsc", ExitCode::RDTSC, 0)
EXITS(Rdtscp, "rdtscp", ExitCode::RDTSCP, 0)
EXITS(Rdpmc, "rdpmc", ExitCode::RDPMC, 0)
EXITS(Pushf, "pushf", ExitCode::PUSHF, 0)
EXITS(Popf, "popf", ExitCode::POPF, 0)
EXITS(Iret, "iretq", ExitCode::IRET, 0)
EXITS(Invd, "invd", ExitCode::INVD, 0)
EXITS(Wbinvd, "wbinvd", ExitCode::WBINVD, 0)
EXITS(Pause, "pause", ExitCode::PAUSE, 0)
EXITS(Invlpg, "invlpg [rbx]", ExitCode::INVLPG, 0)
EXITS(Icebp, ".byte 0xf1", ExitCode::ICEBP, 0)
EXITS(Vmmcall, "vmmcall", ExitCode::VMMCALL, 0)
EXITS(Vmload, "vmload", ExitCode::VMLOAD, 0)
EXITS(Vmsave, "vmsave", ExitCode::VMSAVE, 0)
EXITS(Stgi, "stgi", ExitCode::STGI, 0)
EXITS(Clgi, "clgi", ExitCode::CLGI, 0)
EXITS(Invlpga, "invlpga", ExitCode::INVLPGA, 0)
EXITS(Xsetbv, "xsetbv", ExitCode::XSETBV, 0)
EXITS(VmrunAlways, "vmrun", ExitCode::VMRUN, 0)

GUEST_CODE(svm_write_ts, 64, "mov rax, cr0\nor al, 8\nmov cr0, rax\nhlt");

TEST_P(Svm, SelectiveCr0WritesLeaveTsAlone) {
  guest(svm_write_ts);
  intercept(ExitCode::CR0_SEL_WRITE);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_NE(field(0x558) & CR0_TS, 0u);
}

GUEST_CODE(svm_vmmcall_guest, 64, "vmmcall\nhlt");

TEST_P(Svm, VmmcallThatNobodyInterceptsIsUndefined) {
  guest(svm_vmmcall_guest);
  intercept(ExitCode::EXCP0 + VECTOR_UD);
  EXPECT_EQ(run(), ExitCode::EXCP0 + VECTOR_UD);
}

GUEST_CODE(svm_wait, 64, "hlt\nhlt");

TEST_P(Svm, InjectsAnExceptionWithItsError) {
  guest(svm_wait);
  inject(VECTOR_GP, EventField::EXCEPTION, 0x48);
  intercept(ExitCode::EXCP0 + VECTOR_GP);  // does not count
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rip(), handlers_at + 16 * VECTOR_GP);
  const std::uint64_t sp = field(0x5d8);
  EXPECT_EQ(machine().get(sp), 0x48u);
  EXPECT_EQ(machine().get(sp + 8), guest_code_at);
  EXPECT_EQ(field(0xa8) & EventField::VALID, 0u);
}

TEST_P(Svm, InjectsAnInterruptWhateverIfSays) {
  guest(svm_wait);
  inject(0x30, EventField::INTR);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rip(), handlers_at + 16 * 0x30);
}

TEST_P(Svm, AnInjectedSoftwareInterruptReturnsToNextRip) {
  guest(svm_wait);
  inject(0x77, EventField::SOFTWARE);
  machine().put(vmcb_at + 0xc8, guest_code_at + 1);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rip(), handlers_at + 16 * 0x77);
  EXPECT_EQ(machine().get(field(0x5d8)), guest_code_at + 1);
}

TEST_P(Svm, AnInjectionThatFaultsIsNamed) {
  guest(svm_wait);
  machine().put(vmcb_at + 0x5d8, unmapped_at + 0x100);
  intercept(ExitCode::EXCP0 + VECTOR_PF);
  inject(0x30, EventField::INTR);
  EXPECT_EQ(run(), ExitCode::EXCP0 + VECTOR_PF);
  EXPECT_EQ(field(0x88), 0x30 | EventField::VALID);
  EXPECT_EQ(guest_rip(), guest_code_at);
}

constexpr std::uint64_t V_IRQ = 1u << 8, V_INTR_MASKING = 1u << 24;
constexpr std::uint64_t virtual_interrupt(std::uint64_t vector, std::uint64_t priority) {
  return V_IRQ | vector << 32 | priority << 16;
}

GUEST_CODE(svm_sti, 64, "sti\nnop\nnop\nhlt");

TEST_P(Svm, AVirtualInterruptComesBehindStisShadow) {
  guest(svm_sti);
  machine().put(vmcb_at + 0x60, virtual_interrupt(0x44, 4));
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rip(), handlers_at + 16 * 0x44);
  EXPECT_EQ(machine().get(field(0x5d8)), guest_code_at + 2);
  EXPECT_EQ(field(0x60) & V_IRQ, 0u);
}

TEST_P(Svm, AVirtualInterruptWaitsForItsPriority) {
  guest(svm_sti);
  machine().put(vmcb_at + 0x60, virtual_interrupt(0x44, 4) | 4 | V_INTR_MASKING);  // V_TPR is as high
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rip(), guest_code_at + 3);
  EXPECT_NE(field(0x60) & V_IRQ, 0u);
}

GUEST_CODE(svm_lower_tpr, 64, "sti\nnop\nxor ebx, ebx\nmov cr8, rbx\nmov ecx, 1\nhlt");

TEST_P(Svm, LoweringCr8LetsAVirtualInterruptIn) {
  guest(svm_lower_tpr);
  machine().put(vmcb_at + 0x60, virtual_interrupt(0x44, 4) | 4 | V_INTR_MASKING);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rip(), handlers_at + 16 * 0x44);
  EXPECT_EQ(machine().board.interrupt_ports[0].task_priority, 0u);
}

TEST_P(Svm, AWindowForVirtualInterruptsExits) {
  guest(svm_sti);
  intercept(ExitCode::VINTR);
  machine().put(vmcb_at + 0x60, virtual_interrupt(0, 1) | 1u << 20);
  EXPECT_EQ(run(), ExitCode::VINTR);
  EXPECT_EQ(guest_rip(), guest_code_at + 2);
  EXPECT_NE(field(0x570) & RFLAGS_IF, 0u);
}

GUEST_CODE(svm_sti_exit, 64, "sti\ncpuid\nhlt");

TEST_P(Svm, TheShadowBehindStiIsReported) {
  guest(svm_sti_exit);
  intercept(ExitCode::CPUID);
  EXPECT_EQ(run(), ExitCode::CPUID);
  EXPECT_EQ(field(0x68), 1u);
}

GUEST_CODE(svm_host_open, 64, "clgi\nsti\nout 0x99, al\nmov eax, 0x500000\nvmrun\nnop\nstgi\nnop\nhlt");

TEST_P(Svm, AnInterruptThatGifHeldExitsAndIsTakenAtStgi) {
  guest(svm_sti);
  intercept(ExitCode::INTR);
  machine().put(vmcb_at + 0x60, V_INTR_MASKING);
  machine().load(code_at, svm_host_open);
  machine().board.on_port_write = [&](std::uint16_t, std::uint32_t) {
    machine().board.interrupt_ports[0].raise(0x30);
    machine().vcpu().kick();
  };
  const Exit exit = machine().run();
  EXPECT_EQ(exit.reason, ExitReason::Halted);
  EXPECT_EQ(static_cast<ExitCode>(field(0x70)), ExitCode::INTR);
  EXPECT_EQ(guest_rip(), guest_code_at);  // before its first instruction
  EXPECT_EQ(machine().state.rip, handlers_at + 16 * 0x30 + 1);
  EXPECT_EQ(machine().get(machine().state.gpr[RSP]), code_at + 3 + 1 + 2 + 5 + 3 + 1 + 3);  // behind STGI
}

GUEST_CODE(svm_tsc, 64, "rdtsc\nshl rdx, 32\nor rax, rdx\nhlt");

TEST_P(Svm, TheGuestsTimeIsOffset) {
  guest(svm_tsc);
  constexpr std::uint64_t offset = std::uint64_t{1} << 60;
  machine().put(vmcb_at + 0x50, offset);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rax() >> 60, 1u);
  EXPECT_LT(machine().state.tsc_offset, offset);
}

GUEST_CODE(svm_save_load, 64, R"(
  mov eax, 0x500000
  vmload
  mov eax, 0x540000
  vmsave
  mov ecx, 0xc0000082
  rdmsr
  hlt
)");

TEST_P(Svm, VmloadAndVmsaveMoveTheRest) {
  machine().load(code_at, svm_save_load);
  machine().put(vmcb_at + 0x608, 0xffff800000001000);  // LSTAR
  machine().put(vmcb_at + 0x440, 0x0c93002b);          // FS: selector, attributes
  machine().put(vmcb_at + 0x448, 0x123456789000);
  machine().put(vmcb_at + 0x620, 0x42000);  // KernelGSBase
  const Exit exit = machine().run();
  EXPECT_EQ(exit.reason, ExitReason::Halted);
  EXPECT_EQ(machine().state.lstar, 0xffff800000001000u);
  EXPECT_EQ(machine().state.segments[FS].base, 0x123456789000u);
  EXPECT_EQ(machine().state.segments[FS].selector, 0x2bu);
  EXPECT_EQ(machine().get(0x540000 + 0x608), 0xffff800000001000u);
  EXPECT_EQ(machine().get(0x540000 + 0x448), 0x123456789000u);
  EXPECT_EQ(machine().get(0x540000 + 0x620), 0x42000u);
  EXPECT_EQ(machine().state.gpr[RAX], 0x1000u);
}

TEST_P(Svm, AStateTakenInsideAGuestGoesOn) {
  guest(svm_wait);
  Machine& m = machine();
  m.put(vmcb_at + 0x0c, 1u, 4);  // INTR alone: HLT is the guest's own
  m.put(vmcb_at + 0x60, V_INTR_MASKING);
  m.state.rflags |= RFLAGS_IF;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_TRUE(m.state.svm.guest);
  EXPECT_EQ(m.state.rip, guest_code_at + 1);
  m.board.interrupt_ports[0].raise(0x30);
  EXPECT_EQ(run(), ExitCode::INTR);  // from the state, set again
  EXPECT_EQ(guest_rip(), guest_code_at + 1);
}

GUEST_CODE(svm_step, 64, "nop\nnop\nhlt");

TEST_P(Svm, ASingleStepOfTheGuestExits) {
  guest(svm_step);
  intercept(ExitCode::EXCP0 + VECTOR_DB);
  machine().put(vmcb_at + 0x570, RFLAGS_FIXED1 | RFLAGS_TF);
  EXPECT_EQ(run(), ExitCode::EXCP0 + VECTOR_DB);
  EXPECT_EQ(guest_rip(), guest_code_at + 1);
  EXPECT_NE(field(0x568) & 1u << 14, 0u);  // DR6.BS
}

GUEST_CODE(svm_real, 16, "mov ax, 0x1000\nmov ds, ax\nmov bx, [0]\nhlt");

TEST_P(Svm, AGuestInRealMode) {
  guest({});
  Machine& m = machine();
  constexpr std::uint64_t real_code_at = 0x20000;
  m.load(real_code_at, svm_real);
  m.put(vmcb_at + 0x558, CR0_ET);
  m.put(vmcb_at + 0x548, 0);
  m.put(vmcb_at + 0x4d0, EFER_SVME);
  m.put(vmcb_at + 0x410, std::uint64_t{0x2000} | std::uint64_t{0x9b} << 16 | std::uint64_t{0xffff} << 32);
  m.put(vmcb_at + 0x418, real_code_at);
  m.put(vmcb_at + 0x430, std::uint64_t{0x93} << 16 | std::uint64_t{0xffff} << 32);
  m.put(vmcb_at + 0x578, 0);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(field(0x430, 2), 0x1000u);
  EXPECT_EQ(field(0x438), 0x10000u);
  EXPECT_EQ(m.state.gpr[RBX] & 0xffff, m.get(0x10000, 2));
}

ENGINE_SUITE(Svm);

}  // namespace
}  // namespace veneer::engine_tests
