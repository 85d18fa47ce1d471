// Memory-mapped registers: widths, one read and one write for a read-modify-write, ROM, wide operands.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Mmio : public EngineTest {
 protected:
  void run_at_mmio(Code code) {
    program(code);
    m.state.gpr[RBX] = mmio_at;
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
  }
};

GUEST_CODE(far_jump, 64, ".byte 0x48, 0xff, 0x2b");  // JMP m16:64 [RBX]

TEST_P(Mmio, AFarJumpWithRexWThroughADeviceHasA64BitOffset) {
  program(far_jump);
  m.state.gpr[RBX] = mmio_at;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
  const std::vector<BusAccess> expected = {{false, mmio_at, 8, ~std::uint64_t{0}}, {false, mmio_at + 8, 2, 0xffff}};
  EXPECT_EQ(m.board.mmio, expected);
}

GUEST_CODE(load_widths, 64, R"(
  mov al, [rbx]
  mov cx, [rbx + 2]
  mov edx, [rbx + 4]
  mov rsi, [rbx + 8]
  movzx edi, byte ptr [rbx + 1]
  hlt
)");

TEST_P(Mmio, LoadsHaveTheWidthOfTheOperand) {
  run_at_mmio(load_widths);
  const std::vector<BusAccess> expected = {{false, mmio_at, 1, 0xff},
                                           {false, mmio_at + 2, 2, 0xffff},
                                           {false, mmio_at + 4, 4, 0xffffffff},
                                           {false, mmio_at + 8, 8, 0xffffffffffffffff},
                                           {false, mmio_at + 1, 1, 0xff}};
  EXPECT_EQ(m.board.mmio, expected);
  EXPECT_EQ(reg(RDI), 0xffu);
}

GUEST_CODE(store_widths, 64, R"(
  mov rax, 0x1122334455667788
  mov [rbx], al
  mov [rbx + 2], ax
  mov [rbx + 4], eax
  mov [rbx + 8], rax
  mov dword ptr [rbx + 16], 0x99
  hlt
)");

TEST_P(Mmio, StoresHaveTheWidthOfTheOperandAndReadNothing) {
  run_at_mmio(store_widths);
  const std::vector<BusAccess> expected = {{true, mmio_at, 1, 0x88},
                                           {true, mmio_at + 2, 2, 0x7788},
                                           {true, mmio_at + 4, 4, 0x55667788},
                                           {true, mmio_at + 8, 8, 0x1122334455667788},
                                           {true, mmio_at + 16, 4, 0x99}};
  EXPECT_EQ(m.board.mmio, expected);
}

#define RMW_TEST(name, text, old_value, new_value, bytes)                                                            \
  GUEST_CODE(rmw_##name, 64, text "\nhlt");                                                                          \
  TEST_P(Mmio, name##IsOneReadAndOneWrite) {                                                                         \
    m.board.mmio_values[mmio_at] = old_value;                                                                        \
    run_at_mmio(rmw_##name);                                                                                         \
    const std::vector<BusAccess> expected = {{false, mmio_at, bytes, old_value}, {true, mmio_at, bytes, new_value}}; \
    EXPECT_EQ(m.board.mmio, expected);                                                                               \
  }

RMW_TEST(Add, "add dword ptr [rbx], 5", 0x100, 0x105, 4)
RMW_TEST(LockedOr, "lock or byte ptr [rbx], 0x10", 0x01, 0x11, 1)
RMW_TEST(Xchg, "mov eax, 0x77\nxchg [rbx], eax", 0x55, 0x77, 4)
RMW_TEST(Xadd, "mov eax, 3\nlock xadd [rbx], eax", 0x55, 0x58, 4)
RMW_TEST(Bts, "bts dword ptr [rbx], 4", 0x1, 0x11, 4)
RMW_TEST(BtsRegister, "mov ecx, 4\nbts dword ptr [rbx], ecx", 0x1, 0x11, 4)
RMW_TEST(Cmpxchg, "mov eax, 0x55\nmov ecx, 0x99\nlock cmpxchg [rbx], ecx", 0x55, 0x99, 4)
RMW_TEST(Not, "not word ptr [rbx]", 0x00ff, 0xff00, 2)
RMW_TEST(Inc, "inc qword ptr [rbx]", 0xffffffff, 0x100000000, 8)
RMW_TEST(Shl, "shl dword ptr [rbx], 1", 0x4, 0x8, 4)

GUEST_CODE(flags_of_rmw, 64, R"(
  add dword ptr [rbx], 1
  setz al
  setc cl
  hlt
)");

TEST_P(Mmio, ReadModifyWriteSetsTheFlags) {
  m.board.mmio_values[mmio_at] = 0xffffffff;
  run_at_mmio(flags_of_rmw);
  EXPECT_EQ(reg(RAX) & 0xff, 1u);
  EXPECT_EQ(reg(RCX) & 0xff, 1u);
}

GUEST_CODE(vector_copy, 64, R"(
  movdqu xmm0, [rbx]
  movdqu [rbx + 0x20], xmm0
  hlt
)");

TEST_P(Mmio, WideOperandsGoInPiecesOfEight) {
  m.board.mmio_values[mmio_at] = 0x1111;
  m.board.mmio_values[mmio_at + 8] = 0x2222;
  run_at_mmio(vector_copy);
  const std::vector<BusAccess> expected = {{false, mmio_at, 8, 0x1111},
                                           {false, mmio_at + 8, 8, 0x2222},
                                           {true, mmio_at + 0x20, 8, 0x1111},
                                           {true, mmio_at + 0x28, 8, 0x2222}};
  EXPECT_EQ(m.board.mmio, expected);
}

GUEST_CODE(string_copy, 64, R"(
  mov rsi, rbx
  mov rdi, 0x200000
  mov ecx, 2
  rep movsd
  hlt
)");

TEST_P(Mmio, RepMovsReadsElementByElement) {
  m.board.mmio_values[mmio_at] = 0xaaaa;
  m.board.mmio_values[mmio_at + 4] = 0xbbbb;
  run_at_mmio(string_copy);
  const std::vector<BusAccess> expected = {{false, mmio_at, 4, 0xaaaa}, {false, mmio_at + 4, 4, 0xbbbb}};
  EXPECT_EQ(m.board.mmio, expected);
  EXPECT_EQ(m.get(data_at), 0x0000bbbb0000aaaau);
}

GUEST_CODE(push_from_mmio, 64, R"(
  push qword ptr [rbx]
  pop rcx
  hlt
)");

TEST_P(Mmio, PushReadsOnce) {
  m.board.mmio_values[mmio_at] = 0x1234;
  run_at_mmio(push_from_mmio);
  const std::vector<BusAccess> expected = {{false, mmio_at, 8, 0x1234}};
  EXPECT_EQ(m.board.mmio, expected);
  EXPECT_EQ(reg(RCX), 0x1234u);
}

GUEST_CODE(store_at_rbx, 64, R"(
  mov dword ptr [rbx], 0x12345678
  mov eax, [rbx]
  hlt
)");

TEST_P(Mmio, RomKeepsItsBytesAndTheBoardHearsOfTheWrite) {
  program(store_at_rbx);
  m.put(rom_at, 0x0badf00d, 4);
  m.state.gpr[RBX] = rom_at;
  m.run();
  EXPECT_EQ(reg(RAX), m.get(rom_at, 4));
  const std::vector<BusAccess> expected = {{true, rom_at, 4, 0x12345678}};
  EXPECT_EQ(m.board.mmio, expected);
}

GUEST_CODE(jump_rbx, 64, "jmp rbx");

TEST_P(Mmio, CodeThereIsNoCrash) {
  program(jump_rbx);
  m.state.gpr[RBX] = mmio_at;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->rip, mmio_at);
}

ENGINE_SUITE(Mmio);

}  // namespace
}  // namespace veneer::engine_tests
