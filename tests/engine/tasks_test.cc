// Hardware tasks (SDM 3A chapter 7): what a switch saves and loads, busy bits, links, NT, and the faults on the way.
#include "protected_mode.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t DR6_BT = 1 << 15;

class Tasks : public ProtectedModeTest {
 protected:
  // SDM 3A figure 7-2.
  enum : unsigned {
    LINK = 0,
    EIP = 0x20,
    EFLAGS = 0x24,
    EAX = 0x28,
    ESP = 0x38,
    ES_ = 0x48,
    CS_ = 0x4c,
    SS_ = 0x50,
    DS_ = 0x54,
    LDT = 0x60,
    TRAP = 0x64
  };

  void protected_mode_with_task(Code code, Code task) {
    protected_mode(code);
    m.load(task_code_at, task);
    m.put(task_at + EIP, task_code_at, 4);
    m.put(task_at + EFLAGS, RFLAGS_FIXED1 | RFLAGS_CF, 4);
    for (unsigned i = 0; i < 8; i++) m.put(task_at + EAX + 4 * i, 0x1000 + i, 4);
    m.put(task_at + ESP, task_stack_top, 4);
    m.put(task_at + CS_, kernel_code32, 4);
    for (const unsigned at : {unsigned{ES_}, unsigned{SS_}, unsigned{DS_}}) m.put(task_at + at, kernel_data, 4);
    m.put(old_tss_at + LINK, 0, 4);
  }
  bool busy(std::uint16_t selector) { return (descriptor_at(selector) >> 41) & 1; }
};

GUEST_CODE(halts, 32, "hlt");
GUEST_CODE(jump_to_task, 32, R"(
  mov eax, 0xaaaa
  mov ebx, 0xbbbb
  stc
  ljmp 0x58:0
)");

TEST_P(Tasks, AJumpSwitches) {
  protected_mode_with_task(jump_to_task, halts);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, task_code_at + 1);
  EXPECT_EQ(m.state.tr.selector, task_selector);
  EXPECT_EQ(reg(RAX), 0x1000u);
  EXPECT_EQ(reg(RDI), 0x1007u);
  EXPECT_EQ(reg(RSP), task_stack_top);
  EXPECT_EQ(m.state.segments[DS].selector, kernel_data);
  EXPECT_EQ(m.state.segments[FS].selector, 0);
  EXPECT_EQ(m.state.rflags, RFLAGS_FIXED1 | RFLAGS_CF);
  EXPECT_EQ(m.state.cr0 & CR0_TS, CR0_TS);
  EXPECT_EQ(m.get(old_tss_at + EIP, 4), code_at + 5 + 5 + 1 + 7);
  EXPECT_EQ(m.get(old_tss_at + EAX, 4), 0xaaaau);
  EXPECT_EQ(m.get(old_tss_at + EAX + 12, 4), 0xbbbbu);
  EXPECT_EQ(m.get(old_tss_at + EFLAGS, 4) & RFLAGS_CF, RFLAGS_CF);
  EXPECT_EQ(m.get(old_tss_at + CS_, 2), kernel_code32);
  EXPECT_FALSE(busy(tss_selector));
  EXPECT_TRUE(busy(task_selector));
}

GUEST_CODE(call_task, 32, R"(
  lcall 0x60:0
  mov ecx, 0xcccc
  hlt
)");
GUEST_CODE(returns, 32, R"(
  pushfd
  pop edx
  iretd
)");

TEST_P(Tasks, ACallNestsAndIretComesBack) {
  protected_mode_with_task(call_task, returns);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, code_at + 7 + 5 + 1);
  EXPECT_EQ(reg(RCX), 0xccccu);
  EXPECT_EQ(m.state.tr.selector, tss_selector);
  EXPECT_EQ(m.state.rflags & RFLAGS_NT, 0u);
  EXPECT_EQ(m.get(task_at + LINK, 2), tss_selector);
  EXPECT_EQ(m.get(task_at + EAX + 8, 4) & RFLAGS_NT, RFLAGS_NT) << "EDX of the task: its flags";
  EXPECT_EQ(m.get(task_at + EFLAGS, 4) & RFLAGS_NT, 0u) << "IRET clears NT in what it saves";
  EXPECT_EQ(m.get(task_at + EIP, 4), task_code_at + 3);
  EXPECT_TRUE(busy(tss_selector));
  EXPECT_FALSE(busy(task_selector));
}

GUEST_CODE(bad_store, 32, R"(
  mov fs, eax
  mov fs:[0], eax
)");

TEST_P(Tasks, AnExceptionThroughATaskGate) {
  protected_mode_with_task(bad_store, halts);
  put_gate(VECTOR_GP, gate_descriptor(task_selector, 0, PRESENT | 5));
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, task_code_at + 1);
  EXPECT_EQ(reg(RSP), task_stack_top - 4);
  EXPECT_EQ(stack(0), 0u) << "the error code is on the new stack";
  EXPECT_EQ(m.get(old_tss_at + EIP, 4), code_at + 2);
  EXPECT_EQ(m.get(old_tss_at + EFLAGS, 4) & RFLAGS_RF, RFLAGS_RF);
  EXPECT_EQ(m.state.rflags & RFLAGS_NT, RFLAGS_NT);
  EXPECT_EQ(m.get(task_at + LINK, 2), tss_selector);
}

TEST_P(Tasks, ABusyTaskIsNotEntered) {
  protected_mode_with_task(jump_to_task, halts);
  put_descriptor(task_selector, descriptor(task_at, 0x67, PRESENT | 0xb));
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, task_selector);
  EXPECT_EQ(taken.eip, code_at + 11);
}

TEST_P(Tasks, AShortTss) {
  protected_mode_with_task(jump_to_task, halts);
  put_descriptor(task_selector, descriptor(task_at, 0x66, PRESENT | 9));
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_TS);
  EXPECT_EQ(taken.error, task_selector);
  EXPECT_EQ(m.state.tr.selector, tss_selector);
}

TEST_P(Tasks, ATssThatIsNotPresent) {
  protected_mode_with_task(jump_to_task, halts);
  put_descriptor(task_selector, descriptor(task_at, 0x67, 9));
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_NP);
  EXPECT_EQ(taken.error, task_selector);
}

TEST_P(Tasks, ABadDataSegmentIsTheNewTasksFault) {
  protected_mode_with_task(jump_to_task, halts);
  m.put(task_at + DS_, execute_only, 4);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_TS);
  EXPECT_EQ(taken.error, execute_only);
  EXPECT_EQ(taken.eip, task_code_at);
  EXPECT_EQ(m.state.tr.selector, task_selector);
  EXPECT_EQ(reg(RSP), task_stack_top - 16);
}

TEST_P(Tasks, TheTrapBit) {
  protected_mode_with_task(jump_to_task, halts);
  m.put(task_at + TRAP, 1, 2);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_DB);
  EXPECT_EQ(taken.eip, task_code_at);
  EXPECT_EQ(m.state.dr[6] & DR6_BT, DR6_BT);
}

GUEST_CODE(load_from_local, 32, R"(
  mov eax, 0x0c
  mov es, eax
  mov eax, es:[0]
  hlt
)");

TEST_P(Tasks, ATaskHasItsLocalTable) {
  protected_mode_with_task(jump_to_task, load_from_local);
  m.put(task_at + LDT, ldt_selector, 2);
  m.put(ldt_at + 8, descriptor(data_at, 7, PRESENT | 0x12, BIG));
  m.put(data_at, 0x4321, 4);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0x4321u);
  EXPECT_EQ(m.state.ldtr.selector, ldt_selector);
}

GUEST_CODE(jump_to_task16, 32, "ljmp 0x80:0");

TEST_P(Tasks, A16BitTask) {
  protected_mode_with_task(jump_to_task16, halts);
  m.put(task16_at + 0x0e, 0x40, 2);
  m.put(task16_at + 0x10, 2, 2);
  m.put(task16_at + 0x12, 0x1234, 2);
  m.put(task16_at + 0x1a, 0x8000, 2);
  m.put(task16_at + 0x22, kernel_data, 2);
  m.put(task16_at + 0x24, code16, 2);
  m.put(task16_at + 0x26, kernel_data, 2);
  m.put(task16_at + 0x28, kernel_data, 2);
  m.put(code_at + 0x40, 0xf4, 1);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.segments[CS].selector, code16);
  EXPECT_EQ(m.state.rip, 0x41u);
  EXPECT_EQ(reg(RAX) & 0xffff, 0x1234u);
  EXPECT_EQ(reg(RSP) & 0xffff, 0x8000u);
  EXPECT_EQ(m.state.tr.selector, task16_selector);
}

GUEST_CODE(user_calls_task, 32, R"(
  lcall 0xab:0
  int3
)");

TEST_P(Tasks, AUserMayCallATaskMadeForHim) {
  user32(user_calls_task);
  m.load(task_code_at, halts);
  m.put(task_at + EIP, task_code_at, 4);
  m.put(task_at + EFLAGS, 2, 4);
  m.put(task_at + ESP, task_stack_top, 4);
  m.put(task_at + CS_, kernel_code32, 4);
  m.put(task_at + SS_, kernel_data, 4);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, task_code_at + 1);
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(m.get(old_tss_at + CS_, 2), user_code32);
}

GUEST_CODE(return_without_link, 32, "iretd");

TEST_P(Tasks, IretToATaskThatIsNotBusy) {
  protected_mode_with_task(return_without_link, halts);
  m.state.rflags |= RFLAGS_NT;
  m.put(old_tss_at + LINK, task_selector, 2);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_TS);
  EXPECT_EQ(taken.error, task_selector);
}

ENGINE_SUITE(Tasks);

}  // namespace
}  // namespace veneer::engine_tests
