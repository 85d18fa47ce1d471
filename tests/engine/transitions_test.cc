// From mode to mode, and the fast system calls of 32-bit code (SDM 3A 9.8, 9.9; SDM 2B SYSENTER; APM 3 SYSCALL).
#include "protected_mode.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Transitions : public ProtectedModeTest {
 protected:
  static bool amd() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    asm("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0));
    return c == 0x444d4163;  // "cAMD"
  }
};

// Long mode, compatibility mode, paging off, real mode, and back to protected mode with paging. The code stands at
// 8000h, so that real mode reaches it; 30h is a 32-bit code segment, 70h a 16-bit one with base 8000h.
GUEST_CODE(down_and_up, 64, R"(
  push 0x30
  lea rax, [rip + 1f]
  push rax
  rex64 retf
1:.code32
  inc ebx
  mov eax, cr0
  and eax, 0x7fffffff
  mov cr0, eax
  mov ecx, 0xc0000080
  rdmsr
  mov esi, eax
  and eax, 0xfffffeff
  wrmsr
  ljmp 0x70:(2f - guest_down_and_up_begin)
2:.code16
  mov eax, cr0
  and al, 0xfe
  mov cr0, eax
  ljmp 0x800, (3f - guest_down_and_up_begin)
3:mov ax, 0x2000
  mov ds, ax
  mov byte ptr [0], 0x5a
  mov edi, cr0
  or eax, 0
  mov eax, cr0
  or al, 1
  mov cr0, eax
  .byte 0x66, 0xea
  .long 0x8000 + 4f - guest_down_and_up_begin
  .word 0x30
4:.code32
  mov ax, 0x10
  mov ds, ax
  mov ss, ax
  mov eax, 0x800000
  mov cr3, eax
  mov eax, cr4
  and eax, 0xffffffdf
  or eax, 0x10
  mov cr4, eax
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax
  mov eax, [0x20000]
  hlt
  .code64
)");

TEST_P(Transitions, FromLongModeToRealModeAndBack) {
  protected_mode({});
  m.load(0x8000, down_and_up);
  put_descriptor(code16, descriptor(0x8000, 0xffff, PRESENT | 0x1a));
  // One to one, 4 MiB a page.
  for (std::uint64_t i = 0; i < 4; i++) m.put(0x800000 + 4 * i, (i << 22) | PTE_P | PTE_W | PTE_PS, 4);
  m.long_mode();
  m.state.gdtr.limit = 0xff;
  m.state.rip = 0x8000;
  m.put(0x20000, 0, 4);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RSI) & EFER_LMA, 0u) << "EFER without paging";
  EXPECT_EQ(reg(RSI) & EFER_LME, EFER_LME);
  EXPECT_EQ(reg(RDI) & (CR0_PE | CR0_PG), 0u) << "CR0 in real mode";
  EXPECT_EQ(reg(RAX) & 0xff, 0x5au);
  EXPECT_EQ(m.state.cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
  EXPECT_FALSE(m.state.long_mode());
  EXPECT_EQ(m.state.segments[CS].selector, kernel_code32);
}

GUEST_CODE(stop_paging, 64, R"(
  mov rax, cr0
  btr rax, 31
  mov cr0, rax
  hlt
)");

TEST_P(Transitions, PagingStaysIn64BitCode) {
  program(stop_paging);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

GUEST_CODE(start_paging, 32, R"(
  mov eax, cr0
  bts eax, 31
  mov cr0, eax
  hlt
)");

TEST_P(Transitions, LongModeNeedsPae) {
  protected_mode(start_paging);
  m.state.efer |= EFER_LME;
  EXPECT_EQ(run_to_exception().vector, VECTOR_GP);
}

GUEST_CODE(do_sysenter, 32, R"(
  mov ecx, esp
  mov edx, 0x110009
  sysenter
  nop
  int3
)");
GUEST_CODE(do_sysexit, 32, "sysexit");

TEST_P(Transitions, SysenterAndSysexit) {
  user32(do_sysenter);
  m.load(kernel_entry_at, do_sysexit);
  // SYSENTER wants code, data, user code, user data in a row: 8, 10h, 18h, 20h.
  m.state.sysenter_cs = 8;
  m.state.sysenter_eip = kernel_entry_at;
  m.state.sysenter_esp = kernel_stack_top;
  m.state.rflags |= RFLAGS_IF;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.cs, user_code32);
  EXPECT_EQ(taken.ss, user_data);
  EXPECT_EQ(taken.eip, user_code32_at + 11u);
  EXPECT_EQ(taken.esp, user_stack_top);
  EXPECT_EQ(taken.eflags & RFLAGS_IF, 0u) << "SYSENTER clears IF, SYSEXIT leaves it";
}

TEST_P(Transitions, SysenterWithoutSelector) {
  user32(do_sysenter);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, user_code32_at + 7);
}

TEST_P(Transitions, SysexitIsTheSupervisors) {
  user32(do_sysexit);
  m.state.sysenter_cs = 8;
  EXPECT_EQ(run_to_exception().vector, VECTOR_GP);
}

GUEST_CODE(do_syscall32, 32, R"(
  syscall
  int3
)");
GUEST_CODE(do_sysret32, 32, "sysret");

TEST_P(Transitions, SyscallOutsideLongModeIsAmds) {
  user32(do_syscall32);
  m.load(kernel_entry_at, do_sysret32);
  m.state.efer |= EFER_SCE;
  m.state.star = std::uint64_t{user_code32} << 48 | std::uint64_t{kernel_code32} << 32 | kernel_entry_at;
  const Taken32 taken = run_to_exception();
  if (!amd()) {
    EXPECT_EQ(taken.vector, VECTOR_UD);
    return;
  }
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.cs, user_code32);
  EXPECT_EQ(taken.ss, user_data);
  EXPECT_EQ(reg(RCX), user_code32_at + 2);
  EXPECT_EQ(taken.eflags & RFLAGS_IF, RFLAGS_IF) << "SYSRET sets it";
}

ENGINE_SUITE(Transitions);

}  // namespace
}  // namespace veneer::engine_tests
