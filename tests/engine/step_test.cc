// Single steps by the guest (TF) and by the monitor (Vcpu::step, breakpoints).
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Steps : public EngineTest {};

GUEST_CODE(four, 64, R"(
  inc eax
  inc eax
  inc eax
  hlt
)");

TEST_P(Steps, StepRunsOneInstruction) {
  program(four);
  EXPECT_EQ(m.step().reason, ExitReason::Debug);
  EXPECT_EQ(m.state.rip, code_at + 2);
  EXPECT_EQ(reg(RAX), 1u);
}

TEST_P(Steps, StepAfterStep) {
  program(four);
  m.step();
  m.step();
  EXPECT_EQ(m.state.rip, code_at + 4);
  EXPECT_EQ(reg(RAX), 2u);
}

TEST_P(Steps, RunGoesOnAfterAStep) {
  program(four);
  m.step();
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 3u);
}

GUEST_CODE(faulting, 64, "nop\nud2");

TEST_P(Steps, StepOfAFaultEndsInTheHandler) {
  program(faulting);
  m.step();
  EXPECT_EQ(m.step().reason, ExitReason::Debug);
  EXPECT_EQ(m.state.rip, handlers_at + 16 * VECTOR_UD);
}

TEST_P(Steps, StepTakesAPendingInterruptFirst) {
  program(four);
  m.state.rflags |= RFLAGS_IF;
  m.board.interrupt_ports[0].raise(0x51);
  m.load(handlers_at + 16 * 0x51, four);
  m.step();
  EXPECT_EQ(m.get(m.state.gpr[RSP]), code_at) << "the interrupt is from before the first instruction";
}

GUEST_CODE(rep_movs, 64, "rep movsb\nhlt");

TEST_P(Steps, ARepInstructionNeedsNoMoreThanOneStepPerElement) {
  program(rep_movs);
  m.state.gpr[RCX] = 5;
  m.state.gpr[RSI] = code_at;
  m.state.gpr[RDI] = data_at;
  unsigned steps = 0;
  while (m.state.rip == code_at && steps < 10) {
    m.step();
    steps++;
  }
  EXPECT_LE(steps, 5u);
  EXPECT_EQ(reg(RCX), 0u);
}

TEST_P(Steps, ABreakpointStopsBeforeItsInstruction) {
  program(four);
  m.vcpu().set_breakpoint(GuestVirt{code_at + 4}, true);
  EXPECT_EQ(m.run().reason, ExitReason::Debug);
  EXPECT_EQ(m.state.rip, code_at + 4);
  EXPECT_EQ(reg(RAX), 2u);
}

TEST_P(Steps, StepLeavesABreakpoint) {
  program(four);
  m.vcpu().set_breakpoint(GuestVirt{code_at + 4}, true);
  m.run();
  EXPECT_EQ(m.step().reason, ExitReason::Debug);
  EXPECT_EQ(m.state.rip, code_at + 6);
}

TEST_P(Steps, ABreakpointTakenAwayIsGone) {
  program(four);
  m.vcpu().set_breakpoint(GuestVirt{code_at + 4}, true);
  m.vcpu().set_breakpoint(GuestVirt{code_at + 4}, false);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 3u);
}

GUEST_CODE(loop_five, 64, R"(
  mov ecx, 5
1: inc eax
  dec ecx
  jnz 1b
  hlt
)");

TEST_P(Steps, ABreakpointInARunningLoop) {
  program(loop_five);
  m.run();  // its translation exists now
  program(loop_five);
  m.vcpu().set_breakpoint(GuestVirt{code_at + 5}, true);
  EXPECT_EQ(m.run().reason, ExitReason::Debug);
  EXPECT_EQ(reg(RAX), 0u);
  m.step();
  EXPECT_EQ(m.go_on().reason, ExitReason::Debug);
  EXPECT_EQ(reg(RAX), 1u);
}

// Calls directly and through a register, and returns: all ways from block to block are warm at the second HLT.
GUEST_CODE(warm_calls, 64, R"(
1: lea rbx, [rip + 2f]
  mov ecx, 3
3: call 2f
  call rbx
  dec ecx
  jnz 3b
  hlt
  jmp 1b
2: inc eax
  ret
)");

TEST_P(Steps, ABreakpointInWarmCodeThatGoesOnAfterAPause) {
  program(warm_calls);
  m.run();
  m.board.interrupt_ports[0].unhalt();
  m.go_on();
  EXPECT_EQ(reg(RAX), 12u);
  m.vcpu().move_tsc(1000);  // as a machine does that was paused
  m.vcpu().set_breakpoint(GuestVirt{code_at + warm_calls.size() - 3}, true);
  m.board.interrupt_ports[0].unhalt();
  EXPECT_EQ(m.go_on().reason, ExitReason::Debug);
  EXPECT_EQ(reg(RAX), 12u);
  m.step();
  EXPECT_EQ(m.go_on().reason, ExitReason::Debug);
  EXPECT_EQ(reg(RAX), 13u);
}

GUEST_CODE(trap_flag, 64, R"(
  pushfq
  or qword ptr [rsp], 0x100
  popfq
  inc eax
  inc eax
  hlt
)");

TEST_P(Steps, TfTrapsBehindTheInstructionAfterPopf) {
  program(trap_flag);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_DB);
  EXPECT_EQ(taken->rip, code_at + 1 + 8 + 1 + 2);
  EXPECT_EQ(reg(RAX), 1u);
  EXPECT_EQ(taken->rflags & RFLAGS_TF, RFLAGS_TF);
  EXPECT_EQ(m.state.rflags & RFLAGS_TF, 0u);
  constexpr std::uint64_t DR6_BS = 1 << 14;
  EXPECT_EQ(m.state.dr[6] & DR6_BS, DR6_BS);
}

GUEST_CODE(count_traps, 64, R"(
  inc ebx
  cmp ebx, 3
  je 1f
  iretq
1: hlt
)");

TEST_P(Steps, TfTrapsOncePerInstruction) {
  program(four);
  m.load(data_at, count_traps);
  m.gate(VECTOR_DB, data_at);
  m.state.rflags |= RFLAGS_TF;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 3u);
  EXPECT_EQ(reg(RBX), 3u);
}

TEST_P(Steps, AFaultUnderTfIsTheFault) {
  program(faulting);
  m.state.rip = code_at + 1;
  m.state.rflags |= RFLAGS_TF;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
}

ENGINE_SUITE(Steps);

}  // namespace
}  // namespace veneer::engine_tests
