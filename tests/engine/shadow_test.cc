// Shadow mode: it sees a difference when there is one, none when there is none, and keeps devices from being touched
// twice.
#include <atomic>
#include <span>
#include <thread>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

Result<std::unique_ptr<Engine>> make_shadow(machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid) {
  EngineOptions options;
  options.shadow = true;
  return make_bt_engine(memory, board, cpuid, options);
}

class Shadow : public testing::Test {
 protected:
  std::uint64_t counted(const std::string& name) {
    for (const CounterGroup& group : m.vcpu().counters())
      for (const auto& [key, value] : group.values)
        if (group.name == "shadow" && key == name) return value;
    ADD_FAILURE() << "there is no counter " << name;
    return 0;
  }
  void program(Code code) {
    m.load(code_at, code);
    m.long_mode();
  }

  Machine m{EngineKind{"bt_shadow", make_shadow}};
};

GUEST_CODE(mixed, 64, R"(
  mov rbx, 0x200000
  mov ecx, 100
1: add [rbx + 8], rcx
  push rcx
  sub rax, [rbx + 8]
  sbb rdx, [rbx + 16]
  cvtsi2sd xmm0, rax
  movsd [rbx + 4092], xmm0
  pop rsi
  dec ecx
  jne 1b
  ud2
)");

TEST_F(Shadow, AgreesWithItselfInALoop) {
  program(mixed);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_UD);
  EXPECT_EQ(counted("differences"), 0u);
  EXPECT_GE(counted("checked_blocks"), 100u);
  EXPECT_GE(counted("checked_instructions"), 900u);
}

GUEST_CODE(reads_a_cell, 64, R"(
  mov rbx, 0x200000
  mov ecx, 20000
1: mov rax, [rbx]
  mov rdx, [rbx + 8]
  dec ecx
  jne 1b
  hlt
)");

TEST_F(Shadow, ReportsABlockThatIsDifferentTheSecondTime) {
  program(reads_a_cell);
  auto* cell = reinterpret_cast<std::uint64_t*>(m.memory().at(GuestPhys{data_at}, 8));
  ASSERT_NE(cell, nullptr);
  std::atomic<bool> end{false};
  std::thread other([&] {
    for (std::uint64_t i = 0; !end; i++) __atomic_store_n(cell, i, __ATOMIC_RELAXED);
  });
  testing::internal::CaptureStderr();
  const Exit exit = m.run();
  const std::string text = testing::internal::GetCapturedStderr();
  end = true;
  other.join();
  EXPECT_EQ(exit.reason, ExitReason::Halted);
  EXPECT_GT(counted("differences"), 0u);
  EXPECT_NE(text.find("rax 0x"), std::string::npos) << text;
}

GUEST_CODE(touches_device, 64, R"(
  mov rbx, 0xfe000000
  mov rsi, 0x200000
  mov qword ptr [rsi], 7
  mov dword ptr [rbx + 4], 5
  mov eax, [rbx + 8]
  hlt
)");

TEST_F(Shadow, TouchesADeviceOnce) {
  program(touches_device);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.board.mmio.size(), 2u);
  EXPECT_GE(counted("trials_stopped_at_devices"), 1u);
  EXPECT_EQ(m.get(data_at), 7u);
  EXPECT_EQ(counted("differences"), 0u);
}

}  // namespace
}  // namespace veneer::engine_tests
