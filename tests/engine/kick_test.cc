// kick() and request_exit() from other threads, in every kind of loop a guest may be in.
#include <chrono>
#include <thread>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Kicks : public EngineTest {
 protected:
  /// Does something to the running vCPU from another thread, a while after the start.
  template <typename Action>
  Exit run_and(Action action) {
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      action();
    });
    const Exit exit = m.run();
    other.join();
    return exit;
  }
  Exit run_and_request_exit() {
    return run_and([this] { m.vcpu().request_exit(); });
  }
};

#define LEAVES(name, text)                                             \
  GUEST_CODE(loop_##name, 64, text);                                   \
  TEST_P(Kicks, RequestExitLeaves##name) {                             \
    program(loop_##name);                                              \
    EXPECT_EQ(run_and_request_exit().reason, ExitReason::Interrupted); \
  }

LEAVES(AJumpToItself, "jmp $")
LEAVES(ALoop, "1: inc rax\njmp 1b")
LEAVES(AConditionalLoop, "mov rcx, -1\n1: dec rcx\njnz 1b\nhlt")
LEAVES(ALoopOfLoop, "mov rcx, -1\n1: loop 1b\nhlt")
LEAVES(AnIndirectLoop, "lea rbx, [rip + 1f]\n1: jmp rbx")
LEAVES(CallsAndReturns, "1: call 2f\njmp 1b\n2: ret")
LEAVES(CallsWhoseReturnsAreDropped, "call 1f\n1: pop rax\ncall 1b")
LEAVES(CallsAcrossPagesWhoseReturnsAreDropped, "1: call 2f\n.fill 4096, 1, 0x90\n2: pop rax\npop rax\ncall 1b")
LEAVES(ALoopAcrossPages, "1: jmp 2f\n.fill 4096, 1, 0x90\n2: jmp 1b")
LEAVES(AnAdcLoop, "1: adc rax, rbx\njmp 1b")
LEAVES(PauseLoops, "1: pause\njmp 1b")
LEAVES(ExceptionLoops, "mov word ptr [0x3000 + 6 * 16], 0xcf48\n1: ud2")
LEAVES(StringLoops, "1: mov rsi, 0x200000\nmov rdi, 0x300000\nmov rcx, 0x100000\nrep movsb\njmp 1b")
LEAVES(PortLoops, "1: in al, 0x60\njmp 1b")

TEST_P(Kicks, TheStateIsAtABoundary) {
  program(loop_ALoop);
  run_and_request_exit();
  EXPECT_TRUE(m.state.rip == code_at || m.state.rip == code_at + 3) << m.state.rip;
  EXPECT_GT(reg(RAX), 0u);
}

TEST_P(Kicks, RunGoesOnAfterwards) {
  program(loop_ALoop);
  run_and_request_exit();
  const std::uint64_t before = reg(RAX);
  run_and_request_exit();
  EXPECT_GT(reg(RAX), before);
}

TEST_P(Kicks, ARequestBeforeRunCounts) {
  program(loop_AJumpToItself);
  m.vcpu().request_exit();
  EXPECT_EQ(m.run().reason, ExitReason::Interrupted);
}

TEST_P(Kicks, ARequestCountsOnce) {
  program(loop_AJumpToItself);
  m.vcpu().request_exit();
  EXPECT_EQ(m.run().reason, ExitReason::Interrupted);
  EXPECT_EQ(run_and([this] { m.vcpu().request_exit(); }).reason, ExitReason::Interrupted);
}

TEST_P(Kicks, AKickAloneDoesNotEndRun) {
  program(loop_ALoop);
  const auto start = std::chrono::steady_clock::now();
  std::thread other([this] {
    for (int i = 0; i < 20; i++) {
      m.vcpu().kick();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    m.vcpu().request_exit();
  });
  const Exit exit = m.run();
  const auto duration = std::chrono::steady_clock::now() - start;
  other.join();
  EXPECT_EQ(exit.reason, ExitReason::Interrupted);
  EXPECT_GE(duration, std::chrono::milliseconds(39));
}

TEST_P(Kicks, AKickBringsAnInterruptIntoALoop) {
  program(loop_ALoop);
  m.state.rflags |= RFLAGS_IF;
  const Exit exit = run_and([this] {
    m.board.interrupt_ports[0].raise(0x51);
    m.vcpu().kick();
  });
  EXPECT_EQ(exit.reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, handlers_at + 16 * 0x51 + 1);
}

TEST_P(Kicks, AKickBringsAnInterruptIntoAStringInstruction) {
  program(loop_StringLoops);
  m.state.rflags |= RFLAGS_IF;
  const Exit exit = run_and([this] {
    m.board.interrupt_ports[0].raise(0x51);
    m.vcpu().kick();
  });
  EXPECT_EQ(exit.reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, handlers_at + 16 * 0x51 + 1);
}

GUEST_CODE(flags_loop, 64, R"(
1: stc
  sbb rax, rax
  jnc 2f
  cmc
  jc 2f
  inc rbx
  jmp 1b
2: hlt
)");

TEST_P(Kicks, FlagsSurviveAStormOfKicks) {
  program(flags_loop);
  std::thread other([this] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
    while (std::chrono::steady_clock::now() < end) {
      m.vcpu().kick();
      std::this_thread::yield();
    }
    m.vcpu().request_exit();
  });
  const Exit exit = m.run();
  other.join();
  EXPECT_EQ(exit.reason, ExitReason::Interrupted) << "the guest lost a flag";
}

GUEST_CODE(counting, 64, R"(
  inc rcx
  iretq
)");

TEST_P(Kicks, NoInterruptOfAStormIsLost) {
  program(flags_loop);
  m.load(data_at, counting);
  m.gate(0x51, data_at);
  m.state.rflags |= RFLAGS_IF;
  constexpr unsigned many = 500;
  std::thread other([this] {
    for (unsigned i = 0; i < many; i++) {
      m.board.interrupt_ports[0].raise(0x51);
      m.vcpu().kick();
    }
    for (unsigned i = 0; i < 2000 && m.board.interrupt_ports[0].interrupt_pending(); i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    m.vcpu().request_exit();
  });
  const Exit exit = m.run();
  other.join();
  EXPECT_EQ(exit.reason, ExitReason::Interrupted) << "the guest lost a flag";
  EXPECT_EQ(reg(RCX), many);
}

ENGINE_SUITE(Kicks);

}  // namespace
}  // namespace veneer::engine_tests
