// HLT: when the vCPU comes back, and what wakes it.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Halt : public EngineTest {};

GUEST_CODE(just_halt, 64, R"(
  mov eax, 42
  hlt
  mov eax, 43
  hlt
)");

TEST_P(Halt, ComesBackBehindTheInstruction) {
  program(just_halt);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 42u);
  EXPECT_EQ(m.state.rip, code_at + 6);
  EXPECT_TRUE(m.state.halted);
}

TEST_P(Halt, StaysHaltedWhenRunAgain) {
  program(just_halt);
  m.run();
  EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 42u);
}

TEST_P(Halt, IgnoresAnInterruptWhileInterruptsAreOff) {
  program(just_halt);
  m.run();
  m.board.interrupt_ports[0].raise(0x40);
  EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 42u);
}

TEST_P(Halt, IsEndedByAnNmi) {
  program(just_halt);
  m.run();
  m.board.interrupt_ports[0].raise_nmi();
  EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, handlers_at + 16 * VECTOR_NMI + 1);
  EXPECT_EQ(m.get(m.state.gpr[RSP]), code_at + 6) << "the NMI returns behind HLT";
}

GUEST_CODE(sti_hlt, 64, R"(
  sti
  hlt
  mov ebx, 7
  cli
  hlt
)");
GUEST_CODE(return_from_interrupt, 64, R"(
  inc ecx
  iretq
)");

TEST_P(Halt, WakesToTheHandlerAndGoesOnBehind) {
  program(sti_hlt);
  m.load(data_at, return_from_interrupt);
  m.gate(0x40, data_at);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  m.board.interrupt_ports[0].raise(0x40);
  EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RCX), 1u);
  EXPECT_EQ(reg(RBX), 7u);
}

TEST_P(Halt, StiHltWithAPendingInterruptDoesNotSleep) {
  program(sti_hlt);
  m.load(data_at, return_from_interrupt);
  m.gate(0x40, data_at);
  m.board.interrupt_ports[0].raise(0x40);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RCX), 1u);
  EXPECT_EQ(reg(RBX), 7u) << "the interrupt came after HLT, not before it";
}

GUEST_CODE(user_hlt, 64, "hlt");

TEST_P(Halt, IsPrivileged) {
  user_program(user_hlt);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
  EXPECT_EQ(taken->error, 0u);
  EXPECT_EQ(taken->rip, user_code_at);
}

GUEST_CODE(cli_hlt, 64, R"(
  cli
  hlt
  mov ebx, 7
  hlt
)");

TEST_P(Halt, UnhaltEndsItWithInterruptsOff) {
  program(cli_hlt);
  const Exit exit = m.run();
  EXPECT_EQ(exit.reason, ExitReason::Halted);
  EXPECT_FALSE(exit.interrupts_enabled);
  m.board.interrupt_ports[0].raise(0x40);
  EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RBX), 0u) << "an interrupt that cannot be taken ended HLT";
  m.board.unhalt(0);
  EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RBX), 7u);
}

GUEST_CODE(kick_and_send, 64, R"(
  mov eax, 5              # KVM_HC_KICK_CPU
  xor ebx, ebx
  mov ecx, 2
  vmmcall
  mov rsi, rax
  mov eax, 10             # KVM_HC_SEND_IPI: ids 1 + 0, 1 + 2
  mov ebx, 5
  xor ecx, ecx
  mov edx, 1
  mov esi, 0xfd
  vmcall
  mov rdi, rax
  mov eax, 99
  vmcall
  hlt
)");

TEST_P(Halt, HypercallsReachTheBoard) {
  program(kick_and_send);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_TRUE(m.board.interrupt_ports[2].take_unhalt());
  EXPECT_EQ(m.board.ipis, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{{1, 0xfd}, {3, 0xfd}}));
  EXPECT_EQ(reg(RDI), 2u);
  EXPECT_EQ(static_cast<std::int64_t>(reg(RAX)), -1000) << "KVM_ENOSYS";
}

ENGINE_SUITE(Halt);

}  // namespace
}  // namespace veneer::engine_tests
