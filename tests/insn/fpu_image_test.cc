// x87 images in memory: FNSTENV, FLDENV, FNSAVE, FRSTOR in every size, and what a fault leaves (SDM 1 8.1.10).
#include <cstring>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class FpuImages : public EngineTest {
 protected:
  void start(Code code) {
    program(code);
    m.state.gpr[RBX] = data_at;
    for (unsigned i = 0; i < 128; i += 8) m.put(data_at + i, 0xeeeeeeeeeeeeeeee);
  }
  std::uint64_t word(unsigned offset) { return m.get(data_at + offset, 2); }
};

GUEST_CODE(store_environment, 64, R"(
  fninit
  push 0x0f7e
  fldcw [rsp]
  fld1
  fldpi
  fnstenv [rbx]
  fnstcw [rbx + 64]
  hlt
)");

TEST_P(FpuImages, FnstenvStoresTwentyEightBytesWithTheGuestsAddresses) {
  start(store_environment);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(word(0), 0x0f7eu);
  EXPECT_EQ(word(4), 6u << 11);
  EXPECT_EQ(word(8), 0x0fffu);
  constexpr std::uint64_t fldpi_at = code_at + 2 + 5 + 3 + 2, fldpi_opcode = 0x1eb;
  EXPECT_EQ(m.get(data_at + 12, 4), fldpi_at) << "instruction pointer";
  EXPECT_EQ(word(18), fldpi_opcode);
  EXPECT_EQ(m.get(data_at + 20, 4), 0u) << "operand pointer";
  EXPECT_EQ(word(24), 0u) << "its selector";
  EXPECT_EQ(m.get(data_at + 28, 4), 0xeeeeeeeeu);
}

TEST_P(FpuImages, FnstenvMasksAllExceptionsAfterwards) {
  start(store_environment);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(word(64), 0x0f7fu);
}

GUEST_CODE(store_small_environment, 64, "fninit\nfld1\ndata16 fnstenv [rbx]\nhlt");

TEST_P(FpuImages, FnstenvWithOperandSizePrefixStoresFourteenBytes) {
  start(store_small_environment);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(word(0), 0x037fu);
  EXPECT_EQ(word(2), 7u << 11);
  EXPECT_EQ(word(4), 0x3fffu);
  constexpr std::uint64_t fld1_at = code_at + 2;
  EXPECT_EQ(word(6), fld1_at & 0xffff);
  EXPECT_EQ(m.get(data_at + 10, 4), 0u) << "operand pointer and its selector";
  EXPECT_EQ(word(14), 0xeeeeu);
}

GUEST_CODE(round_trip, 64, R"(
  fninit
  fld1
  fldpi
  fldl2e
  fnsave [rbx]
  fnstsw [rbx + 120]
  frstor [rbx]
  fistp qword ptr [rbx]
  fistp qword ptr [rbx + 8]
  fistp qword ptr [rbx + 16]
  hlt
)");

TEST_P(FpuImages, FrstorBringsBackWhatFnsaveStored) {
  start(round_trip);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(word(120), 0u) << "FNSAVE leaves the state of FNINIT";
  EXPECT_EQ(m.get(data_at), 1u);
  EXPECT_EQ(m.get(data_at + 8), 3u);
  EXPECT_EQ(m.get(data_at + 16), 1u);
}

GUEST_CODE(small_round_trip, 64, R"(
  fninit
  fld1
  fldpi
  data16 fnsave [rbx]
  data16 frstor [rbx]
  fistp qword ptr [rbx]
  fistp qword ptr [rbx + 8]
  hlt
)");

TEST_P(FpuImages, TheSmallStateRoundTripsToo) {
  start(small_round_trip);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.get(data_at), 3u);
  EXPECT_EQ(m.get(data_at + 8), 1u);
}

GUEST_CODE(save_to_nowhere, 64, "fninit\nfld1\nfnsave [rbx]\nhlt");

TEST_P(FpuImages, AFaultingFnsaveKeepsTheRegisters) {
  start(save_to_nowhere);
  m.state.gpr[RBX] = unmapped_at;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  std::uint16_t status;
  std::memcpy(&status, m.state.xsave.data() + 2, 2);
  EXPECT_EQ(status, 7u << 11);
}

GUEST_CODE(pending_exception, 64, R"(
  fninit
  push 0x37b
  fldcw [rsp]
  fld1
  fldz
  fdivp
  fnstenv [rbx]
  fldenv [rbx]
  fnop
  hlt
)");

TEST_P(FpuImages, FldenvCanBringAnExceptionThatTheNextInstructionRaises) {
  start(pending_exception);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_MF);
  EXPECT_EQ(taken->rip, code_at + 2 + 5 + 3 + 2 + 2 + 2 + 2 + 2);
}

GUEST_CODE(fldenv_waits, 64, R"(
  fninit
  push 0x37b
  fldcw [rsp]
  fld1
  fldz
  fdivp
  fldenv [rbx]
  hlt
)");

TEST_P(FpuImages, FldenvRaisesWhatIsPendingBeforeItLooksAtMemory) {
  start(fldenv_waits);
  m.state.gpr[RBX] = unmapped_at;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_MF);
}

GUEST_CODE(fxsave_pointers, 64, "fninit\nfld1\nfstp qword ptr [rbx]\nfxsave64 [rbx + 64]\nhlt");

constexpr std::uint64_t fstp_at = code_at + 2 + 2;

TEST_P(FpuImages, FxsaveShowsNoHostAddresses) {
  start(fxsave_pointers);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  // AMD's processors store pointers here only while an exception is pending.
  const std::uint64_t code = m.get(data_at + 64 + 8), data = m.get(data_at + 64 + 16);
  EXPECT_TRUE(code == 0 || code == fstp_at) << code;
  EXPECT_TRUE(data == 0 || data == data_at) << data;
}

GUEST_CODE(fxsave_pending, 64, R"(
  fninit
  fld1
  push 0x37b
  fldcw [rsp]
  fldz
  fdivr qword ptr [rbx + 120]
  fxsave64 [rbx + 128]
  hlt
)");

TEST_P(FpuImages, FxsaveShowsWhereAPendingExceptionCameFrom) {
  start(fxsave_pending);
  m.put(data_at + 120, 0x3ff0000000000000);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  constexpr std::uint64_t fdivr_at = code_at + 2 + 2 + 5 + 3 + 2;
  EXPECT_EQ(m.get(data_at + 128 + 8), fdivr_at);
  EXPECT_EQ(m.get(data_at + 128 + 16), data_at + 120);
  EXPECT_EQ(word(128 + 6), 0x47bu);
}

TEST_P(FpuImages, TheEnginesStateHasTheGuestsAddresses) {
  start(fxsave_pointers);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  std::uint64_t pointers[2];
  std::memcpy(pointers, m.state.xsave.data() + 8, 16);
  EXPECT_EQ(pointers[0], fstp_at);
  EXPECT_EQ(pointers[1], data_at);
}

GUEST_CODE(simd_without_osxmmexcpt, 64, R"(
  push 0x1d80
  ldmxcsr [rsp]
  mov eax, 1
  cvtsi2sd xmm0, eax
  xorps xmm1, xmm1
  divsd xmm0, xmm1
  hlt
)");

TEST_P(FpuImages, WithoutOsxmmexcptASimdExceptionIsUndefined) {
  start(simd_without_osxmmexcpt);
  m.state.cr4 &= ~CR4_OSXMMEXCPT;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
}

ENGINE_SUITE(FpuImages);

}  // namespace
}  // namespace veneer::engine_tests
