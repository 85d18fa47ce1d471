// IN, OUT, INS, OUTS: widths, order, and who may.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Ports : public EngineTest {};

GUEST_CODE(out_widths, 64, R"(
  mov eax, 0x11223344
  out 0x80, al
  out 0x82, ax
  out 0x84, eax
  mov edx, 0x3f8
  out dx, al
  out dx, ax
  out dx, eax
  hlt
)");

TEST_P(Ports, OutHasTheWidthOfTheInstruction) {
  program(out_widths);
  m.run();
  const std::vector<BusAccess> expected = {{true, 0x80, 1, 0x44},       {true, 0x82, 2, 0x3344},
                                           {true, 0x84, 4, 0x11223344}, {true, 0x3f8, 1, 0x44},
                                           {true, 0x3f8, 2, 0x3344},    {true, 0x3f8, 4, 0x11223344}};
  EXPECT_EQ(m.board.ports, expected);
}

GUEST_CODE(in_byte, 64, R"(
  mov rax, -1
  in al, 0x60
  hlt
)");
GUEST_CODE(in_word, 64, R"(
  mov rax, -1
  in ax, 0x60
  hlt
)");
GUEST_CODE(in_dword, 64, R"(
  mov rax, -1
  in eax, 0x60
  hlt
)");

TEST_P(Ports, ByteInKeepsTheRestOfRax) {
  program(in_byte);
  m.board.port_values[0x60] = 0x12345678;
  m.run();
  EXPECT_EQ(reg(RAX), 0xffffffffffffff78u);
}

TEST_P(Ports, WordInKeepsTheRestOfRax) {
  program(in_word);
  m.board.port_values[0x60] = 0x12345678;
  m.run();
  EXPECT_EQ(reg(RAX), 0xffffffffffff5678u);
}

TEST_P(Ports, DwordInClearsTheUpperHalf) {
  program(in_dword);
  m.board.port_values[0x60] = 0x12345678;
  m.run();
  EXPECT_EQ(reg(RAX), 0x12345678u);
}

GUEST_CODE(rep_outs, 64, R"(
  mov rsi, 0x200000
  mov ecx, 3
  mov edx, 0x1f0
  rep outsw
  hlt
)");

TEST_P(Ports, RepOutsGivesEachElement) {
  program(rep_outs);
  m.put(data_at, 0x0000333322221111);
  m.run();
  const std::vector<BusAccess> expected = {
      {true, 0x1f0, 2, 0x1111}, {true, 0x1f0, 2, 0x2222}, {true, 0x1f0, 2, 0x3333}};
  EXPECT_EQ(m.board.ports, expected);
  EXPECT_EQ(reg(RSI), data_at + 6);
  EXPECT_EQ(reg(RCX), 0u);
}

GUEST_CODE(rep_ins, 64, R"(
  mov rdi, 0x200000
  mov ecx, 2
  mov edx, 0x1f0
  rep insd
  hlt
)");

TEST_P(Ports, RepInsFillsMemory) {
  program(rep_ins);
  m.board.port_values[0x1f0] = 0xcafe1234;
  m.run();
  EXPECT_EQ(m.get(data_at), 0xcafe1234cafe1234u);
  EXPECT_EQ(reg(RDI), data_at + 8);
}

GUEST_CODE(ins_into_unmapped, 64, R"(
  mov rdi, 0x700000000000
  mov edx, 0x1f0
  insb
  hlt
)");

TEST_P(Ports, InsDoesNotReadThePortWhenMemoryFaults) {
  program(ins_into_unmapped);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(taken->error, 2u);
  EXPECT_EQ(m.board.ports, std::vector<BusAccess>{});
}

GUEST_CODE(user_out, 64, R"(
  mov edx, 0x3f8
  out dx, al
  mov ebx, 1
  ud2
)");

TEST_P(Ports, UserCodeGetsGpWithoutABitmap) {
  user_program(user_out);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
  EXPECT_EQ(taken->rip, user_code_at + 5);
  EXPECT_EQ(m.board.ports, std::vector<BusAccess>{});
}

TEST_P(Ports, UserCodeMayWithIopl3) {
  user_program(user_out);
  m.state.rflags |= RFLAGS_IOPL;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
  EXPECT_EQ(m.board.ports.size(), 1u);
}

TEST_P(Ports, TheBitmapAllowsAPort) {
  user_program(user_out);
  constexpr std::uint16_t bitmap = 104;
  m.put(tss_at + 102, bitmap, 2);
  m.put(tss_at + bitmap + 0x3f8 / 8, 0xfffe, 2);  // 3f8 free, its neighbours not
  m.state.tr.limit = 0x3ff;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
  EXPECT_EQ(m.board.ports.size(), 1u);
}

ENGINE_SUITE(Ports);

}  // namespace
}  // namespace veneer::engine_tests
