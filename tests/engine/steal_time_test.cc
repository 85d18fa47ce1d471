// Steal time: the page that MSR_KVM_STEAL_TIME names, and the flags in it by which TLB flushes are left to others.
#include <chrono>
#include <thread>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t page_at = data_at;
constexpr unsigned version_at = 8, preempted_at = 16;

class StealTime : public EngineTest {
 protected:
  void wake() {
    m.board.interrupt_ports[0].unhalt();
    EXPECT_EQ(m.go_on().reason, ExitReason::Halted);
  }
  std::uint64_t steal_ns() { return m.get(page_at); }
  std::uint64_t preempted() { return m.get(page_at + preempted_at, 1); }
};

GUEST_CODE(turn_on, 64, R"(
  mov ecx, 0x4b564d03
  xor edx, edx
  mov eax, 0x200001
  wrmsr
  rdmsr
  hlt
  mov dx, 0x80
  out dx, al
  hlt
  mov rbx, [0x40000000]
  hlt
  mov rbx, [0x40000000]
  hlt
)");

TEST_P(StealTime, TheMsrReadsBack) {
  program(turn_on);
  m.run();
  EXPECT_EQ(reg(RAX), page_at | 1);
}

GUEST_CODE(reserved_bit, 64, R"(
  mov ecx, 0x4b564d03
  xor edx, edx
  mov eax, 0x200021
  wrmsr
  hlt
)");

TEST_P(StealTime, AReservedBitIsRefused) {
  program(reserved_bit);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

TEST_P(StealTime, AnAddressOutsideRamIsNoHarm) {
  program(turn_on);
  m.state.kvm_steal_time = mmio_at | 1;
  m.state.rip += turn_on.size() - 1;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_TRUE(m.board.mmio.empty());
}

TEST_P(StealTime, TimeWithoutACoreIsStolen) {
  program(turn_on);
  m.run();
  const std::uint64_t before = steal_ns();
  m.board.on_port_write = [](std::uint16_t, std::uint32_t) { std::this_thread::sleep_for(30ms); };
  wake();
  EXPECT_GE(steal_ns() - before, 29'000'000u);
  EXPECT_EQ(m.get(page_at + version_at, 4) % 2, 0u);
  EXPECT_GE(m.get(page_at + version_at, 4), 2u);
}

TEST_P(StealTime, TimeInHltIsNot) {
  program(turn_on);
  m.run();
  const std::uint64_t before = steal_ns();
  std::this_thread::sleep_for(100ms);
  const auto start = Clock::now();
  wake();
  const auto ran_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - start).count());
  EXPECT_LE(steal_ns() - before, ran_ns);
}

TEST_P(StealTime, AHaltedVcpuIsPreempted) {
  program(turn_on);
  m.run();
  EXPECT_EQ(preempted(), 1u);
  std::uint64_t inside = ~0u;
  m.board.on_port_write = [&](std::uint16_t, std::uint32_t) { inside = preempted(); };
  wake();
  EXPECT_EQ(inside, 0u);
  EXPECT_EQ(preempted(), 1u);
}

TEST_P(StealTime, AFlushThatWasLeftToItIsDone) {
  m.map(0x40000000, data_at + 0x1000, PTE_W);
  m.put(data_at + 0x1000, 1);
  m.put(data_at + 0x2000, 2);
  program(turn_on);
  m.run();
  wake();
  wake();
  ASSERT_EQ(reg(RBX), 1u);
  m.map(0x40000000, data_at + 0x2000, PTE_W);
  m.put(page_at + preempted_at, 3, 1);
  wake();
  EXPECT_EQ(reg(RBX), 2u);
}

ENGINE_SUITE(StealTime);

}  // namespace
}  // namespace veneer::engine_tests
