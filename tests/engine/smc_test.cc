// Code that changes: by itself, by other code, through another mapping, by a device.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class SelfModifying : public EngineTest {};

GUEST_CODE(patch_ahead, 64, R"(
  lea rbx, [rip + 1f]
  mov byte ptr [rbx + 1], 77
1: mov al, 11
  hlt
)");

TEST_P(SelfModifying, AStoreIsSeenByTheVeryNextInstruction) {
  program(patch_ahead);
  m.run();
  EXPECT_EQ(reg(RAX), 77u);
}

GUEST_CODE(patch_loop, 64, R"(
  xor ecx, ecx
  lea rbx, [rip + 1f]
1: mov al, 0
  add edx, eax
  inc byte ptr [rbx + 1]
  inc ecx
  cmp ecx, 5
  jne 1b
  hlt
)");

TEST_P(SelfModifying, ALoopThatPatchesItself) {
  program(patch_loop);
  m.run();
  EXPECT_EQ(reg(RDX), 0u + 1 + 2 + 3 + 4);
}

GUEST_CODE(patch_other_page, 64, R"(
  mov rbx, 0x200000
  mov dword ptr [rbx], 0xc32ab0   # mov al, 42; ret
  call rbx
  mov ecx, eax
  mov byte ptr [rbx + 1], 43
  call rbx
  hlt
)");

TEST_P(SelfModifying, CodeOnAnotherPage) {
  program(patch_other_page);
  m.run();
  EXPECT_EQ(reg(RCX), 42u);
  EXPECT_EQ(reg(RAX), 43u);
}

GUEST_CODE(patch_alias, 64, R"(
  mov rbx, 0x200000
  mov rsi, 0x600000000000
  call rbx
  mov ecx, eax
  mov byte ptr [rsi + 1], 43
  call rbx
  hlt
)");

TEST_P(SelfModifying, ThroughAnotherMappingOfThePage) {
  program(patch_alias);
  m.map(0x600000000000, data_at, PTE_W);
  m.put(data_at, 0xc32ab0, 4);
  m.run();
  EXPECT_EQ(reg(RCX), 42u);
  EXPECT_EQ(reg(RAX), 43u);
}

GUEST_CODE(patch_with_movs, 64, R"(
  mov rbx, 0x200000
  call rbx
  mov edx, eax
  mov rsi, 0x201000
  mov rdi, rbx
  mov ecx, 3
  rep movsb
  call rbx
  hlt
)");

TEST_P(SelfModifying, ByAStringInstruction) {
  program(patch_with_movs);
  m.put(data_at, 0xc32ab0, 4);
  m.put(data_at + 0x1000, 0xc32bb0, 4);
  m.run();
  EXPECT_EQ(reg(RDX), 42u);
  EXPECT_EQ(reg(RAX), 43u);
}

GUEST_CODE(movs_over_itself, 64, R"(
  lea rdi, [rip + 1f]
  mov rsi, 0x201000
  mov ecx, 2
  rep movsb
1: mov al, 11
  hlt
)");

TEST_P(SelfModifying, AStringInstructionBeforeItself) {
  program(movs_over_itself);
  m.put(data_at + 0x1000, 0x4db0, 2);  // mov al, 77
  m.run();
  EXPECT_EQ(reg(RAX) & 0xff, 0x4du);
}

GUEST_CODE(push_over_code, 64, R"(
  lea rsp, [rip + 1f + 8]
  mov rax, 0x90909090f44d00b0 + 0x4200
  push rax
1: mov al, 11
  hlt
  nop
  nop
  nop
  nop
  nop
)");

TEST_P(SelfModifying, APushIsAStoreToo) {
  program(push_over_code);
  m.run();
  EXPECT_EQ(reg(RAX) & 0xff, 0x42u);
}

GUEST_CODE(vector_store, 64, R"(
  lea rbx, [rip + 1f]
  mov rsi, 0x201000
  movdqu xmm0, [rsi]
  movdqu [rbx], xmm0
1: mov al, 11
  hlt
  .fill 16, 1, 0x90
)");

TEST_P(SelfModifying, AVectorStore) {
  program(vector_store);
  m.put(data_at + 0x1000, 0x90909090f44db0, 8);
  m.run();
  EXPECT_EQ(reg(RAX) & 0xff, 0x4du);
}

GUEST_CODE(data_beside_code, 64, R"(
  mov ecx, 1000
1: inc dword ptr [rip + 2f]
  dec ecx
  jnz 1b
  mov eax, [rip + 2f]
  hlt
2: .long 0
)");

TEST_P(SelfModifying, DataBesideCodeIsJustData) {
  program(data_beside_code);
  m.run();
  EXPECT_EQ(reg(RAX), 1000u);
}

GUEST_CODE(straddling_target, 64, R"(
  mov rbx, 0x200ffe
  call rbx
  mov ecx, eax
  mov byte ptr [rbx + 2], 43
  call rbx
  hlt
)");

TEST_P(SelfModifying, TheSecondPageOfAnInstruction) {
  program(straddling_target);
  m.put(data_at + 0xffe, 0x00002ab8, 4);  // mov eax, 42 across the page end
  m.put(data_at + 0x1002, 0xc300, 2);
  m.put(data_at + 0xffe, 0xb890, 2);
  m.put(data_at + 0x1000, 42, 4);
  m.put(data_at + 0x1004, 0xc3, 1);
  m.run();
  EXPECT_EQ(reg(RCX), 42u);
  EXPECT_EQ(reg(RAX), 43u);
}

GUEST_CODE(call_and_halt, 64, R"(
1: call rbx
  hlt
  jmp 1b
)");

TEST_P(SelfModifying, ADeviceWrites) {
  program(call_and_halt);
  m.put(data_at, 0xc32ab0, 4);
  m.state.gpr[RBX] = data_at;
  m.run();
  EXPECT_EQ(reg(RAX), 42u);
  m.put(data_at + 1, 43, 1);  // GuestMemory::write, as DMA
  m.state.halted = false;
  m.run();
  EXPECT_EQ(reg(RAX), 43u);
}

TEST_P(SelfModifying, ItsPageGoesBackToTheHost) {
  program(call_and_halt);
  m.put(data_at, 0xc32ab0, 4);
  m.put(data_at + page_size, 0xf4, 1);  // HLT
  m.state.gpr[RBX] = data_at;
  m.state.gpr[RAX] = data_at + 2 * page_size;
  m.run();
  EXPECT_EQ(reg(RAX) & 0xff, 42u);
  ASSERT_EQ(m.memory().discard(GuestPhys{data_at}, page_size), page_size);
  m.state.halted = false;
  m.run();  // ADD [RAX], AL, which zeros are, up to the next page
  EXPECT_EQ(m.state.rip, data_at + page_size + 1);
}

GUEST_CODE(remap, 64, R"(
  call rbx
  mov ecx, eax
  mov rax, rdx
  mov [rsi], rax
  invlpg [rbx]
  call rbx
  hlt
)");

TEST_P(SelfModifying, AnotherPageIsMappedAtTheSameAddress) {
  program(remap);
  constexpr std::uint64_t window = 0x600000000000;
  m.map(window, data_at, PTE_W);
  m.put(data_at, 0xc32ab0, 4);
  m.put(data_at + 0x1000, 0xc32bb0, 4);
  m.state.gpr[RBX] = window;
  m.state.gpr[RSI] = m.entry_of(window);
  m.state.gpr[RDX] = (data_at + 0x1000) | PTE_P | PTE_W;
  m.run();
  EXPECT_EQ(reg(RCX), 42u);
  EXPECT_EQ(reg(RAX) & 0xff, 43u);
}

ENGINE_SUITE(SelfModifying);

}  // namespace
}  // namespace veneer::engine_tests
