// Far transfers between privilege levels: call gates, conforming code, returns to outer levels (SDM 3A 5.8).
#include "protected_mode.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Gates : public ProtectedModeTest {
 protected:
  static constexpr std::uint32_t call_bytes = 7;
};

GUEST_CODE(call_the_gate, 32, R"(
  push 0x11111111
  push 0x22222222
  lcall 0x6b:0
  int3
)");
constexpr std::uint32_t pushes = 10;
GUEST_CODE(just_halt, 32, "hlt");

TEST_P(Gates, ACallGateSwitchesStacksAndCopiesParameters) {
  user32(call_the_gate);
  m.load(kernel_entry_at, just_halt);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, kernel_entry_at + 1);
  EXPECT_EQ(m.state.segments[CS].selector, kernel_code32);
  EXPECT_EQ(m.state.segments[SS].selector, kernel_data);
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(reg(RSP), kernel_stack_top - 6 * 4);
  EXPECT_EQ(stack(0), user_code32_at + pushes + call_bytes) << "EIP";
  EXPECT_EQ(stack(1), user_code32) << "CS";
  EXPECT_EQ(stack(2), 0x22222222u);
  EXPECT_EQ(stack(3), 0x11111111u);
  EXPECT_EQ(stack(4), user_stack_top - 8) << "ESP";
  EXPECT_EQ(stack(5), user_data) << "SS";
}

GUEST_CODE(return_releasing, 32, "lret 8");

TEST_P(Gates, TheReturnReleasesParametersOnBothStacks) {
  user32(call_the_gate);
  m.load(kernel_entry_at, return_releasing);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.eip, user_code32_at + pushes + call_bytes + 1);
  EXPECT_EQ(taken.cs, user_code32);
  EXPECT_EQ(taken.esp, user_stack_top);
  EXPECT_EQ(taken.ss, user_data);
}

TEST_P(Gates, AGateForTheSupervisorOnly) {
  user32(call_the_gate);
  put_descriptor(call_gate, gate_descriptor(kernel_code32, kernel_entry_at, PRESENT | 0xc));
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, call_gate & ~3u);
  EXPECT_EQ(taken.eip, user_code32_at + pushes);
}

TEST_P(Gates, AGateThatIsNotPresent) {
  user32(call_the_gate);
  put_descriptor(call_gate, gate_descriptor(kernel_code32, kernel_entry_at, DPL3 | 0xc));
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_NP);
  EXPECT_EQ(taken.error, call_gate & ~3u);
}

TEST_P(Gates, AGateToData) {
  user32(call_the_gate);
  put_descriptor(call_gate, gate_descriptor(kernel_data, kernel_entry_at, PRESENT | DPL3 | 0xc));
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, kernel_data);
}

GUEST_CODE(jump_through_the_gate, 32, "ljmp 0x6b:0");

TEST_P(Gates, AJumpDoesNotChangePrivilege) {
  user32(jump_through_the_gate);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, kernel_code32);
}

TEST_P(Gates, SixteenBitGatesPushWords) {
  user32(call_the_gate);
  put_descriptor(call_gate, gate_descriptor(code16, 0x40, PRESENT | DPL3 | 4, 1));
  m.put(code_at + 0x40, 0xf4, 1);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.segments[CS].selector, code16);
  EXPECT_EQ(m.state.rip, 0x41u);
  EXPECT_EQ(reg(RSP), kernel_stack_top - 5 * 2);
  EXPECT_EQ(m.get(reg(RSP), 2), (user_code32_at + pushes + call_bytes) & 0xffff);
  EXPECT_EQ(m.get(reg(RSP) + 4, 2), 0x2222u) << "one parameter of 16 bits";
}

GUEST_CODE(jump_conforming, 32, R"(
  ljmp 0x7b:0x120000
)");

TEST_P(Gates, ConformingCodeRunsForItsCaller) {
  user32(jump_conforming);
  m.put(kernel_entry_at, 0xcc, 1);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.cs, conforming | 3u);
  EXPECT_EQ(taken.eip, kernel_entry_at + 1);
  EXPECT_EQ(taken.ss, user_data);
}

GUEST_CODE(jump_inward, 32, "ljmp 0x33:0x120000");

TEST_P(Gates, OtherCodeDoesNot) {
  user32(jump_inward);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, kernel_code32);
}

TEST_P(Gates, NoStackForTheInnerLevel) {
  user32(call_the_gate);
  m.put(old_tss_at + 8, 0, 4);
  // #TS has to get to a stack of its own.
  m.put(task_at + 0x20, handlers_at + 16 * VECTOR_TS, 4);
  m.put(task_at + 0x24, 2, 4);
  m.put(task_at + 0x38, task_stack_top, 4);
  m.put(task_at + 0x4c, kernel_code32, 4);
  m.put(task_at + 0x50, kernel_data, 4);
  put_gate(VECTOR_TS, gate_descriptor(task_selector, 0, PRESENT | 5));
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, handlers_at + 16 * VECTOR_TS + 1);
  EXPECT_EQ(stack(0), 0u) << "error code";
  EXPECT_EQ(m.get(old_tss_at + 0x20, 4), user_code32_at + pushes);
}

GUEST_CODE(to_the_user, 32, R"(
  mov eax, 0x10
  mov fs, eax
  mov eax, 0x23
  mov gs, eax
  push 0x23
  push 0x208000
  push 0x202
  push 0x1b
  push 0x110000
  iretd
)");
GUEST_CODE(break_at_once, 32, R"(
  mov ebx, fs
  mov ecx, gs
  int3
)");

TEST_P(Gates, IretToTheUserTakesInnerSegmentsAway) {
  protected_mode(to_the_user);
  m.load(user_code32_at, break_at_once);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.cs, user_code32);
  EXPECT_EQ(taken.eflags & RFLAGS_IF, RFLAGS_IF);
  EXPECT_EQ(reg(RBX), 0u);
  EXPECT_EQ(reg(RCX), user_data);
}

GUEST_CODE(null_selectors_to_the_user, 32, R"(
  mov eax, 3
  mov ds, eax
  mov fs, eax
  push 0x23
  push 0x208000
  push 0x202
  push 0x1b
  push 0x110000
  iretd
)");
GUEST_CODE(read_ds_and_fs, 32, R"(
  mov ebx, ds
  mov ecx, fs
  int3
)");

// SDM 2A IRET: a null selector becomes 0, whatever its low bits were.
TEST_P(Gates, IretToTheUserClearsNullSelectors) {
  protected_mode(null_selectors_to_the_user);
  m.load(user_code32_at, read_ds_and_fs);
  EXPECT_EQ(run_to_exception().vector, VECTOR_BP);
  EXPECT_EQ(reg(RBX), 0u);
  EXPECT_EQ(reg(RCX), 0u);
}

GUEST_CODE(call_16, 32, R"(
  lcall 0x70:0x40
  hlt
)");
GUEST_CODE(back_from_16, 16, R"(
  mov ax, 0x1616
  .byte 0x66
  lret
)");

TEST_P(Gates, CallsBetween16And32BitCode) {
  protected_mode(call_16);
  m.load(code_at + 0x40, back_from_16);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.segments[CS].selector, kernel_code32);
  EXPECT_EQ(reg(RAX), 0x1616u);
  EXPECT_EQ(m.state.rip, code_at + call_bytes + 1);
}

GUEST_CODE(long_call, 64, R"(
  .byte 0xff, 0x1c, 0x25, 0x00, 0x00, 0x20, 0x00
  hlt
)");

TEST_P(Gates, ALongModeGateLeadsToTheInnerLevel) {
  user_program(long_call);
  // call far [200000h] needs a user page: the selector is what counts.
  m.map(data_at, data_at, PTE_U | PTE_W);
  m.put(data_at, 0, 4);
  m.put(data_at + 4, 0x53, 2);
  m.put(gdt_at + 0x50, gate_descriptor(kernel_code, kernel_entry_at, PRESENT | DPL3 | 0xc));
  m.put(gdt_at + 0x58, 0);
  m.state.gdtr.limit = 0x5f;
  m.load(kernel_entry_at, just_halt);
  const std::uint64_t user_rsp = reg(RSP);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, kernel_entry_at + 1);
  EXPECT_EQ(m.state.segments[CS].selector, kernel_code);
  EXPECT_EQ(m.state.segments[SS].selector, 0);
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(reg(RSP), kernel_stack_top - 32);
  EXPECT_EQ(m.get(reg(RSP)), user_code_at + 7);
  EXPECT_EQ(m.get(reg(RSP) + 8), user_code);
  EXPECT_EQ(m.get(reg(RSP) + 16), user_rsp);
  EXPECT_EQ(m.get(reg(RSP) + 24), user_data);
}

GUEST_CODE(iret_to_user64, 64, "iretq");
GUEST_CODE(read_through_gs, 64, R"(
  mov eax, gs:[0]
  mov ebx, gs
  int3
)");

// The selector of a segment that the user may not have becomes null; in 64-bit mode its base is still there.
TEST_P(Gates, AnInnerGsKeepsItsBaseOnTheWayOut) {
  user_program(read_through_gs);
  m.map(data_at, data_at, PTE_U | PTE_W);
  m.put(data_at, 0x12345678, 4);
  m.load(code_at, iret_to_user64);
  m.state.rip = code_at;
  m.state.segments[CS] = {kernel_code, 0xa9b, 0xffffffff, 0};
  m.state.segments[SS] = {kernel_data, 0xc93, 0xffffffff, 0};
  m.state.segments[GS] = {kernel_data, 0xc93, 0xffffffff, data_at};
  m.state.gpr[RSP] = kernel_stack_top - 0x100;
  const std::uint64_t frame[] = {user_code_at, user_code, 2, kernel_stack_top, user_data};
  for (unsigned i = 0; i < 5; i++) m.put(kernel_stack_top - 0x100 + 8 * i, frame[i]);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_BP);
  EXPECT_EQ(reg(RAX), 0x12345678u);
  EXPECT_EQ(reg(RBX) & 0xffff, 0u);
}

ENGINE_SUITE(Gates);

}  // namespace
}  // namespace veneer::engine_tests
