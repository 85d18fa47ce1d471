// Jumps, calls and returns while mappings, code and return addresses change under them.
#include <vector>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t window = 0x60000000;
constexpr std::uint64_t window_pages = 3;

/// Runs code in a window of three pages. The guest gets what it needs to put the third page in the place of another:
/// RSI the address of that one's page-table entry, RDX its new value, RBX its address.
class ControlFlow : public EngineTest {
 protected:
  void run_in_window(Code code, unsigned replaced) {
    m.load(data_at, code);
    for (std::uint64_t i = 0; i < window_pages; i++) m.map(window + i * page_size, data_at + i * page_size, PTE_W);
    m.long_mode();
    m.state.rip = window;
    m.state.gpr[RBX] = window + replaced * page_size;
    m.state.gpr[RSI] = m.entry_of(window + replaced * page_size);
    m.state.gpr[RDX] = (data_at + 2 * page_size) | PTE_P | PTE_W;
    m.state.gpr[RAX] = m.state.gpr[R8] = m.state.gpr[R9] = 0;
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
  }
};

GUEST_CODE(call_twice, 64, R"(
  mov ecx, 3
1:
  call 3f
  dec ecx
  jnz 1b
  mov [rsi], rdx
  invlpg [rbx]
  mov ecx, 3
2:
  call 3f
  dec ecx
  jnz 2b
  hlt
  .fill 4096, 1, 0x90
3:
  add rax, 1
  ret
  .fill 4091, 1, 0x90
  add rax, 100
  ret
)");

TEST_P(ControlFlow, CallsIntoAnotherPageSeeItsNewMapping) {
  run_in_window(call_twice, 1);
  EXPECT_EQ(reg(RAX), 303u);
}

GUEST_CODE(jump_twice, 64, R"(
  mov ecx, 3
1:
  jmp 3f
2:
  dec ecx
  jnz 1b
  test r9, r9
  jnz 4f
  inc r9
  mov [rsi], rdx
  invlpg [rbx]
  mov ecx, 3
  jmp 1b
4:
  hlt
  .fill 4096, 1, 0x90
3:
  add rax, 1
  jmp 2b
  .fill 4087, 1, 0x90
  add rax, 100
  jmp 2b + 4096
)");

TEST_P(ControlFlow, JumpsIntoAnotherPageSeeItsNewMapping) {
  run_in_window(jump_twice, 1);
  EXPECT_EQ(reg(RAX), 303u);
}

GUEST_CODE(callers_page_goes, 64, R"(
  call 1f
  mov eax, 1
  hlt
  .fill 4096 - 11, 1, 0x90
1:
  mov [rsi], rdx
  invlpg [rbx]
  ret
  .fill 4096 - 7, 1, 0x90
  .fill 5, 1, 0x90
  mov eax, 2
  hlt
)");

TEST_P(ControlFlow, AReturnSeesTheNewMappingOfTheCallersPage) {
  run_in_window(callers_page_goes, 0);
  EXPECT_EQ(reg(RAX), 2u);
}

GUEST_CODE(caller_is_overwritten, 64, R"(
  call 1f
  mov eax, 1
  hlt
1:
  lea rcx, [rip + 1b - 5]
  mov byte ptr [rcx], 2
  ret
)");

TEST_P(ControlFlow, AReturnSeesNewBytesBehindTheCall) {
  run_in_window(caller_is_overwritten, 1);
  EXPECT_EQ(reg(RAX), 2u);
}

GUEST_CODE(return_elsewhere, 64, R"(
  call 1f
  mov eax, 1
  hlt
2:
  mov eax, 2
  hlt
1:
  lea rcx, [rip + 2b]
  mov [rsp], rcx
  ret
)");

TEST_P(ControlFlow, AReturnAddressCanBeReplaced) {
  run_in_window(return_elsewhere, 1);
  EXPECT_EQ(reg(RAX), 2u);
}

GUEST_CODE(leave_two_levels, 64, R"(
  mov ecx, 5
1:
  call 2f
  add rax, 1
  dec ecx
  jnz 1b
  hlt
2:
  call 3f
  add rax, 1000
  ret
3:
  add rsp, 8
  ret
)");

TEST_P(ControlFlow, AReturnMayLeaveTwoLevels) {
  run_in_window(leave_two_levels, 1);
  EXPECT_EQ(reg(RAX), 5u);
}

GUEST_CODE(recursion, 64, R"(
  mov rsp, 0xf00000
  mov ecx, 20000
  call 1f
  hlt
1:
  inc rax
  dec ecx
  jz 2f
  call 1b
  inc r8
2:
  ret
)");

TEST_P(ControlFlow, RecursionMayBeDeep) {
  run_in_window(recursion, 1);
  EXPECT_EQ(reg(RAX), 20000u);
  EXPECT_EQ(reg(R8), 19999u);
}

GUEST_CODE(straddle, 64, R"(
  mov ecx, 3
3:
  jmp 1f
  .fill 4084, 1, 0x90
1:
  mov eax, 0x01010101
  add r8, rax
  dec ecx
  jnz 3b
  test r9, r9
  jnz 4f
  inc r9
  mov [rsi], rdx
  invlpg [rbx]
  mov ecx, 3
  jmp 3b
4:
  hlt
)");

TEST_P(ControlFlow, AnInstructionInTwoPagesSeesTheNewMappingOfItsTail) {
  // The third page is the second with another end of the MOV's constant.
  std::vector<std::uint8_t> bytes(straddle.begin(), straddle.end());
  ASSERT_EQ(bytes[page_size - 2], 0xb8);
  const std::vector<std::uint8_t> tail(bytes.begin() + page_size, bytes.end());
  bytes.resize(2 * page_size, 0x90);
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  for (unsigned i = 0; i < 3; i++) bytes[2 * page_size + i] = 2;
  run_in_window(bytes, 1);
  EXPECT_EQ(reg(R8), 3 * 0x01010101ull + 3 * 0x02020201ull);
}

ENGINE_SUITE(ControlFlow);

}  // namespace
}  // namespace veneer::engine_tests
