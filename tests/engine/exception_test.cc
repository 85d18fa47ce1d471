// Exceptions: vector, error code, CR2, the saved RIP and flags; double and triple faults.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Exceptions : public EngineTest {};

#define RAISES(name, text, vector_, error_, offset)                \
  GUEST_CODE(raises_##name, 64, text "\nhlt");                     \
  TEST_P(Exceptions, name) {                                       \
    program(raises_##name);                                        \
    const auto taken = m.run_to_exception();                       \
    ASSERT_TRUE(taken);                                            \
    EXPECT_EQ(taken->vector, vector_);                             \
    EXPECT_EQ(taken->error, std::optional<std::uint32_t>(error_)); \
    EXPECT_EQ(taken->rip, code_at + offset);                       \
    EXPECT_EQ(taken->rflags& RFLAGS_RF, RFLAGS_RF);                \
  }

// A trap points behind its instruction, and its image has no RF; a fault points at it, with RF.
#define TRAPS(name, text, vector_, offset)       \
  GUEST_CODE(traps_##name, 64, text "\nhlt");    \
  TEST_P(Exceptions, name) {                     \
    program(traps_##name);                       \
    const auto taken = m.run_to_exception();     \
    ASSERT_TRUE(taken);                          \
    EXPECT_EQ(taken->vector, unsigned{vector_}); \
    EXPECT_EQ(taken->error, std::nullopt);       \
    EXPECT_EQ(taken->rip, code_at + offset);     \
    EXPECT_EQ(taken->rflags& RFLAGS_RF, 0u);     \
  }

RAISES(DivideByZero, "xor ecx, ecx\ndiv ecx", VECTOR_DE, std::nullopt, 2)
RAISES(DivideOverflow, "mov edx, 5\nmov ecx, 5\ndiv ecx", VECTOR_DE, std::nullopt, 10)
RAISES(Ud2, "nop\nud2", VECTOR_UD, std::nullopt, 1)
RAISES(LockWithoutMemory, ".byte 0xf0, 0x01, 0xc0", VECTOR_UD, std::nullopt, 0)
RAISES(NotIn64BitMode, ".byte 0x06", VECTOR_UD, std::nullopt, 0)
RAISES(TooLong, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90", VECTOR_GP, 0,
       0)
RAISES(NonCanonicalLoad, "mov rbx, 0x800000000000\nmov eax, [rbx]", VECTOR_GP, 0, 10)
RAISES(NonCanonicalThroughRbp, "mov rbp, 0x800000000000\nmov eax, [rbp]", VECTOR_SS, 0, 10)
RAISES(BadSelector, "mov eax, 0x1238\nmov ds, eax", VECTOR_GP, 0x1238, 5)
RAISES(NullStackSelector, "mov ecx, 3\nmov ss, ecx", VECTOR_GP, 0, 5)
RAISES(ReservedCr0Bit, "mov rax, cr0\nbts rax, 32\nmov cr0, rax", VECTOR_GP, 0, 8)
RAISES(MisalignedVector, "mov ebx, 0x200001\nmovaps xmm0, [rbx]", VECTOR_GP, 0, 5)
RAISES(IntWithoutGate, "mov word ptr [0x2000 + 0x80 * 16 + 4], 0x0e00\nint 0x80", VECTOR_NP, 0x80 * 8 + 2, 10)
TRAPS(Int3, "nop\nint3", VECTOR_BP, 2)
TRAPS(IntN, "int 0x77", 0x77, 2)
TRAPS(Icebp, ".byte 0xf1", VECTOR_DB, 1)

GUEST_CODE(push_high, 64, "mov rsp, 0x800000000008\npush rax\nhlt");

TEST_P(Exceptions, NonCanonicalStack) {
  program(push_high);
  m.gate(VECTOR_SS, handlers_at + 16 * VECTOR_SS, 0, 1);  // on a stack of its own: the other is no good
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_SS);
  EXPECT_EQ(taken->error, 0u);
  EXPECT_EQ(taken->rip, code_at + 10);
  EXPECT_EQ(taken->rsp, 0x800000000008u);
}

GUEST_CODE(vector_move, 64, "movaps xmm0, xmm1\nhlt");
TEST_P(Exceptions, DeviceNotAvailableUnderTs) {
  program(vector_move);
  m.state.cr0 |= CR0_TS;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_NM);
}

GUEST_CODE(avx_move, 64, "vmovaps ymm0, ymm1\nhlt");
TEST_P(Exceptions, AvxNeedsOsxsave) {
  program(avx_move);
  m.state.cr4 &= ~CR4_OSXSAVE;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
}

GUEST_CODE(simd_division, 64, R"(
  push 0x1d80
  ldmxcsr [rsp]
  mov eax, 1
  cvtsi2sd xmm0, eax
  xorps xmm1, xmm1
  divsd xmm0, xmm1
  hlt
)");
TEST_P(Exceptions, UnmaskedSimdDivision) {
  program(simd_division);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_XM);
  EXPECT_EQ(taken->rip, code_at + 5 + 4 + 5 + 4 + 3);
}

GUEST_CODE(x87_division, 64, R"(
  push 0x37b
  fldcw [rsp]
  fld1
  fldz
  fdivp
  nop
  fwait
  hlt
)");
TEST_P(Exceptions, UnmaskedX87DivisionIsSeenByTheNextInstruction) {
  program(x87_division);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_MF);
  EXPECT_EQ(taken->rip, code_at + 5 + 3 + 2 + 2 + 2 + 1);
}

TEST_P(Exceptions, AnX87ErrorTheOldWayWaitsForAnInterrupt) {
  program(x87_division);
  m.state.cr0 &= ~CR0_NE;
  m.state.rflags |= RFLAGS_IF;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.board.coprocessor_errors, 1u);
  constexpr std::uint64_t fwait_at = code_at + 5 + 3 + 2 + 2 + 2 + 1;
  EXPECT_EQ(m.state.rip, fwait_at);
  m.board.interrupt_ports[0].raise(0x75);
  EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, handlers_at + 16 * 0x75 + 1);
  EXPECT_EQ(m.get(m.state.gpr[RSP]), fwait_at);
}

GUEST_CODE(add_then_fault, 64, R"(
  mov eax, 0xffffffff
  add eax, 1
  mov [rbx], ecx
  cmp eax, eax
  hlt
)");

TEST_P(Exceptions, TheImageHasTheFlagsOfAnEarlierInstruction) {
  program(add_then_fault);
  m.state.gpr[RBX] = unmapped_at + 0x123;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(taken->rflags & RFLAGS_ARITH, RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF);
  EXPECT_EQ(m.state.cr2, unmapped_at + 0x123);
  EXPECT_EQ(taken->error, 2u);
}

GUEST_CODE(cmpxchg_fault, 64, R"(
  mov eax, 1
  mov ecx, 2
  cmpxchg [rbx], ecx
  hlt
)");

TEST_P(Exceptions, AFailedCmpxchgNeedsWritePermission) {
  user_program(cmpxchg_fault);
  m.state.gpr[RBX] = user_code_at + 0x800;
  m.put(user_code_physical + 0x800, 99, 4);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(taken->error, 7u);
  EXPECT_EQ(reg(RAX), 1u) << "registers change only when the instruction is done";
}

GUEST_CODE(touch_unmapped, 64, R"(
  mov rbx, 0x700000000000
  mov eax, [rbx]
  hlt
)");

TEST_P(Exceptions, AFaultInDeliveryIsADoubleFault) {
  program(touch_unmapped);
  m.put(idt_at + 16 * VECTOR_PF, 0);
  m.put(idt_at + 16 * VECTOR_PF + 8, 0);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_DF);
  EXPECT_EQ(taken->error, 0u);
}

TEST_P(Exceptions, AThirdOneIsShutdown) {
  program(touch_unmapped);
  m.state.idtr.limit = 0;
  EXPECT_EQ(m.run().reason, ExitReason::Shutdown);
}

TEST_P(Exceptions, ShutdownWhenTheStackIsGone) {
  program(touch_unmapped);
  m.state.gpr[RSP] = unmapped_at;
  EXPECT_EQ(m.run().reason, ExitReason::Shutdown);
}

ENGINE_SUITE(Exceptions);

}  // namespace
}  // namespace veneer::engine_tests
