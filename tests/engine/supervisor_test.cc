// What a kernel runs at every entry and copy: STAC and CLAC, SWAPGS, segment bases and selectors.
//
// An engine may carry these out without leaving its translated code: so each runs often enough to be linked, under both
// values of what it depends on.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Supervisor : public EngineTest {
 protected:
  void under_smap() {
    m.state.cr4 |= CR4_SMAP;
    m.state.gpr[RBX] = user_data_at;
    m.put(user_data_physical, 42);
  }
  /// `taken` is #PF of a supervisor's read of a present page at user_data_at.
  void expect_smap_fault(const std::optional<Taken>& taken) {
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->vector, unsigned{VECTOR_PF});
    EXPECT_EQ(taken->error, std::optional{1u});
    EXPECT_EQ(m.state.cr2, user_data_at);
  }
  /// 64-bit code at CPL 1 or 2.
  void middle_program(Code code, unsigned cpl) {
    program(code);
    auto& cs = m.state.segments[CS];
    auto& ss = m.state.segments[SS];
    cs.selector = static_cast<std::uint16_t>(cs.selector | cpl);
    ss.selector = static_cast<std::uint16_t>(ss.selector | cpl);
    cs.attributes = static_cast<std::uint16_t>(cs.attributes | cpl << 5);
    ss.attributes = static_cast<std::uint16_t>(ss.attributes | cpl << 5);
  }
};

GUEST_CODE(copies, 64, R"(
  mov ecx, 1000
1:
  stac
  mov rax, [rbx]
  clac
  add rdx, rax
  dec ecx
  jnz 1b
  mov rax, [rbx]
  ud2
)");

TEST_P(Supervisor, WindowsOpenAndCloseAThousandTimes) {
  program(copies);
  under_smap();
  expect_smap_fault(m.run_to_exception());
  EXPECT_EQ(reg(RDX), 42'000u);
  EXPECT_FALSE(m.state.rflags & RFLAGS_AC);
}

GUEST_CODE(window_in_a_function, 64, R"(
  xor edx, edx
  mov ecx, 1000
1:
  call 2f
  add rdx, [rbx]
  call 3f
  dec ecx
  jnz 1b
  mov rax, [rbx]
  ud2
2:
  stac
  ret
3:
  clac
  ret
)");

TEST_P(Supervisor, AFunctionOpensForItsCaller) {
  program(window_in_a_function);
  under_smap();
  expect_smap_fault(m.run_to_exception());
  EXPECT_EQ(reg(RDX), 42'000u);
}

GUEST_CODE(closes_for_its_caller, 64, R"(
  mov ecx, 1000
1:
  call 2f
  dec ecx
  jnz 1b
  stac
  call 3f
  mov rax, [rbx]
  ud2
2:
  stac
  mov rax, [rbx]
3:
  clac
  ret
)");

TEST_P(Supervisor, AFunctionClosesForItsCaller) {
  program(closes_for_its_caller);
  under_smap();
  expect_smap_fault(m.run_to_exception());
}

GUEST_CODE(repeated, 64, R"(
  mov ecx, 100
1:
  stac
  stac
  mov rax, [rbx]
  clac
  clac
  dec ecx
  jnz 1b
  pushfq
  pop rsi
  stac
  pushfq
  pop rdi
  ud2
)");

TEST_P(Supervisor, TwiceIsOnce) {
  program(repeated);
  under_smap();
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, unsigned{VECTOR_UD});
  EXPECT_FALSE(reg(RSI) & RFLAGS_AC);
  EXPECT_TRUE(reg(RDI) & RFLAGS_AC);
  EXPECT_TRUE(taken->rflags & RFLAGS_AC);
}

// The same code with CR4.SMAP off, on, and off again: RDI counts what was read behind CLAC.
GUEST_CODE(switched, 64, R"(
  mov ebp, 100
1:
  stac
  mov rax, [rbx]
  clac
  mov rax, [rbx]
  add rdi, rax
  dec ebp
  jnz 1b
  xor r12, 1
  mov rax, cr4
  btc rax, 21
  mov cr4, rax
  mov ebp, 100
  jmp 1b
)");

TEST_P(Supervisor, TheSameCodeWithSmapOffAndOn) {
  program(switched);
  under_smap();
  m.state.cr4 &= ~CR4_SMAP;
  expect_smap_fault(m.run_to_exception());
  EXPECT_EQ(reg(RDI), 4'200u);
  EXPECT_EQ(reg(R12), 1u);
}

TEST_P(Supervisor, ThenOffAgain) {
  program(switched);
  under_smap();
  m.state.cr4 &= ~CR4_SMAP;
  const auto taken = m.run_to_exception();
  expect_smap_fault(taken);
  // The handler of this #PF is the test: it switches SMAP off and goes on, at the read that faulted.
  m.state.cr4 &= ~CR4_SMAP;
  m.state.halted = false;
  m.state.rip = taken->rip;
  m.state.gpr[RDI] = 0;
  m.state.gpr[RBP] = 50;
  expect_smap_fault(m.run_to_exception());
  EXPECT_EQ(reg(RDI), 2'100u);
}

GUEST_CODE(flags_kept, 64, R"(
  mov ecx, 50
  xor edx, edx
1:
  mov eax, 0x7fffffff
  add eax, 1
  stac
  jno 2f
  mov eax, [rbx]
  cmp eax, 43
  clac
  jnb 2f
  mov eax, -1
  add eax, 1
  swapgs
  jnc 2f
  mov r10, fs
  adc edx, 0
  dec ecx
  jnz 1b
2:
  ud2
)");

TEST_P(Supervisor, FlagsStay) {
  program(flags_kept);
  under_smap();
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, unsigned{VECTOR_UD});
  EXPECT_EQ(reg(RCX), 0u);
  EXPECT_EQ(reg(RDX), 50u);
}

// STAC as the last instruction of a page, the load in the next one.
GUEST_CODE(over_the_page, 64, R"(
  mov ecx, 100
  jmp 1f
  .skip 4096 - 3 - 10
1:
  stac
  mov rax, [rbx]
  clac
  dec ecx
  jnz 1b
  mov rax, [rbx]
  ud2
)");

TEST_P(Supervisor, AWindowAcrossPages) {
  program(over_the_page);
  under_smap();
  expect_smap_fault(m.run_to_exception());
  EXPECT_EQ(reg(RCX), 0u);
}

GUEST_CODE(only_stac, 64, "stac\nud2");
GUEST_CODE(only_clac, 64, "clac\nud2");
GUEST_CODE(only_swapgs, 64, "swapgs\nud2");

TEST_P(Supervisor, OnlyForCplZero) {
  for (const unsigned cpl : {1u, 2u, 3u}) {
    for (const auto& [code, vector] :
         {std::pair{only_stac, VECTOR_UD}, {only_clac, VECTOR_UD}, {only_swapgs, VECTOR_GP}}) {
      if (cpl == 3)
        user_program(code);
      else
        middle_program(code, cpl);
      m.state.cr4 |= CR4_SMAP;
      const std::uint64_t at = m.state.rip;
      const auto taken = m.run_to_exception();
      ASSERT_TRUE(taken) << cpl;
      EXPECT_EQ(taken->vector, unsigned{vector}) << cpl;
      EXPECT_EQ(taken->rip, at) << cpl;
      EXPECT_EQ(taken->cs & 3, cpl);
    }
  }
}

GUEST_CODE(read_bases, 64, R"(
  mov r10, -1
  mov rsi, -1
  rdfsbase r10
  rdgsbase rax
  rdfsbase esi
  swapgs
  rdgsbase r15
  swapgs
  hlt
)");

TEST_P(Supervisor, BasesAreRead) {
  program(read_bases);
  m.state.cr4 |= CR4_FSGSBASE;
  m.state.segments[FS].base = 0x1234'5678'9abc;
  m.state.segments[GS].base = 0x7fff'0000'1111;
  m.state.kernel_gs_base = 0xffff'8000'0000'2222;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(R10), 0x1234'5678'9abcu);
  EXPECT_EQ(reg(RAX), 0x7fff'0000'1111u);
  EXPECT_EQ(reg(RSI), 0x5678'9abcu);
  EXPECT_EQ(reg(R15), 0xffff'8000'0000'2222u);
}

GUEST_CODE(read_selectors, 64, R"(
  mov rax, -1
  mov rcx, -1
  mov r11, -1
  mov rbp, -1
  mov rax, cs
  mov ecx, ss
  mov r11d, ds
  .byte 0x66
  mov ebp, es
  mov r14, gs
  hlt
)");

TEST_P(Supervisor, SelectorsAreReadAsWideAsTheOperand) {
  program(read_selectors);
  m.state.segments[DS].selector = user_data;
  m.state.segments[ES].selector = user_data;
  m.state.segments[GS].selector = 3;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), kernel_code);
  EXPECT_EQ(reg(RCX), kernel_data);
  EXPECT_EQ(reg(R11), user_data);
  EXPECT_EQ(reg(RBP), 0xffff'ffff'ffff'0000u | user_data);
  EXPECT_EQ(reg(R14), 3u);
}

ENGINE_SUITE(Supervisor);

}  // namespace
}  // namespace veneer::engine_tests
