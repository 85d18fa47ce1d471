// SYSCALL, SYSRET, IRET, CPUID, model-specific registers, the time-stamp counter.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class System : public EngineTest {};

GUEST_CODE(do_syscall, 64, R"(
  mov eax, 39
  syscall
  ud2
)");

TEST_P(System, SyscallEntersTheKernel) {
  user_program(do_syscall);
  m.state.star = std::uint64_t{user_code32} << 48 | std::uint64_t{kernel_code} << 32;
  m.state.lstar = data_at;
  m.state.sfmask = RFLAGS_IF | RFLAGS_DF;
  m.state.rflags |= RFLAGS_IF | RFLAGS_DF | RFLAGS_CF;
  m.put(data_at, 0xf4, 1);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, data_at + 1);
  EXPECT_EQ(reg(RCX), user_code_at + 7);
  EXPECT_EQ(reg(R11), RFLAGS_FIXED1 | RFLAGS_IF | RFLAGS_DF | RFLAGS_CF);
  EXPECT_EQ(m.state.rflags, RFLAGS_FIXED1 | RFLAGS_CF);
  EXPECT_EQ(m.state.segments[CS].selector, kernel_code);
  EXPECT_EQ(m.state.segments[SS].selector, kernel_data);
  EXPECT_EQ(m.state.cpl(), 0u);
}

TEST_P(System, SyscallIsUndefinedWithoutSce) {
  user_program(do_syscall);
  m.state.efer &= ~EFER_SCE;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
}

GUEST_CODE(do_sysret, 64, R"(
  mov rcx, 0x40000800
  mov r11d, 0x203
  sysretq
)");

TEST_P(System, SysretReturnsToTheUser) {
  program(do_sysret);
  m.state.star = std::uint64_t{user_code32} << 48 | std::uint64_t{kernel_code} << 32;
  m.put(user_code_physical + 0x800, 0x0b0f, 2);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
  EXPECT_EQ(taken->rip, user_code_at + 0x800);
  EXPECT_EQ(taken->cs, user_code);
  EXPECT_EQ(taken->ss, user_data);
  EXPECT_EQ(taken->rflags & ~RFLAGS_RF, 0x203u);
}

TEST_P(System, SysretWithTfTrapsBeforeTheUsersFirstInstruction) {
  program(do_sysret);
  m.state.star = std::uint64_t{user_code32} << 48 | std::uint64_t{kernel_code} << 32;
  m.put(code_at + 9, 0x303, 4);  // the immediate of MOV R11D: TF as well
  m.put(user_code_physical + 0x800, 0x0b0f, 2);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_DB);
  EXPECT_EQ(taken->rip, user_code_at + 0x800);
  EXPECT_EQ(taken->cs, user_code);
  EXPECT_EQ(m.state.dr[6] & 0x4000, 0x4000u);
}

GUEST_CODE(iret_to_user, 64, R"(
  push 0x23
  push 0x5000
  push 0x202
  push 0x2b
  mov eax, 0x40000800
  push rax
  iretq
)");

TEST_P(System, IretReturnsToTheUser) {
  program(iret_to_user);
  m.put(user_code_physical + 0x800, 0x0b0f, 2);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
  EXPECT_EQ(taken->rip, user_code_at + 0x800);
  EXPECT_EQ(taken->cs, user_code);
  EXPECT_EQ(taken->rsp, 0x5000u);
}

GUEST_CODE(iret_to_compat, 64, R"(
  push 0x23
  push 0x5000
  push 0x202
  push 0x1b
  mov eax, 0x40000800
  push rax
  iretq
)");
GUEST_CODE(compat_code, 32, R"(
  mov eax, 0x12345678
  inc eax
  .byte 0x40          # INC EAX here, a REX prefix in 64-bit code
  push eax
  pop ecx
  ud2
)");

TEST_P(System, CompatibilityModeRuns32BitCode) {
  program(iret_to_compat);
  m.load(user_code_physical + 0x800, compat_code);
  m.state.segments[SS].selector = kernel_data;
  m.map(0x4000, user_data_physical, PTE_U | PTE_W);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
  EXPECT_EQ(taken->cs, user_code32);
  EXPECT_EQ(reg(RAX), 0x1234567au);
  EXPECT_EQ(reg(RCX), 0x1234567au);
  EXPECT_EQ(taken->rsp, 0x5000u);
}

GUEST_CODE(swapgs_pair, 64, R"(
  mov rax, gs:[0]
  swapgs
  mov rbx, gs:[0]
  hlt
)");

TEST_P(System, SwapgsExchangesTheBases) {
  program(swapgs_pair);
  m.state.segments[GS].base = data_at;
  m.state.kernel_gs_base = data_at + 0x1000;
  m.put(data_at, 1);
  m.put(data_at + 0x1000, 2);
  m.run();
  EXPECT_EQ(reg(RAX), 1u);
  EXPECT_EQ(reg(RBX), 2u);
  EXPECT_EQ(m.state.segments[GS].base, data_at + 0x1000);
  EXPECT_EQ(m.state.kernel_gs_base, data_at);
}

GUEST_CODE(cpuid_0, 64, R"(
  xor eax, eax
  xor ecx, ecx
  cpuid
  hlt
)");

TEST_P(System, CpuidAnswersFromThePolicy) {
  program(cpuid_0);
  m.run();
  const CpuidResult expected = CpuidPolicy::host(1, 2'000'000'000).query(0, 0, {});
  EXPECT_EQ(reg(RAX), expected.eax);
  EXPECT_EQ(reg(RBX), expected.ebx);
  EXPECT_EQ(reg(RCX), expected.ecx);
  EXPECT_EQ(reg(RDX), expected.edx);
}

GUEST_CODE(cpuid_1, 64, R"(
  mov eax, 1
  cpuid
  hlt
)");

TEST_P(System, CpuidShowsOsxsaveAsCr4Has) {
  program(cpuid_1);
  m.state.cr4 &= ~CR4_OSXSAVE;
  m.run();
  constexpr std::uint64_t OSXSAVE = 1 << 27;
  EXPECT_EQ(reg(RCX) & OSXSAVE, 0u);
}

GUEST_CODE(read_msr, 64, "rdmsr\nhlt");
GUEST_CODE(write_msr, 64, "wrmsr\nrdmsr\nhlt");

TEST_P(System, AnUnknownMsrIsGp) {
  program(read_msr);
  m.state.gpr[RCX] = 0xdead0000;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
  EXPECT_EQ(taken->rip, code_at);
}

TEST_P(System, WritingAnUnknownMsrIsGp) {
  program(write_msr);
  m.state.gpr[RCX] = 0xdead0000;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

TEST_P(System, LstarKeepsItsValue) {
  program(write_msr);
  constexpr std::uint64_t IA32_LSTAR = 0xc0000082;
  m.state.gpr[RCX] = IA32_LSTAR;
  m.state.gpr[RAX] = 0x81234567;
  m.state.gpr[RDX] = 0xffffffff;
  m.run();
  EXPECT_EQ(m.state.lstar, 0xffffffff81234567u);
  EXPECT_EQ(reg(RAX), 0x81234567u);
  EXPECT_EQ(reg(RDX), 0xffffffffu);
}

TEST_P(System, ANonCanonicalLstarIsGp) {
  program(write_msr);
  m.state.gpr[RCX] = 0xc0000082;
  m.state.gpr[RDX] = 0x00800000;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

TEST_P(System, ApicMsrsAreTheInterruptPorts) {
  program(write_msr);
  constexpr std::uint32_t x2apic_tpr = 0x808;
  m.board.interrupt_ports[0].msrs[x2apic_tpr] = 0;
  m.state.gpr[RCX] = x2apic_tpr;
  m.state.gpr[RAX] = 0x20;
  m.run();
  EXPECT_EQ(m.board.interrupt_ports[0].msrs[x2apic_tpr], 0x20u);
  EXPECT_EQ(reg(RAX), 0x20u);
}

GUEST_CODE(two_tsc_reads, 64, R"(
  rdtsc
  shl rdx, 32
  or rax, rdx
  mov rbx, rax
  rdtscp
  shl rdx, 32
  or rax, rdx
  hlt
)");

TEST_P(System, TheTscGoesUp) {
  program(two_tsc_reads);
  m.run();
  EXPECT_GT(reg(RAX), reg(RBX));
}

TEST_P(System, TheTscHasItsOffset) {
  program(two_tsc_reads);
  m.state.tsc_offset = 0 - __builtin_ia32_rdtsc();
  m.run();
  EXPECT_LT(reg(RBX), 1'000'000'000'000u);
}

GUEST_CODE(tsc_before_and_after, 64, R"(
  mov rcx, [0x200000]
  rdtsc
  shl rdx, 32
  or rax, rdx
  mov rbx, rax
  hlt
  rdtsc
  shl rdx, 32
  or rax, rdx
  sub rax, rbx
  hlt
)");

TEST_P(System, TheTscMovesWithoutAFlush) {
  program(tsc_before_and_after);
  m.run();
  const std::string tlb = m.vcpu().info_tlb();
  constexpr std::uint64_t ahead = 1'000'000'000'000'000;
  m.vcpu().move_tsc(ahead);
  EXPECT_EQ(m.vcpu().info_tlb(), tlb);
  m.board.interrupt_ports[0].unhalt();
  m.go_on();
  EXPECT_GE(reg(RAX), ahead);
  EXPECT_LT(reg(RAX), 2 * ahead);
}

TEST_P(System, RdtscpGivesTscAux) {
  program(two_tsc_reads);
  m.state.tsc_aux = 0x1234;
  m.run();
  EXPECT_EQ(reg(RCX), 0x1234u);
}

GUEST_CODE(user_rdtsc, 64, "rdtsc\nud2");

TEST_P(System, TsdKeepsTheTscFromUsers) {
  user_program(user_rdtsc);
  m.state.cr4 |= CR4_TSD;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

GUEST_CODE(user_privileged, 64, "mov rax, cr0\nud2");

TEST_P(System, ControlRegistersArePrivileged) {
  user_program(user_privileged);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

GUEST_CODE(user_sgdt, 64, "sgdt [rbx]\nud2");

TEST_P(System, UmipHidesDescriptorTables) {
  user_program(user_sgdt);
  m.state.cr4 |= CR4_UMIP;
  m.state.gpr[RBX] = user_data_at;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

GUEST_CODE(xgetbv_0, 64, "xor ecx, ecx\nxgetbv\nhlt");

TEST_P(System, XgetbvShowsXcr0) {
  program(xgetbv_0);
  m.run();
  EXPECT_EQ(reg(RAX), m.state.xcr0);
}

GUEST_CODE(load_ldt, 64, "lldt ax\nhlt");
GUEST_CODE(load_task, 64, "ltr ax\nhlt");

/// A system descriptor behind the GDT's others, with the lowest base that is not canonical.
class SystemBase : public EngineTest {
 protected:
  void run_with(Code code, std::uint64_t type) {
    constexpr std::uint64_t selector = 0x50, limit = 0xff, not_canonical = std::uint64_t{1} << 47;
    program(code);
    m.state.gdtr.limit = selector + 15;
    m.put(gdt_at + selector, limit | (0x80 | type) << 40);
    m.put(gdt_at + selector + 8, not_canonical >> 32);
    m.state.gpr[RAX] = selector;
    const auto taken = m.run_to_exception();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->vector, VECTOR_GP);
    EXPECT_EQ(taken->error, selector);
  }
};

TEST_P(SystemBase, OfAnLdtIsCanonical) { run_with(load_ldt, 2); }
TEST_P(SystemBase, OfATaskIsCanonical) { run_with(load_task, 9); }

ENGINE_SUITE(System);
ENGINE_SUITE(SystemBase);

}  // namespace
}  // namespace veneer::engine_tests
