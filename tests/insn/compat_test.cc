// 32-bit user code under a 64-bit kernel: short forms, segments, thread-local storage, system calls.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Compat : public EngineTest {
 protected:
  void compat_program(Code code) {
    user_program(code);
    m.state.segments[CS] = {user_code32, 0xcfb, 0xffffffff, 0};
    m.state.gpr[RBX] = user_data_at;
  }
  void expect_int3() {
    const auto taken = m.run_to_exception();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->vector, VECTOR_BP);
    EXPECT_EQ(taken->cs, user_code32);
  }
};

GUEST_CODE(short_forms, 32, R"(
  mov ecx, 0xffffffff
  inc ecx
  setz dl
  dec cx
  push 0x11223344
  push bx
  pop si
  pop edi
  push esp
  pop ebp
  sub ebp, esp
  pusha
  mov dword ptr [esp + 28], 0x55
  popa
  int3
)");

TEST_P(Compat, ShortForms) {
  compat_program(short_forms);
  m.state.gpr[RDX] = 0;
  const std::uint64_t sp = m.state.gpr[RSP];
  expect_int3();
  EXPECT_EQ(reg(RCX), 0xffffu);
  EXPECT_EQ(reg(RDX), 1u);
  EXPECT_EQ(reg(RSI), user_data_at & 0xffff);
  EXPECT_EQ(reg(RDI), 0x11223344u);
  EXPECT_EQ(reg(RBP), 0u);
  EXPECT_EQ(reg(RAX), 0x55u);
  (void)sp;
}

GUEST_CODE(calls, 32, R"(
  xor eax, eax
  call 1f
  call 1f
  lea esi, [esp]
  call 3f
3: pop ecx
  add ecx, 1f - 3b
  call ecx
  push ecx
  call [esp]
  add esp, 4
  sub esi, esp
  int3
1: inc eax
  ret
)");

TEST_P(Compat, CallsAndReturns) {
  compat_program(calls);
  expect_int3();
  EXPECT_EQ(reg(RAX), 4u);
  EXPECT_EQ(reg(RSI), 0u);
}

GUEST_CODE(wrap, 32, R"(
  mov ecx, 0xfffffff0
  mov eax, [ebx + ecx + 0x10]
  mov edx, 0x80000000
  mov edx, [ebx + edx*2 + 4]
  int3
)");

TEST_P(Compat, AddressesWrapAtFourGigabytes) {
  compat_program(wrap);
  m.put(user_data_physical, 0x0000002200000011);
  expect_int3();
  EXPECT_EQ(reg(RAX), 0x11u);
  EXPECT_EQ(reg(RDX), 0x22u);
}

GUEST_CODE(thread_local_storage, 32, R"(
  mov eax, gs:[0x10]
  mov ecx, gs:[0xfffffff4]
  mov dword ptr gs:[0x14], 0x77
  mov edx, fs:[8]
  int3
)");

TEST_P(Compat, SegmentBasesAreAdded) {
  compat_program(thread_local_storage);
  m.state.segments[GS] = {user_data, 0xcf3, 0xffffffff, user_data_at + 0x100};
  m.state.segments[FS] = {user_data, 0xcf3, 0xffffffff, user_data_at + 0x200};
  m.put(user_data_physical + 0x110, 0xa, 4);
  m.put(user_data_physical + 0xf4, 0xb, 4);
  m.put(user_data_physical + 0x208, 0xc, 4);
  expect_int3();
  EXPECT_EQ(reg(RAX), 0xau);
  EXPECT_EQ(reg(RCX), 0xbu);
  EXPECT_EQ(reg(RDX), 0xcu);
  EXPECT_EQ(m.get(user_data_physical + 0x114, 4), 0x77u);
}

GUEST_CODE(load_gs, 32, "mov ecx, 0x3b\nmov gs, ecx\nmov eax, gs:[0]\nint3");

TEST_P(Compat, LoadingGsTakesTheDescriptorsBase) {
  compat_program(load_gs);
  // Byte-granular user data of 4 KiB at user_data_at + 0x300, in the GDT's free slot.
  const std::uint64_t base = user_data_at + 0x300;
  m.put(gdt_at + 0x38, 0x0040f30000000fff | (base & 0xffffff) << 16 | (base >> 24) << 56);
  m.put(user_data_physical + 0x300, 0x1234, 4);
  expect_int3();
  EXPECT_EQ(reg(RAX), 0x1234u);
}

GUEST_CODE(strings, 32, R"(
  mov esi, ebx
  lea edi, [ebx + 0x100]
  mov ecx, 8
  rep movsd
  mov eax, 0x5a
  mov ecx, 3
  rep stosb
  int3
)");

TEST_P(Compat, Strings) {
  compat_program(strings);
  m.put(user_data_physical + 0x18, 0x1122334455667788);
  expect_int3();
  EXPECT_EQ(m.get(user_data_physical + 0x118), 0x1122334455667788u);
  EXPECT_EQ(m.get(user_data_physical + 0x120, 3), 0x5a5a5au);
  EXPECT_EQ(reg(RDI), user_data_at + 0x123);
}

GUEST_CODE(int_80, 32, "mov eax, 20\nint 0x80\nint3");
GUEST_CODE(int_80_handler, 64, "add eax, 1\niretq");

TEST_P(Compat, Int80ComesBackTo32BitCode) {
  compat_program(int_80);
  m.load(code_at, int_80_handler);
  m.gate(0x80, code_at, 3);
  expect_int3();
  EXPECT_EQ(reg(RAX), 21u);
}

GUEST_CODE(syscall32, 32, "mov eax, 20\nmov ebp, 7\nsyscall\nint3");
GUEST_CODE(syscall32_handler, 64, "lea r12, [rcx]\nadd eax, 1\nsysretd");

TEST_P(Compat, SyscallGoesToCstarOnAmd) {
  compat_program(syscall32);
  m.load(code_at, syscall32_handler);
  m.state.cstar = code_at;
  m.state.star = std::uint64_t{user_code32} << 48 | std::uint64_t{kernel_code} << 32;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  if (!__builtin_cpu_is("amd")) {
    EXPECT_EQ(taken->vector, VECTOR_UD);
    return;
  }
  EXPECT_EQ(taken->vector, VECTOR_BP);
  EXPECT_EQ(reg(RAX), 21u);
  EXPECT_EQ(reg(R12), user_code_at + 12) << "RCX had the return address";
  EXPECT_EQ(taken->cs, user_code32);
}

GUEST_CODE(sysenter32, 32, "mov eax, 20\nsysenter\nint3");
GUEST_CODE(sysenter32_handler, 64, "hlt");

TEST_P(Compat, SysenterIsForIntel) {
  compat_program(sysenter32);
  m.load(code_at, sysenter32_handler);
  m.state.sysenter_cs = kernel_code;
  m.state.sysenter_eip = code_at;
  m.state.sysenter_esp = kernel_stack_top;
  if (__builtin_cpu_is("amd")) {
    const auto taken = m.run_to_exception();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->vector, VECTOR_UD);
    return;
  }
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, code_at + 1);
  EXPECT_EQ(reg(RSP), kernel_stack_top);
}

GUEST_CODE(to_64, 32, "mov eax, 0xffffffff\n.byte 0xea\n.long 0x40000100\n.word 0x2b\nint3");
GUEST_CODE(in_64, 64, "inc rax\nint3");

TEST_P(Compat, AFarJumpReaches64BitCode) {
  compat_program(to_64);
  m.load(user_code_physical + 0x100, in_64);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_BP);
  EXPECT_EQ(taken->cs, user_code);
  EXPECT_EQ(reg(RAX), 0x100000000u);
}

ENGINE_SUITE(Compat);

}  // namespace
}  // namespace veneer::engine_tests
