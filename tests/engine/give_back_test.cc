// Memory of an idle vCPU goes back to the host, and the guest notices nothing.
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "processors.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

// Many small routines: code for several megabytes of the code cache, and of its tables.
constexpr std::uint64_t routines_at = 0x400000, routine_count = 24'000, routine_bytes = 32;
// Data that a page of the host's is needed for in each table of the TLB: 2 MiB apart.
constexpr std::uint64_t sparse_at = 0x10000000000, sparse_pages = 180;

// Calls every routine, looks at all data, and halts: three times. RBX and RCX are free in the routines.
GUEST_CODE(rounds, 64, R"(
  mov r9d, 3
1:
  mov rbx, 0x400000
  mov ecx, 24000
2:
  call rbx
  add rbx, 32
  dec ecx
  jnz 2b
  mov rbx, 0x10000000000
  mov ecx, 180
3:
  add r8, [rbx]
  inc qword ptr [rbx]
  add rbx, 0x200000
  dec ecx
  jnz 3b
  hlt
  dec r9d
  jnz 1b
)");

GUEST_CODE(routine, 64, R"(
  add rax, 1
  cmp qword ptr [rsi], 0
  je 1f
  add rax, 0x10000
1:
  ret
)");

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::uint64_t counter(const std::vector<CounterGroup>& groups, const std::string& name) {
  for (const CounterGroup& group : groups)
    for (const auto& [each, value] : group.values)
      if (each == name) return value;
  ADD_FAILURE() << "no counter " << name;
  return 0;
}

class GiveBack : public Processors {
 protected:
  void load() {
    ASSERT_LE(routine.size(), routine_bytes);
    for (std::uint64_t i = 0; i < routine_count; i++) m.load(routines_at + i * routine_bytes, routine);
    for (std::uint64_t i = 0; i < sparse_pages; i++)
      m.map(sparse_at + i * 2 * MiB, data_at + page_size * (1 + i), PTE_W);
    m.put(data_at, 0);
    m.load(code_at, rounds);
    m.long_mode();
    m.state.gpr[RSI] = data_at;
    m.state.gpr[RAX] = m.state.gpr[R8] = 0;
  }
  void run_a_round() {
    load();
    ASSERT_EQ(m.run().reason, ExitReason::Halted);
  }
  std::uint64_t code_bytes() { return counter(m.engine().counters(), "used_bytes"); }
};

TEST_P(GiveBack, TheHostHasItsMemoryBack) {
  run_a_round();
  const std::uint64_t before = resident_bytes();
  EXPECT_TRUE(m.vcpu().give_back_memory(true));
  const std::uint64_t after = resident_bytes();
  // Code is mapped twice.
  EXPECT_LT(after + 2 * 3 * MiB + 3 * sparse_pages * page_size, before);
}

TEST_P(GiveBack, TheGuestGoesOn) {
  run_a_round();
  for (std::uint64_t round = 1; round <= 2; round++) {
    EXPECT_TRUE(m.vcpu().give_back_memory(true));
    m.board.interrupt_ports[0].unhalt();
    EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
    EXPECT_EQ(m.state.gpr[RAX], (round + 1) * routine_count);
    EXPECT_EQ(m.state.gpr[R8], round * (round + 1) / 2 * sparse_pages);
  }
}

TEST_P(GiveBack, CodeThatChangedMeanwhileIsSeen) {
  run_a_round();
  EXPECT_TRUE(m.vcpu().give_back_memory(true));
  m.put(routines_at + 3, 5, 1);  // ADD RAX, 5
  m.board.interrupt_ports[0].unhalt();
  m.go_on();
  EXPECT_EQ(m.state.gpr[RAX], 2 * routine_count + 4);
}

TEST_P(GiveBack, PagesMappedElsewhereMeanwhileAreSeen) {
  run_a_round();
  EXPECT_TRUE(m.vcpu().give_back_memory(true));
  m.put(data_at + page_size * 200, 1000);
  m.put(m.entry_of(sparse_at), (data_at + page_size * 200) | PTE_P | PTE_W);
  m.board.interrupt_ports[0].unhalt();
  m.go_on();
  EXPECT_EQ(m.state.gpr[R8], sparse_pages - 1 + 1000);
}

TEST_P(GiveBack, OthersStillNeedTheCode) {
  run_a_round();
  const std::uint64_t before = code_bytes();
  EXPECT_TRUE(m.vcpu().give_back_memory(false));
  EXPECT_EQ(code_bytes(), before);
}

TEST_P(GiveBack, ThereIsNothingToGiveTwice) {
  run_a_round();
  EXPECT_TRUE(m.vcpu().give_back_memory(true));
  EXPECT_FALSE(m.vcpu().give_back_memory(true));
}

TEST_P(GiveBack, OthersMayBeAtWork) {
  // As the first one says "all are idle", the second has just begun to work. It takes part in every round.
  run_a_round();
  auto made = m.engine().make_vcpu(1);
  ASSERT_TRUE(made.ok()) << made.error().message();
  const std::unique_ptr<Vcpu> other = std::move(made).value();
  ArchState state = m.state;
  state.halted = false;
  state.rip = code_at;
  state.gpr[RSP] -= 0x400;
  state.gpr[RAX] = 0;
  state.gpr[RDI] = 1;
  other->set_state(state);
  std::atomic<unsigned> halts{0};
  std::atomic<bool> wrong{false};
  std::thread thread([&] {
    for (unsigned round = 1; round <= 3; round++) {
      if (other->run().reason != ExitReason::Halted) wrong = true;
      ArchState now;
      other->get_state(now);
      if (now.gpr[RAX] != round * routine_count) wrong = true;
      now.halted = false;
      other->set_state(now);
      halts++;
    }
  });
  unsigned given = 0;
  while (halts < 3) given += m.vcpu().give_back_memory(true);
  thread.join();
  EXPECT_FALSE(wrong);
  EXPECT_GE(given, 2u);
}

INSTANTIATE_TEST_SUITE_P(Engine, GiveBack, testing::Values(patient_engine_kinds()[0], patient_engine_kinds()[1]),
                         [](const auto& kind) { return std::string(kind.param.name); });

}  // namespace
}  // namespace veneer::engine_tests
