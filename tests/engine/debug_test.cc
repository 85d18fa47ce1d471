// The debug registers and what holds #DB back: breakpoints on code, data and ports, RF, MOV SS and STI, general detect
// (SDM 3B 17.2, 17.3; 3A 6.8.3).
#include "protected_mode.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t DR6_B0 = 1, DR6_BD = 1 << 13;
constexpr std::uint64_t DR7_L0 = 1, DR7_GD = 1 << 13, DR7_FIXED = 1 << 10;
constexpr std::uint64_t execute = 0, write = 1 << 16, port = 2 << 16, access = 3 << 16;
constexpr std::uint64_t two_bytes = 1 << 18, four_bytes = 3 << 18;

class Debug : public ProtectedModeTest {
 protected:
  void watch(std::uint64_t address, std::uint64_t what) {
    m.state.dr[0] = address;
    m.state.dr[7] = DR7_FIXED | DR7_L0 | what;
  }
  /// run() must end in #DB at this address with breakpoint 0 met.
  void expect_breakpoint(std::uint64_t eip) {
    const Taken32 taken = run_to_exception();
    EXPECT_EQ(taken.vector, VECTOR_DB);
    EXPECT_EQ(taken.eip, eip);
    EXPECT_EQ(m.state.dr[6] & 0xf, DR6_B0);
    EXPECT_EQ(m.state.dr[6] & DR6_BS, 0u);
  }
  static constexpr std::uint64_t DR6_BS = 1 << 14;
};

GUEST_CODE(three_nops, 32, "nop\nnop\nnop\nhlt");

TEST_P(Debug, AnInstructionBreakpointIsAFault) {
  protected_mode(three_nops);
  watch(code_at + 1, execute);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_DB);
  EXPECT_EQ(taken.eip, code_at + 1);
}

GUEST_CODE(resume, 32, R"(
  or dword ptr [esp + 8], 0x10000
  inc ebx
  iretd
)");

TEST_P(Debug, RfLetsTheInstructionRun) {
  protected_mode(three_nops);
  watch(code_at + 1, execute);
  m.load(kernel_entry_at, resume);
  put_gate(VECTOR_DB, gate_descriptor(kernel_code32, kernel_entry_at, PRESENT | 0xe));
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, code_at + 4);
  EXPECT_EQ(reg(RBX), 1u);
}

GUEST_CODE(sti_nop, 32, "sti\nnop\nnop\nhlt");

TEST_P(Debug, StiHoldsNoBreakpointsBack) {
  protected_mode(sti_nop);
  watch(code_at + 1, execute);
  expect_breakpoint(code_at + 1);
}

GUEST_CODE(mov_ss_nop, 32, "mov ss, edx\nnop\nnop\nhlt");

TEST_P(Debug, MovSsHidesABreakpointBehindIt) {
  protected_mode(mov_ss_nop);
  m.state.gpr[RDX] = kernel_data;
  watch(code_at + 2, execute);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, code_at + 5);
}

GUEST_CODE(store_nop, 32, R"(
  mov [0x200004], eax
  nop
  nop
  hlt
)");

TEST_P(Debug, ADataBreakpointIsATrap) {
  protected_mode(store_nop);
  watch(data_at + 6, write | two_bytes);
  expect_breakpoint(code_at + 5);
}

TEST_P(Debug, ADataBreakpointBesideTheOperand) {
  protected_mode(store_nop);
  watch(data_at + 8, access | four_bytes);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, code_at + 8);
}

GUEST_CODE(mov_ss_from_memory, 32, R"(
  mov ss, [0x200000]
  nop
  nop
  hlt
)");

TEST_P(Debug, MovSsDefersItsDataBreakpoint) {
  protected_mode(mov_ss_from_memory);
  m.put(data_at, kernel_data, 2);
  watch(data_at, access | two_bytes);
  expect_breakpoint(code_at + 6 + 1);
}

GUEST_CODE(mov_ss_and_int, 32, R"(
  mov ss, word ptr [0x200000]
  int 0x21
  hlt
)");

// As processors do since ever (CVE-2018-8897): what MOV SS held back arrives at the first instruction of the handler.
TEST_P(Debug, ADataBreakpointOfMovSsSurvivesAnInterruptInstruction) {
  protected_mode(mov_ss_and_int);
  m.put(data_at, kernel_data, 2);
  watch(data_at, access | two_bytes);
  expect_breakpoint(handlers_at + 16 * 0x21);
}

GUEST_CODE(mov_ss_and_icebp, 32, R"(
  mov ss, word ptr [0x200000]
  .byte 0xf1
  hlt
)");

TEST_P(Debug, ADataBreakpointOfMovSsJoinsInt1) {
  protected_mode(mov_ss_and_icebp);
  m.put(data_at, kernel_data, 2);
  watch(data_at, access | two_bytes);
  expect_breakpoint(code_at + 6 + 1);
}

GUEST_CODE(output, 32, R"(
  out 0x80, al
  nop
  hlt
)");

TEST_P(Debug, APortBreakpoint) {
  protected_mode(output);
  m.state.cr4 |= CR4_DE;
  watch(0x80, port);
  expect_breakpoint(code_at + 2);
}

GUEST_CODE(string_output, 32, R"(
  mov edx, 0x80
  mov esi, 0x200000
  outsb
  nop
  hlt
)");

TEST_P(Debug, APortBreakpointOnAString) {
  protected_mode(string_output);
  m.state.cr4 |= CR4_DE;
  watch(0x80, port);
  expect_breakpoint(code_at + 11);
}

GUEST_CODE(touch_debug_registers, 32, "mov eax, dr0\nhlt");

TEST_P(Debug, GeneralDetect) {
  protected_mode(touch_debug_registers);
  m.state.dr[7] = DR7_FIXED | DR7_GD;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_DB);
  EXPECT_EQ(taken.eip, code_at);
  EXPECT_EQ(m.state.dr[6] & DR6_BD, DR6_BD);
  EXPECT_EQ(m.state.dr[7] & DR7_GD, 0u);
}

GUEST_CODE(step_over_mov_ss, 32, R"(
  mov ss, edx
  nop
  nop
  hlt
)");

TEST_P(Debug, ASingleStepBehindMovSsComesLater) {
  protected_mode(step_over_mov_ss);
  m.state.gpr[RDX] = kernel_data;
  m.state.rflags |= RFLAGS_TF;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_DB);
  EXPECT_EQ(taken.eip, code_at + 3);
  EXPECT_EQ(m.state.dr[6] & DR6_BS, DR6_BS);
}

ENGINE_SUITE(Debug);

}  // namespace
}  // namespace veneer::engine_tests
