// More code than the code cache has room for: old translations go, and everything goes on.
#include <vector>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t routines_at = 0x400000, routine_count = 12'000, routine_bytes = 32;

EngineKind with_cache(std::size_t index) {
  static constexpr EngineKind kinds[] = {
      {"one_part",
       [](machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid) {
         return make_bt_engine(memory, board, cpuid, {.code_cache_bytes = 768 * KiB});
       }},
      {"four_parts",
       [](machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid) {
         return make_bt_engine(memory, board, cpuid, {.code_cache_bytes = 4 * MiB});
       }},
  };
  return kinds[index];
}

class SmallCodeCache : public testing::TestWithParam<std::size_t> {
 protected:
  Machine m{with_cache(GetParam())};
};

// Calls every routine; each counts in RAX, looks at memory, and calls the next one but three.
GUEST_CODE(call_all, 64, R"(
  mov r9d, 4
1:
  mov rbx, 0x400000
  mov ecx, 12000
2:
  call rbx
  add rbx, 32
  dec ecx
  jnz 2b
  dec r9d
  jnz 1b
  hlt
)");

GUEST_CODE(routine, 64, R"(
  add rax, 1
  cmp qword ptr [rsi], 0
  jne 1f
  add r8, 2
1:
  ret
)");

TEST_P(SmallCodeCache, RunsMoreCodeThanFits) {
  ASSERT_LE(routine.size(), routine_bytes);
  for (std::uint64_t i = 0; i < routine_count; i++) m.load(routines_at + i * routine_bytes, routine);
  m.put(data_at, 0);
  m.load(code_at, call_all);
  m.long_mode();
  m.state.gpr[RSI] = data_at;
  m.state.gpr[RAX] = m.state.gpr[R8] = 0;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.gpr[RAX], 4 * routine_count);
  EXPECT_EQ(m.state.gpr[R8], 8 * routine_count);
  EXPECT_EQ(m.vcpu().info_jit().find(" in 0 rounds"), std::string::npos) << m.vcpu().info_jit();
}

// The same with routines that are overwritten on the way, in pages that have lost some of their blocks.
GUEST_CODE(call_and_change, 64, R"(
  mov r9d, 4
1:
  mov rbx, 0x400000
  mov ecx, 12000
2:
  call rbx
  test cl, 31
  jnz 3f
  xor byte ptr [rbx + 3], 3
3:
  add rbx, 32
  dec ecx
  jnz 2b
  dec r9d
  jnz 1b
  hlt
)");

TEST_P(SmallCodeCache, SeesNewCodeWhateverItForgot) {
  for (std::uint64_t i = 0; i < routine_count; i++) m.load(routines_at + i * routine_bytes, routine);
  m.put(data_at, 1);
  m.load(code_at, call_and_change);
  m.long_mode();
  m.state.gpr[RSI] = data_at;
  m.state.gpr[RAX] = 0;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  // Every 32nd adds 1 and 2 in turns.
  constexpr std::uint64_t changing = routine_count / 32;
  EXPECT_EQ(m.state.gpr[RAX], 4 * (routine_count - changing) + 2 * changing * (1 + 2));
}

INSTANTIATE_TEST_SUITE_P(Engine, SmallCodeCache, testing::Values(0, 1),
                         [](const auto& kind) { return std::string(with_cache(kind.param).name); });

}  // namespace
}  // namespace veneer::engine_tests
