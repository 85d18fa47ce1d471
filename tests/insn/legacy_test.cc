// What only 16 and 32-bit code has: BCD, BOUND, ARPL, SALC, INTO, opcode 82; and what real mode takes away.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Legacy : public EngineTest {
 protected:
  /// 32-bit user code under the long-mode kernel.
  void compat_program(Code code) {
    user_program(code);
    m.state.segments[CS] = {user_code32, 0xcfb, 0xffffffff, 0};
    m.state.gpr[RBX] = user_data_at;
  }
  /// Real-mode code at 1000:0000, data and stack at 2000:0000; interrupt n ends at HLT at 0:0600 + 16 n.
  void real_program(Code code) {
    reset_state(m.state);
    m.load(0x10000, code);
    for (unsigned n = 0; n < 32; n++) {
      m.put(4 * n, 0x600 + 16 * n, 4);
      m.put(0x600 + 16 * n, 0xf4, 1);
    }
    constexpr std::uint16_t real_code = 0x9b, real_data = 0x93;
    m.state.segments[CS] = {0x1000, real_code, 0xffff, 0x10000};
    for (const SegReg data : {DS, ES, SS}) m.state.segments[data] = {0x2000, real_data, 0xffff, 0x20000};
    m.state.rip = 0;
    m.state.gpr[RSP] = 0x8000;
  }
  /// Ends in HLT; the vector of the interrupt taken, or -1 when the program's own HLT was reached.
  int run_real() {
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
    if (m.state.segments[CS].base != 0) return -1;
    return static_cast<int>(m.state.rip - 1 - 0x600) / 16;
  }
  unsigned ends_in() {
    const auto taken = m.run_to_exception();
    return taken ? taken->vector : 0xff;
  }
};

#define BCD_TEST(name, text, flags_in, ax_in, ax_out, defined, flags_out) \
  GUEST_CODE(bcd_##name, 32, text "\nint3");                              \
  TEST_P(Legacy, name) {                                                  \
    compat_program(bcd_##name);                                           \
    m.state.rflags |= (flags_in);                                         \
    m.state.gpr[RAX] = 0x12340000u | ax_in;                               \
    const auto taken = m.run_to_exception();                              \
    ASSERT_TRUE(taken);                                                   \
    EXPECT_EQ(taken->vector, VECTOR_BP);                                  \
    EXPECT_EQ(reg(RAX), 0x12340000u | ax_out);                            \
    EXPECT_EQ(taken->rflags&(defined), flags_out);                        \
  }

constexpr std::uint64_t C = RFLAGS_CF, A = RFLAGS_AF, Z = RFLAGS_ZF, S = RFLAGS_SF, P = RFLAGS_PF;
BCD_TEST(AaaCarries, "aaa", 0, 0x007b, 0x0101, C | A, C | A)
BCD_TEST(AaaKeeps, "aaa", 0, 0x0075, 0x0005, C | A, 0u)
BCD_TEST(AaaByAuxiliaryCarry, "aaa", A, 0x0102, 0x0208, C | A, C | A)
BCD_TEST(AasBorrows, "aas", 0, 0x020b, 0x0105, C | A, C | A)
BCD_TEST(AasKeeps, "aas", 0, 0x0204, 0x0204, C | A, 0u)
BCD_TEST(DaaBothDigits, "daa", 0, 0x009c, 0x0002, C | A | Z | S | P, C | A)
BCD_TEST(DaaOnCarry, "daa", C, 0x0012, 0x0072, C | A | Z | S | P, C | P)
BCD_TEST(DasBothDigits, "das", 0, 0x00ff, 0x0099, C | A | Z | S | P, C | A | S | P)
BCD_TEST(DasLowBorrowCarries, "das", A, 0x0003, 0x00fd, C | A | Z | S, C | A | S)
BCD_TEST(Aam, "aam", 0, 0xff2a, 0x0402, Z | S | P, 0u)
BCD_TEST(AamOtherBase, "aam 16", 0, 0x002a, 0x020a, Z | S | P, P)
BCD_TEST(Aad, "aad", 0, 0x0402, 0x002a, Z | S | P, 0u)
BCD_TEST(AadWraps, "aad", 0, 0x1a00, 0x0004, Z | S | P, 0u)
BCD_TEST(SalcSet, ".byte 0xd6", C, 0x0000, 0x00ff, C, C)
BCD_TEST(SalcClear, ".byte 0xd6", 0, 0xffff, 0xff00, C, 0u)

GUEST_CODE(aam_zero, 32, "aam 0\nint3");
TEST_P(Legacy, AamByZeroIsDivideError) {
  compat_program(aam_zero);
  EXPECT_EQ(ends_in(), unsigned{VECTOR_DE});
}

GUEST_CODE(bound, 32, "bound ecx, [ebx]\nint3");
TEST_P(Legacy, BoundInside) {
  compat_program(bound);
  m.put(user_data_physical, 0x00000005'fffffffb);  // -5 to 5
  m.state.gpr[RCX] = 0xfffffffb;
  EXPECT_EQ(ends_in(), unsigned{VECTOR_BP});
}
TEST_P(Legacy, BoundOutsideIsAFault) {
  compat_program(bound);
  m.put(user_data_physical, 0x00000005'fffffffb);
  m.state.gpr[RCX] = 6;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_BR);
  EXPECT_EQ(taken->rip, user_code_at);
}

GUEST_CODE(arpl, 32, "arpl [ebx], cx\nint3");
TEST_P(Legacy, ArplRaises) {
  compat_program(arpl);
  m.put(user_data_physical, 0xffff0008, 4);
  m.state.gpr[RCX] = 0x23;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(m.get(user_data_physical, 4), 0xffff000bu);
  EXPECT_EQ(taken->rflags & Z, Z);
}
TEST_P(Legacy, ArplLeavesAHigherOneAlone) {
  compat_program(arpl);
  m.put(user_data_physical, 0x000b, 4);
  m.state.gpr[RCX] = 0x21;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(m.get(user_data_physical, 4), 0x000bu);
  EXPECT_EQ(taken->rflags & Z, 0u);
}

GUEST_CODE(into, 32, "mov al, 0x7f\nadd al, 1\ninto\nint3");
TEST_P(Legacy, IntoTraps) {
  compat_program(into);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_OF);
  EXPECT_EQ(taken->rip, user_code_at + 5);
}
GUEST_CODE(into_not, 32, "mov al, 0x7e\nadd al, 1\ninto\nint3");
TEST_P(Legacy, IntoDoesNothingWithoutOverflow) {
  compat_program(into_not);
  EXPECT_EQ(ends_in(), unsigned{VECTOR_BP});
}

GUEST_CODE(opcode_82, 32, ".byte 0x82, 0x03, 0x05\nint3");  // add byte ptr [ebx], 5
TEST_P(Legacy, Opcode82IsOpcode80) {
  compat_program(opcode_82);
  m.put(user_data_physical, 0x10, 1);
  EXPECT_EQ(ends_in(), unsigned{VECTOR_BP});
  EXPECT_EQ(m.get(user_data_physical, 1), 0x15u);
}

GUEST_CODE(none_in_64, 64, ".byte 0x37");
TEST_P(Legacy, AaaIsUndefinedIn64BitMode) {
  user_program(none_in_64);
  EXPECT_EQ(ends_in(), unsigned{VECTOR_UD});
}

// ---- real mode

#define UNDEFINED_IN_REAL_MODE(name, text)      \
  GUEST_CODE(real_##name, 16, text "\nhlt");    \
  TEST_P(Legacy, name##IsUndefinedInRealMode) { \
    real_program(real_##name);                  \
    EXPECT_EQ(run_real(), int{VECTOR_UD});      \
  }
UNDEFINED_IN_REAL_MODE(Sldt, "sldt ax")
UNDEFINED_IN_REAL_MODE(Str, "str ax")
UNDEFINED_IN_REAL_MODE(Lar, "lar ax, bx")
UNDEFINED_IN_REAL_MODE(Lsl, "lsl ax, bx")
UNDEFINED_IN_REAL_MODE(Verr, "verr ax")
UNDEFINED_IN_REAL_MODE(Verw, "verw ax")
UNDEFINED_IN_REAL_MODE(Lldt, "lldt ax")
UNDEFINED_IN_REAL_MODE(Arpl, "arpl [bx], ax")
UNDEFINED_IN_REAL_MODE(Andn, ".byte 0xc4, 0xe2, 0x78, 0xf2, 0xc3")
UNDEFINED_IN_REAL_MODE(Xsave, "xor bx, bx\nxsave [bx]")

GUEST_CODE(real_arithmetic, 16, R"(
  mov ax, 0x1234
  mov bx, 0x10
  mov [bx], ax
  add word ptr [bx], 0x1111
  add dword ptr [bx + 4], 0x11111111
  push word ptr [bx]
  pop cx
  inc cx
  dec dx
  mov esi, 0x12345678
  lea di, [bx + si + 4]
  aad
  call 1f
  hlt
1: imul bp, [bx], 3
  shld ax, cx, 4
  ret
)");
TEST_P(Legacy, SixteenBitOperandsKeepTheUpperHalves) {
  real_program(real_arithmetic);
  for (const Gpr r : {RAX, RBX, RCX, RDX, RBP, RDI}) m.state.gpr[r] = 0xaaaa0000;
  m.put(0x20010, 0xffff);
  m.put(0x20014, 0x22222222, 4);
  EXPECT_EQ(run_real(), -1);
  EXPECT_EQ(m.get(0x20010, 4), 0x2345u);
  EXPECT_EQ(m.get(0x20014, 4), 0x33333333u);
  EXPECT_EQ(reg(RCX), 0xaaaa2346u);
  EXPECT_EQ(reg(RDX), 0xaaaaffffu);
  EXPECT_EQ(reg(RDI), 0xaaaa0000u + ((0x10 + 0x5678 + 4) & 0xffff));
  EXPECT_EQ(reg(RBP), 0xaaaa0000u + ((0x2345 * 3) & 0xffff));
  EXPECT_EQ(reg(RBX), 0xaaaa0010u);
  EXPECT_EQ(reg(RSP), 0x8000u);
}

ENGINE_SUITE(Legacy);

}  // namespace
}  // namespace veneer::engine_tests
