// Interrupts and NMIs: when they are taken, when they wait, and what they push.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Interrupts : public EngineTest {
 protected:
  FakeInterrupts& port() { return m.board.interrupt_ports[0]; }
};

GUEST_CODE(count_up, 64, R"(
  inc eax
  inc eax
  inc eax
  hlt
)");

TEST_P(Interrupts, ArePushedWithTheNextInstruction) {
  program(count_up);
  m.state.rflags |= RFLAGS_IF | RFLAGS_CF | RFLAGS_ZF;
  const std::uint64_t stack = m.state.gpr[RSP];
  port().raise(0x51);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, 0x51u);
  EXPECT_EQ(taken->rip, code_at);
  EXPECT_EQ(taken->cs, kernel_code);
  EXPECT_EQ(taken->ss, kernel_data);
  EXPECT_EQ(taken->rsp, stack);
  EXPECT_EQ(taken->rflags, RFLAGS_FIXED1 | RFLAGS_IF | RFLAGS_CF | RFLAGS_ZF);
  EXPECT_EQ(reg(RAX), 0u);
}

TEST_P(Interrupts, GatesClearIf) {
  program(count_up);
  m.state.rflags |= RFLAGS_IF;
  port().raise(0x51);
  ASSERT_TRUE(m.run_to_exception());
  EXPECT_EQ(m.state.rflags & RFLAGS_IF, 0u);
}

TEST_P(Interrupts, WaitWhileIfIsClear) {
  program(count_up);
  port().raise(0x51);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 3u);
  EXPECT_EQ(m.state.rip, code_at + count_up.size());
}

GUEST_CODE(sti_shadow, 64, R"(
  sti
  inc eax
  inc eax
  hlt
)");

TEST_P(Interrupts, ComeOneInstructionAfterSti) {
  program(sti_shadow);
  port().raise(0x51);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, 0x51u);
  EXPECT_EQ(taken->rip, code_at + 3);
  EXPECT_EQ(reg(RAX), 1u);
}

GUEST_CODE(sti_when_set, 64, R"(
  sti
  sti
  inc eax
  hlt
)");

TEST_P(Interrupts, StiCastsNoShadowWhenIfWasSetAlready) {
  program(sti_when_set);
  port().raise(0x51);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->rip, code_at + 2);
  EXPECT_EQ(reg(RAX), 0u);
}

GUEST_CODE(popf_enables, 64, R"(
  pushfq
  or qword ptr [rsp], 0x200
  popfq
  inc eax
  hlt
)");

TEST_P(Interrupts, ComeRightAfterPopf) {
  program(popf_enables);
  port().raise(0x51);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, 0x51u);
  EXPECT_EQ(reg(RAX), 0u);
}

GUEST_CODE(load_ss, 64, R"(
  mov ss, ecx
  inc eax
  inc eax
  hlt
)");

TEST_P(Interrupts, MovSsHoldsThemForOneInstruction) {
  program(load_ss);
  m.state.rflags |= RFLAGS_IF;
  m.state.gpr[RCX] = kernel_data;
  m.step();
  EXPECT_TRUE(m.state.interrupt_shadow);
  port().raise(0x51);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, 0x51u);
  EXPECT_EQ(reg(RAX), 1u);
}

TEST_P(Interrupts, ASpuriousOneChangesNothing) {
  program(count_up);
  m.state.rflags |= RFLAGS_IF;
  port().raise_spurious();
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 3u);
}

GUEST_CODE(user_loop, 64, "jmp $");

TEST_P(Interrupts, FromUserCodeSwitchToTheKernelStack) {
  user_program(user_loop);
  m.state.rflags |= RFLAGS_IF;
  const std::uint64_t stack = m.state.gpr[RSP];
  port().raise(0x51);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->rsp, stack);
  EXPECT_EQ(taken->ss, user_data);
  EXPECT_EQ(taken->cs, user_code);
  EXPECT_EQ(m.state.gpr[RSP], kernel_stack_top - 40);
  EXPECT_EQ(m.state.cpl(), 0u);
}

TEST_P(Interrupts, IstGivesItsOwnStack) {
  program(count_up);
  m.state.rflags |= RFLAGS_IF;
  m.gate(0x51, handlers_at + 16 * 0x51, 0, 1);
  port().raise(0x51);
  ASSERT_TRUE(m.run_to_exception());
  EXPECT_EQ(m.state.gpr[RSP], ist1_top - 40);
}

TEST_P(Interrupts, TheStackIsAlignedBeforePushing) {
  program(count_up);
  m.state.rflags |= RFLAGS_IF;
  m.state.gpr[RSP] = kernel_stack_top - 0x803;
  port().raise(0x51);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->rsp, kernel_stack_top - 0x803);
  EXPECT_EQ(m.state.gpr[RSP], ((kernel_stack_top - 0x803) & ~15u) - 40);
}

TEST_P(Interrupts, NmiIsTakenWithIfClear) {
  program(count_up);
  port().raise_nmi();
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_NMI);
}

// What a write to a device brings about for the processor itself (an IPI to itself, say) comes behind the instruction.
GUEST_CODE(write_and_go_on, 64, R"(
  mov dword ptr [rsi], eax
  inc ebx
  inc ebx
  hlt
)");

TEST_P(Interrupts, AnNmiThatADeviceWriteBringsComesBehindIt) {
  program(write_and_go_on);
  m.state.gpr[RSI] = mmio_at;
  m.board.on_mmio = [&] {
    port().raise_nmi();
    m.vcpu().kick();
  };
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_NMI);
  EXPECT_EQ(taken->rip, code_at + 2);
}

GUEST_CODE(output_and_go_on, 64, R"(
  out 0x10, al
  inc ebx
  inc ebx
  hlt
)");

TEST_P(Interrupts, AnNmiThatAnOutBringsComesBehindIt) {
  program(output_and_go_on);
  m.board.on_port_write = [&](std::uint16_t, std::uint32_t) {
    port().raise_nmi();
    m.vcpu().kick();
  };
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_NMI);
  EXPECT_EQ(taken->rip, code_at + 2);
}

// The instruction behind STI looks for a kick on its slow path, and has to be done all the same before the NMI comes.
GUEST_CODE(sti_and_access, 64, R"(
  mov eax, dword ptr [rsi]
  sti
  mov eax, dword ptr [rdi]
  inc ebx
  hlt
)");

TEST_P(Interrupts, NothingComesBetweenStiAndAnAccess) {
  program(sti_and_access);
  m.state.gpr[RSI] = mmio_at;
  m.state.gpr[RDI] = data_at;
  m.board.on_mmio = [&] {
    port().raise_nmi();
    m.vcpu().kick();
  };
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_NMI);
  EXPECT_NE(taken->rip, code_at + 3);
}

GUEST_CODE(nmi_handler, 64, R"(
  inc ecx
  cmp ecx, 1
  jne 1f
  out 0x10, al
  nop
1: iretq
)");

TEST_P(Interrupts, NmiWaitsForIret) {
  program(count_up);
  m.load(data_at, nmi_handler);
  m.gate(VECTOR_NMI, data_at);
  m.state.nmi_blocked = true;
  port().raise_nmi();
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RCX), 0u) << "blocked";
  EXPECT_EQ(reg(RAX), 3u);
}

GUEST_CODE(iret_unblocks, 64, R"(
  mov rdx, rsp
  push 0x10
  push rdx
  pushfq
  push 0x08
  lea rdx, [rip + 1f]
  push rdx
  iretq
1: inc eax
  hlt
)");

TEST_P(Interrupts, IretUnblocksNmi) {
  program(iret_unblocks);
  m.state.nmi_blocked = true;
  port().raise_nmi();
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_NMI);
  EXPECT_EQ(reg(RAX), 0u);
}

GUEST_CODE(counting_handler, 64, R"(
  inc ecx
  iretq
)");

TEST_P(Interrupts, TwoPendingComeOneAfterTheOther) {
  program(count_up);
  m.state.rflags |= RFLAGS_IF;
  m.load(data_at, counting_handler);
  m.gate(0x51, data_at);
  m.gate(0x52, data_at);
  port().raise(0x51);
  port().raise(0x52);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RCX), 2u);
  EXPECT_EQ(reg(RAX), 3u);
}

GUEST_CODE(cr8_access, 64, R"(
  mov eax, 5
  mov cr8, rax
  mov rbx, cr8
  hlt
)");

TEST_P(Interrupts, Cr8IsTheApics) {
  program(cr8_access);
  m.run();
  EXPECT_EQ(port().task_priority, 5u);
  EXPECT_EQ(reg(RBX), 5u);
}

ENGINE_SUITE(Interrupts);

}  // namespace
}  // namespace veneer::engine_tests
