// The life of a machine, with an engine whose vCPUs do what the test says instead of running guest code.
#include "vm/machine.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <iterator>
#include <thread>

#include "base/log.h"
#include "boot/fake_kernel.h"
#include "vm/layout.h"

namespace veneer::vm {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

/// What a vCPU does in each run(), in order; then it halts for good.
struct Script {
  using Action = std::function<cpu::Exit(cpu::Board&)>;
  std::deque<Action> actions;
  std::atomic<unsigned> resets{0};
  std::atomic<unsigned> runs{0};
  std::atomic<std::uint64_t> tsc_offset{0};
};

class ScriptedVcpu final : public cpu::Vcpu {
 public:
  ScriptedVcpu(Script& script, cpu::Board& board) : script_(script), board_(board) {}
  cpu::Exit run() override {
    ++script_.runs;
    if (exit_requested_.exchange(false)) return {cpu::ExitReason::Interrupted, {}};
    if (script_.actions.empty()) return {cpu::ExitReason::Halted, {}};
    auto action = script_.actions.front();
    script_.actions.pop_front();
    return action(board_);
  }
  cpu::Exit step() override { return {cpu::ExitReason::Debug, {}}; }
  void kick() noexcept override {}
  void request_exit() noexcept override { exit_requested_ = true; }
  void get_state(cpu::ArchState& out) const override { out = state_; }
  void set_state(const cpu::ArchState& in) override {
    state_ = in;
    script_.tsc_offset = in.tsc_offset;
    ++script_.resets;
  }
  std::optional<GuestPhys> translate(GuestVirt) const override { return std::nullopt; }
  void set_breakpoint(GuestVirt, bool) override {}

 private:
  Script& script_;
  cpu::Board& board_;
  cpu::ArchState state_;
  std::atomic<bool> exit_requested_{false};
};

class ScriptedEngine final : public cpu::Engine {
 public:
  ScriptedEngine(Script& script, cpu::Board& board) : script_(script), board_(board) {}
  const char* name() const override { return "scripted"; }
  Result<std::unique_ptr<cpu::Vcpu>> make_vcpu(unsigned) override {
    return std::unique_ptr<cpu::Vcpu>(std::make_unique<ScriptedVcpu>(script_, board_));
  }

 private:
  Script& script_;
  cpu::Board& board_;
};

Script::Action write_port(std::uint16_t port, unsigned size, std::uint32_t value) {
  return [=](cpu::Board& board) {
    board.write_port(port, size, value);
    return cpu::Exit{cpu::ExitReason::Halted, {}};
  };
}

Script::Action exit_with(cpu::ExitReason reason, const char* message = "") {
  return [=](cpu::Board&) { return cpu::Exit{reason, message}; };
}

class MachineTest : public testing::Test {
 protected:
  MachineTest() {
    config.kernel = kernel.path();
    config.memory_bytes = 64 * MiB;
    config.no_reboot = true;
  }
  Result<std::unique_ptr<Machine>> create() {
    return Machine::create(config,
                           [this](const MachineConfig&, machine::GuestMemory&, cpu::Board& board,
                                  const cpu::CpuidPolicy&) -> Result<std::unique_ptr<cpu::Engine>> {
                             return std::unique_ptr<cpu::Engine>(std::make_unique<ScriptedEngine>(script, board));
                           });
  }
  MachineExit run() {
    auto machine = create();
    EXPECT_TRUE(machine.ok()) << (machine ? "" : machine.error().message());
    auto exit = machine.value()->run();
    EXPECT_TRUE(exit.ok());
    return exit ? exit.value() : MachineExit{};
  }
  std::string create_error() {
    auto machine = create();
    return machine ? "created" : machine.error().message();
  }

  boot::TemporaryFile kernel{boot::FakeKernel().bytes()};
  MachineConfig config;
  Script script;
};

TEST_F(MachineTest, SoftOffOfAPcEndsWithStatusZero) {
  script.actions = {write_port(layout::ACPI_PM_PORT + 4, 2, 1u << 13)};
  const MachineExit exit = run();
  EXPECT_EQ(exit.reason, MachineExit::Reason::PoweredOff);
  EXPECT_EQ(exit.status, 0);
}

TEST_F(MachineTest, SoftOffOfAMicroEndsWithStatusZero) {
  config.machine = MachineKind::Micro;
  script.actions = {write_port(layout::ACPI_PM_PORT, 1, (5u << 2) | (1u << 5))};
  EXPECT_EQ(run().reason, MachineExit::Reason::PoweredOff);
}

TEST_F(MachineTest, ResetPortEndsUnderNoReboot) {
  script.actions = {write_port(layout::RESET_PORT, 1, 6)};
  const MachineExit exit = run();
  EXPECT_EQ(exit.reason, MachineExit::Reason::Reset);
  EXPECT_EQ(exit.status, 0);
}

TEST_F(MachineTest, KeyboardControllerResets) {
  script.actions = {write_port(layout::KBC_COMMAND_PORT, 1, 0xfe)};
  EXPECT_EQ(run().reason, MachineExit::Reason::Reset);
}

TEST_F(MachineTest, ResetLoadsTheKernelAgainAndGoesOn) {
  config.no_reboot = false;
  script.actions = {write_port(layout::RESET_PORT, 1, 6), write_port(layout::ACPI_PM_PORT + 4, 2, 0x2000)};
  EXPECT_EQ(run().reason, MachineExit::Reason::PoweredOff);
  EXPECT_EQ(script.resets, 2u);
}

TEST_F(MachineTest, AKernelThatWasCutAtResetIsAHostFailure) {
  config.no_reboot = false;
  script.actions = {[this](cpu::Board& board) {
    EXPECT_EQ(::truncate(kernel.path().c_str(), 100), 0);
    board.write_port(layout::RESET_PORT, 1, 6);
    return cpu::Exit{cpu::ExitReason::Halted, {}};
  }};
  auto machine = create();
  ASSERT_TRUE(machine.ok());
  const auto exit = machine.value()->run();
  ASSERT_FALSE(exit.ok());
  EXPECT_THAT(exit.error().message(), HasSubstr("reset: kernel "));
}

TEST_F(MachineTest, ModulesReachTheLoader) {
  config.modules = {{kernel.path(), ""}};
  EXPECT_THAT(create_error(), HasSubstr("--module is for"));
}

TEST_F(MachineTest, DebugExitGivesItsStatus) {
  config.debug_exit = true;
  script.actions = {write_port(layout::DEBUG_EXIT_PORT, 1, 0x10)};
  const MachineExit exit = run();
  EXPECT_EQ(exit.reason, MachineExit::Reason::GuestExit);
  EXPECT_EQ(exit.status, 0x21);
}

TEST_F(MachineTest, DebugExitIsAbsentUnlessAskedFor) {
  script.actions = {write_port(layout::DEBUG_EXIT_PORT, 1, 0x10), write_port(layout::RESET_PORT, 1, 6)};
  script.actions.front() = [](cpu::Board& board) {
    board.write_port(layout::DEBUG_EXIT_PORT, 1, 0x10);
    return cpu::Exit{cpu::ExitReason::Interrupted, {}};
  };
  EXPECT_EQ(run().reason, MachineExit::Reason::Reset);
}

TEST_F(MachineTest, TripleFaultUnderNoRebootIsStatusThree) {
  script.actions = {exit_with(cpu::ExitReason::Shutdown)};
  const MachineExit exit = run();
  EXPECT_EQ(exit.reason, MachineExit::Reason::Crashed);
  EXPECT_EQ(exit.status, 3);
}

TEST_F(MachineTest, TripleFaultResetsOtherwise) {
  config.no_reboot = false;
  script.actions = {exit_with(cpu::ExitReason::Shutdown), write_port(layout::ACPI_PM_PORT + 4, 2, 0x2000)};
  EXPECT_EQ(run().reason, MachineExit::Reason::PoweredOff);
}

TEST_F(MachineTest, AFailingEngineIsAHostFailure) {
  script.actions = {exit_with(cpu::ExitReason::Failed, "no memory for code")};
  auto machine = create();
  ASSERT_TRUE(machine.ok());
  const auto exit = machine.value()->run();
  ASSERT_FALSE(exit.ok());
  EXPECT_EQ(exit.error().message(), "vCPU 0: no memory for code");
}

TEST_F(MachineTest, RequestStopEndsAHaltedGuest) {
  auto machine = create();
  ASSERT_TRUE(machine.ok());
  std::thread stopper([&] { machine.value()->request_stop(7); });
  const auto exit = machine.value()->run();
  stopper.join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit.value().status, 7);
}

TEST_F(MachineTest, PauseStopsTheGuestsTimeStampCounter) {
  auto machine = create();
  ASSERT_TRUE(machine.ok());
  Machine& m = *machine.value();
  std::thread runner([&] { (void)m.run(); });
  const std::uint64_t offset_before = script.tsc_offset;
  m.pause();
  EXPECT_TRUE(m.wait_paused(true, 5s));
  std::this_thread::sleep_for(10ms);
  m.resume();
  EXPECT_TRUE(m.wait_paused(false, 5s));
  EXPECT_LT(static_cast<std::int64_t>(script.tsc_offset - offset_before), -1'000'000);
  m.request_stop(0);
  runner.join();
}

TEST_F(MachineTest, ATimerInterruptWakesAHaltedVcpu) {
  script.actions = {[](cpu::Board& board) {
                      // LAPIC: software enable, one-shot LVT timer with vector 40h, divide by 1, count.
                      board.write_mmio(GuestPhys{layout::LAPIC_BASE + 0xf0}, 4, 0x1ff);
                      board.write_mmio(GuestPhys{layout::LAPIC_BASE + 0x320}, 4, 0x40);
                      board.write_mmio(GuestPhys{layout::LAPIC_BASE + 0x3e0}, 4, 0xb);
                      board.write_mmio(GuestPhys{layout::LAPIC_BASE + 0x380}, 4, 1'000'000);
                      return cpu::Exit{cpu::ExitReason::Halted, {}};
                    },
                    [](cpu::Board& board) {
                      EXPECT_EQ(board.interrupts(0).acknowledge(), 0x40);
                      board.write_port(layout::ACPI_PM_PORT + 4, 2, 0x2000);
                      return cpu::Exit{cpu::ExitReason::Interrupted, {}};
                    }};
  EXPECT_EQ(run().reason, MachineExit::Reason::PoweredOff);
}

TEST_F(MachineTest, PowerButtonRaisesTheSystemControlInterrupt) {
  std::atomic<bool> ready{false};
  script.actions = {[&](cpu::Board& board) {
                      board.write_port(layout::ACPI_PM_PORT + 2, 2, 1u << 8);  // PWRBTN_EN
                      // IOAPIC pin 9: vector 51h, level, to APIC 0; LAPIC enabled.
                      board.write_mmio(GuestPhys{layout::LAPIC_BASE + 0xf0}, 4, 0x1ff);
                      board.write_mmio(GuestPhys{layout::IOAPIC_BASE}, 4, 0x10 + 2 * 9);
                      board.write_mmio(GuestPhys{layout::IOAPIC_BASE + 0x10}, 4, 0x8051);
                      ready = true;
                      return cpu::Exit{cpu::ExitReason::Halted, {}};
                    },
                    [](cpu::Board& board) {
                      EXPECT_EQ(board.interrupts(0).acknowledge(), 0x51);
                      board.write_port(layout::ACPI_PM_PORT + 4, 2, 0x2000);
                      return cpu::Exit{cpu::ExitReason::Interrupted, {}};
                    }};
  auto machine = create();
  ASSERT_TRUE(machine.ok());
  std::thread user([&] {
    while (!ready) std::this_thread::yield();
    machine.value()->power_button();
  });
  const auto exit = machine.value()->run();
  user.join();
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit.value().reason, MachineExit::Reason::PoweredOff);
}

TEST_F(MachineTest, SerialOutputReachesTheSink) {
  struct Sink final : machine::CharSink {
    void write(std::span<const std::uint8_t> data) override { text.append(data.begin(), data.end()); }
    std::string text;
  } sink;
  config.serial = &sink;
  script.actions = {write_port(layout::COM1_PORT, 1, 'V')};
  script.actions.push_back(write_port(layout::RESET_PORT, 1, 6));
  script.actions.front() = [](cpu::Board& board) {
    board.write_port(layout::COM1_PORT, 1, 'V');
    return cpu::Exit{cpu::ExitReason::Interrupted, {}};
  };
  run();
  EXPECT_EQ(sink.text, "V");
}

TEST_F(MachineTest, PciShowsTheEntropyDevice) {
  script.actions = {[](cpu::Board& board) {
    board.write_port(layout::PCI_CONFIG_PORT, 4, 0x80000000u | (layout::VIRTIO_RNG_SLOT << 11));
    EXPECT_EQ(board.read_port(layout::PCI_CONFIG_PORT + 4, 4), 0x10441af4u);
    board.write_port(layout::RESET_PORT, 1, 6);
    return cpu::Exit{cpu::ExitReason::Interrupted, {}};
  }};
  run();
}

TEST_F(MachineTest, AMicroHasNoTimerChip) {
  config.machine = MachineKind::Micro;
  script.actions = {[](cpu::Board& board) {
    EXPECT_EQ(board.read_port(layout::PIT_PORT, 1), 0xffu);
    board.write_port(layout::RESET_PORT, 1, 6);
    return cpu::Exit{cpu::ExitReason::Interrupted, {}};
  }};
  run();
}

TEST_F(MachineTest, ApplicationProcessorsStartWithASipi) {
  config.cpus = 2;
  script.actions = {};
  auto machine = create();
  ASSERT_TRUE(machine.ok());
  Machine& m = *machine.value();
  std::thread runner([&] { (void)m.run(); });
  {
    const std::lock_guard hold(m.board_lock());
    devices::LocalApic& boot_apic = m.board().local_apic(0);
    boot_apic.write(0xf0, 4, 0x1ff);
    boot_apic.write(0x310, 4, 1u << 24);
    boot_apic.write(0x300, 4, 0x4500);  // INIT
    boot_apic.write(0x300, 4, 0x4609);  // SIPI, page 9
  }
  // Not the first sight of it counts but what stays: an INIT taken late would undo the start.
  std::uint64_t edx = 0;
  const auto code_base = [&m, &edx]() -> std::uint64_t {
    m.pause();
    EXPECT_TRUE(m.wait_paused(true, 5s));
    cpu::ArchState state;
    m.vcpu(1).get_state(state);
    edx = state.gpr[cpu::RDX];
    m.resume();
    EXPECT_TRUE(m.wait_paused(false, 5s));
    return state.segments[cpu::CS].base;
  };
  for (int i = 0; i < 500 && code_base() != 0x9000; ++i) std::this_thread::sleep_for(2ms);
  std::this_thread::sleep_for(20ms);
  const std::uint64_t base = code_base();
  m.request_stop(0);
  runner.join();
  EXPECT_EQ(base, 0x9000u);
  const auto cpuid = cpu::CpuidPolicy::make(config.cpu, 2, 1'000'000'000);
  ASSERT_TRUE(cpuid.ok());
  EXPECT_EQ(edx, cpuid.value().query(1, 0, {}).eax) << "family, model and stepping";
}

TEST_F(MachineTest, SaveDisturbRestoreSaveIsEqual) {
  auto machine = create();
  ASSERT_TRUE(machine.ok());
  machine.value()->events().pause_clock();  // counters are saved as of now
  Mainboard& board = machine.value()->board();
  const std::lock_guard hold(machine.value()->board_lock());
  board.write_port(layout::ACPI_PM_PORT + 2, 2, 0x100);
  machine::SnapshotWriter before;
  board.save(before);
  board.write_port(layout::ACPI_PM_PORT + 2, 2, 0);
  board.write_port(layout::PCI_CONFIG_PORT, 4, 0x80001810);
  machine::SnapshotWriter disturbed;
  board.save(disturbed);
  machine::SnapshotReader reader(before.data());
  board.restore(reader);
  machine::SnapshotWriter after;
  board.save(after);
  EXPECT_TRUE(reader.ok());
  EXPECT_NE(before.data(), disturbed.data());
  EXPECT_EQ(before.data(), after.data());
}

TEST_F(MachineTest, RandomAccessesToEveryDeviceAreHarmless) {
  config.debug_exit = true;
  unsigned done = 0;
  script.actions = {[&done](cpu::Board& board) {
    std::uint32_t seed = 7;
    const auto random = [&seed] { return seed = seed * 1664525 + 1013904223, seed >> 8; };
    constexpr std::uint64_t places[] = {layout::IOAPIC_BASE, layout::LAPIC_BASE, layout::PCI_WINDOW32_BASE,
                                        layout::PCI_WINDOW32_BASE + 0x1000, layout::PCI_WINDOW32_BASE + 0x3000};
    for (; done < 200'000; ++done) {
      const unsigned size = 1u << (random() % 3);
      const auto port = static_cast<std::uint16_t>(random() % (random() % 2 ? 0x1000 : 0x10000));
      const std::uint32_t value = random() << (random() % 24);
      const GuestPhys address{places[random() % std::size(places)] + random() % 0x1000};
      board.write_port(port, size, value);
      (void)board.read_port(port, size);
      board.write_mmio(address, size, value & ((std::uint64_t{1} << (8 * size)) - 1));
      (void)board.read_mmio(address, size);
    }
    return cpu::Exit{cpu::ExitReason::Halted, {}};
  }};
  set_log_level(LogLevel::Error);
  run();
  set_log_level(LogLevel::Info);
  EXPECT_EQ(done, 200'000u);
}

TEST_F(MachineTest, RefusesNoCpus) {
  config.cpus = 0;
  EXPECT_THAT(create_error(), HasSubstr("CPUs"));
}

TEST_F(MachineTest, RefusesTinyMemory) {
  config.memory_bytes = MiB;
  EXPECT_THAT(create_error(), HasSubstr("memory too small"));
}

TEST_F(MachineTest, RefusesAbsurdMemory) {
  config.memory_bytes = std::uint64_t{1} << 60;
  EXPECT_THAT(create_error(), HasSubstr("memory"));
}

TEST_F(MachineTest, RefusesNoKernel) {
  config.kernel.clear();
  EXPECT_THAT(create_error(), HasSubstr("nothing to boot"));
}

}  // namespace
}  // namespace veneer::vm
