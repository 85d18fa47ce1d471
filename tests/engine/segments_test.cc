// Limits, types and the ends of segments (SDM 3A 5.3 to 5.5), in data and in code.
#include "protected_mode.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Segments : public ProtectedModeTest {
 protected:
  /// Supervisor code whose ES is loaded with this selector's descriptor.
  void with_es(Code code, std::uint16_t selector) {
    protected_mode(code);
    m.state.gpr[RDX] = selector;
  }
  void real_mode(Code code) {
    reset_state(m.state);
    m.load(0x10000, code);
    for (Segment& s : m.state.segments) s = {0x1000, 0x93, 0xffff, 0x10000};
    m.state.segments[CS].attributes = 0x9b;
    m.state.rip = 0;
    m.state.gpr = {};
    m.state.gpr[RSP] = 0x8000;
    for (unsigned vector = 0; vector < 32; vector++) {
      m.put(vector * 4, 0x00300000 | (vector * 16), 4);  // 0030:vector * 16, at 300h
      m.put(0x300 + 16 * vector, 0xf4, 1);
    }
  }
  /// The vector of the exception that a real-mode program ended in.
  unsigned real_vector() {
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
    EXPECT_EQ(m.state.segments[CS].selector, 0x30);
    return static_cast<unsigned>(m.state.rip - 1) / 16;
  }
};

GUEST_CODE(load_es_and_read, 32, R"(
  mov es, edx
  mov eax, es:[0xffc]
  mov eax, es:[0xffd]
  hlt
)");

TEST_P(Segments, TheLastByteCounts) {
  with_es(load_es_and_read, small_data);
  m.put(data_at + 0xffc, 0x77, 4);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, 0u);
  EXPECT_EQ(taken.eip, code_at + 2 + 6);
  EXPECT_EQ(reg(RAX), 0x77u);
}

GUEST_CODE(load_es_and_write, 32, R"(
  mov es, edx
  mov eax, es:[0x10]
  mov es:[0x10], eax
  hlt
)");

TEST_P(Segments, ReadOnlyDataIsNotWritten) {
  with_es(load_es_and_write, read_only);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, code_at + 2 + 6);
}

TEST_P(Segments, ExpandDownSegmentsBeginBehindTheLimit) {
  with_es(load_es_and_write, expand_down);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, code_at + 2);
}

GUEST_CODE(behind_the_limit, 32, R"(
  mov es, edx
  mov eax, es:[0x1000]
  mov es:[0x1004], eax
  hlt
)");

TEST_P(Segments, ExpandDownSegmentsGoToTheEnd) {
  with_es(behind_the_limit, expand_down);
  m.put(data_at + 0x1000, 0x1234, 4);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.get(data_at + 0x1004, 4), 0x1234u);
}

TEST_P(Segments, ExecuteOnlyCodeCannotBeLoadedAsData) {
  with_es(load_es_and_read, execute_only);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, execute_only);
  EXPECT_EQ(taken.eip, code_at);
}

TEST_P(Segments, ANullSegmentCanBeLoadedButNotUsed) {
  with_es(load_es_and_read, 0);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, code_at + 2);
}

GUEST_CODE(write_code, 32, R"(
  mov eax, cs:[0x200000]
  mov cs:[0x200000], eax
  hlt
)");

TEST_P(Segments, CodeIsNotWrittenInProtectedMode) {
  protected_mode(write_code);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, code_at + 6);
}

GUEST_CODE(push_at_the_end, 32, R"(
  mov ss, edx
  mov esp, 0x1000
  push eax
  mov esp, 2
  push eax
  hlt
)");

TEST_P(Segments, TheStackHasItsOwnFault) {
  with_es(push_at_the_end, small_data);
  // The handler needs a stack: another one, through a task of its own.
  m.put(task_at + 0x20, handlers_at + 16 * VECTOR_SS, 4);
  m.put(task_at + 0x24, 2, 4);
  m.put(task_at + 0x38, task_stack_top, 4);
  m.put(task_at + 0x4c, kernel_code32, 4);
  m.put(task_at + 0x50, kernel_data, 4);
  put_gate(VECTOR_SS, gate_descriptor(task_selector, 0, PRESENT | 5));
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, handlers_at + 16 * VECTOR_SS + 1);
  EXPECT_EQ(m.get(old_tss_at + 0x20, 4), code_at + 2 + 5 + 1 + 5) << "EIP in the old task's TSS";
  EXPECT_EQ(m.get(old_tss_at + 0x38, 4), 2u) << "ESP";
}

GUEST_CODE(copy_to_the_end, 32, R"(
  mov es, edx
  mov esi, 0x201000
  mov edi, 0xff0
  mov ecx, 0x20
  cld
  rep movsb
  hlt
)");

TEST_P(Segments, StringsStopAtTheEnd) {
  with_es(copy_to_the_end, small_data);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(reg(RCX), 0x10u);
  EXPECT_EQ(reg(RDI), 0x1000u);
  EXPECT_EQ(taken.eip, code_at + 18);
}

GUEST_CODE(run_to_the_end, 32, R"(
  ljmp 0xb0:0x18
  .org guest_run_to_the_end_begin + 0x18
  inc eax
  inc eax
  inc eax
  inc eax
  inc eax
  inc eax
  inc eax
  inc eax
  inc eax
)");

TEST_P(Segments, CodeEndsWithItsSegment) {
  protected_mode(run_to_the_end);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, 0u);
  EXPECT_EQ(taken.eip, 0x20u);
  EXPECT_EQ(taken.cs, limited_code);
  EXPECT_EQ(reg(RAX), 8u);
}

GUEST_CODE(jump_out, 32, R"(
  ljmp 0xb0:0x10
  .org guest_jump_out_begin + 0x10
  inc eax
  jmp 1f
  nop
  .org guest_jump_out_begin + 0x40
1:hlt
)");

TEST_P(Segments, AJumpOutFaultsAtTheJump) {
  protected_mode(jump_out);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, 0x11u);
}

GUEST_CODE(long_instruction_at_the_end, 32, R"(
  ljmp 0xb0:0x1c
  .org guest_long_instruction_at_the_end_begin + 0x1c
  mov eax, 0x12345678
)");

TEST_P(Segments, AnInstructionEndsInsideItsSegment) {
  protected_mode(long_instruction_at_the_end);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, 0x1cu);
  EXPECT_EQ(reg(RAX), 0u);
}

GUEST_CODE(from_local_table, 32, R"(
  mov eax, 0x50
  lldt ax
  mov eax, 0x0c
  mov es, eax
  mov eax, es:[4]
  sldt ebx
  hlt
)");

TEST_P(Segments, TheLocalTable) {
  protected_mode(from_local_table);
  m.put(ldt_at + 8, descriptor(data_at, 7, PRESENT | 0x12, BIG));
  m.put(data_at + 4, 0x99aa, 4);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0x99aau);
  EXPECT_EQ(reg(RBX), ldt_selector);
  EXPECT_EQ(m.get(ldt_at + 8 + 5, 1), PRESENT | 0x13u) << "accessed";
}

GUEST_CODE(real_word_at_the_end, 16, R"(
  mov bx, 0xffff
  mov al, [bx]
  mov ax, [bx]
  hlt
)");

TEST_P(Segments, RealModeHasLimitsToo) {
  real_mode(real_word_at_the_end);
  EXPECT_EQ(real_vector(), VECTOR_GP);
}

GUEST_CODE(real_stack_at_the_end, 16, R"(
  mov bp, 0xffff
  mov ax, [bp]
  hlt
)");

TEST_P(Segments, RealModeStackLimit) {
  real_mode(real_stack_at_the_end);
  EXPECT_EQ(real_vector(), VECTOR_SS);
}

GUEST_CODE(big_real, 16, R"(
  cli
  push ds
  lgdt cs:[2f - guest_big_real_begin]
  mov eax, cr0
  or al, 1
  mov cr0, eax
  mov bx, 0x10
  mov ds, bx
  and al, 0xfe
  mov cr0, eax
  pop ds
  xor ax, ax
  mov ds, ax
  mov ebx, 0x200000
  mov dword ptr [ebx], 0x5a5a1234
  mov ecx, [ebx]
  hlt
  .org guest_big_real_begin + 0x80
2: .word 79
  .long 0x1000
)");

TEST_P(Segments, BigRealModeKeepsTheLimit) {
  real_mode(big_real);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.segments[CS].selector, 0x1000);
  EXPECT_EQ(m.get(0x200000, 4), 0x5a5a1234u);
  EXPECT_EQ(reg(RCX), 0x5a5a1234u);
}

GUEST_CODE(wrapping_jump, 16, R"(
  mov ax, 1
  .byte 0xe9, 0xf8, 0xff
)");

TEST_P(Segments, SixteenBitJumpsWrapRound) {
  real_mode(wrapping_jump);
  m.put(0x10000 + 0xfffe, 0xf490, 2);  // NOP, HLT at FFFEh
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.segments[CS].selector, 0x1000);
  EXPECT_EQ(reg(RAX), 1u);
}

ENGINE_SUITE(Segments);

}  // namespace
}  // namespace veneer::engine_tests
