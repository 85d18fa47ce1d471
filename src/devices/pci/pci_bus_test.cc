// Configuration mechanism #1, BARs and INTx of a function on a bus.
#include "devices/pci/pci_bus.h"

#include <gmock/gmock.h>

#include <map>
#include <optional>
#include <vector>

#include "base/manual_timers.h"
#include "devices/irq/lapic.h"
#include "devices/pci/host_bridge.h"
#include "devices/pci/piix.h"

namespace veneer::devices {
namespace {

struct TestLine final : machine::IrqLine {
  void set(bool value) override { level = value; }
  bool level = false;
};

/// Answers with its tag.
struct TaggedDevice final : machine::Device {
  explicit TaggedDevice(std::uint64_t value) : tag(value) {}
  std::uint64_t read(std::uint64_t, unsigned) override { return tag; }
  void write(std::uint64_t offset, unsigned, std::uint64_t) override { last_write = offset; }
  void save(machine::SnapshotWriter&) const override {}
  void restore(machine::SnapshotReader&) override {}
  void reset() override {}
  std::uint64_t tag;
  std::uint64_t last_write = 0;
};

class TestFunction final : public PciFunction {
 public:
  explicit TestFunction(std::string name = "test")
      : PciFunction(std::move(name), {0x1234, 0x5678, 7, 0x020000, 1, 2, 1}) {
    add_bar(0, BarKind::Memory32, 0x1000, memory);
    add_bar(2, BarKind::Memory64, 0x10000, memory64, true);
    add_bar(4, BarKind::Io, 0x20, io);
    add_msix(2, 5);
    add_msi();
  }
  using PciFunction::set_intx;
  using PciFunction::signal_msi;
  using PciFunction::signal_msix;
  TaggedDevice memory{0x11}, memory64{0x22}, io{0x33};
};

class PciBusTest : public testing::Test {
 protected:
  PciBusTest() {
    bus.plug(0, bridge);
    bus.plug(5, function);
    bus.reset();
  }
  void select(unsigned slot, unsigned offset) { bus.write(0, 4, 0x80000000u | (slot << 11) | (offset & 0xfc)); }
  std::uint32_t read(unsigned offset, unsigned size = 4) {
    select(5, offset);
    return static_cast<std::uint32_t>(bus.read(4 + (offset & 3), size));
  }
  void write(unsigned offset, std::uint32_t value, unsigned size = 4) {
    select(5, offset);
    bus.write(4 + (offset & 3), size, value);
  }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock};
  machine::Bus ports{"port", lock};
  ApicBus apics{lock};
  std::array<TestLine, 4> lines;
  PciBus bus{{memory, ports, apics, {&lines[0], &lines[1], &lines[2], &lines[3]}}};
  HostBridge bridge;
  TestFunction function;
  TestFunction function6{"function6"};
};

TEST_F(PciBusTest, IdentifiesTheFunction) { EXPECT_EQ(read(0), 0x56781234u); }

TEST_F(PciBusTest, IdentifiesTheHostBridge) {
  select(0, 0);
  EXPECT_EQ(bus.read(4, 4), 0x12378086u);
}

TEST_F(PciBusTest, EmptySlotsReadAllOnes) {
  select(6, 0);
  EXPECT_EQ(bus.read(4, 4), 0xffffffffu);
}

TEST_F(PciBusTest, OtherFunctionsReadAllOnes) {
  bus.write(0, 4, 0x80000000u | (5 << 11) | (1 << 8));
  EXPECT_EQ(bus.read(4, 4), 0xffffffffu);
}

TEST_F(PciBusTest, WithoutTheEnableBitReadsAllOnes) {
  bus.write(0, 4, 5 << 11);
  EXPECT_EQ(bus.read(4, 2), 0xffffu);
}

TEST_F(PciBusTest, AddressRegisterReadsBackWithoutReservedBits) {
  bus.write(0, 4, 0xffffffff);
  EXPECT_EQ(bus.read(0, 4), 0x80fffffcu);
}

TEST_F(PciBusTest, ByteAccessesReachTheirBytes) { EXPECT_EQ(read(3, 1), 0x56u); }

TEST_F(PciBusTest, AByteAtCf9GoesToTheResetRegister) {
  TaggedDevice reset_register(0x44);
  bus.set_reset_register(reset_register);
  EXPECT_EQ(bus.read(1, 1), 0x44u);
}

TEST_F(PciBusTest, SizesAMemoryBar) {
  write(0x10, 0xffffffff);
  EXPECT_EQ(read(0x10), 0xfffff000u);
}

TEST_F(PciBusTest, SizesA64BitBar) {
  write(0x18, 0xffffffff);
  write(0x1c, 0xffffffff);
  EXPECT_EQ(read(0x18), 0xffff000cu);
  EXPECT_EQ(read(0x1c), 0xffffffffu);
}

TEST_F(PciBusTest, SizesAnIoBar) {
  write(0x20, 0xffffffff);
  EXPECT_EQ(read(0x20), 0xffffffe1u);
}

TEST_F(PciBusTest, ABarThatIsNotThereReadsZero) {
  write(0x14, 0xffffffff);
  EXPECT_EQ(read(0x14), 0u);
}

TEST_F(PciBusTest, AnEnabledBarAnswers) {
  write(0x10, 0xd0000000);
  write(0x04, 2, 2);
  EXPECT_EQ(memory.read(0xd0000000, 4), 0x11u);
}

TEST_F(PciBusTest, ADisabledBarIsSilent) {
  write(0x10, 0xd0000000);
  EXPECT_EQ(memory.read(0xd0000000, 4), 0xffffffffu);
}

TEST_F(PciBusTest, MovingABarMovesTheDevice) {
  write(0x04, 2, 2);
  write(0x10, 0xd0000000);
  write(0x10, 0xd0100000);
  EXPECT_EQ(memory.read(0xd0000000, 4), 0xffffffffu);
  EXPECT_EQ(memory.read(0xd0100000, 4), 0x11u);
}

TEST_F(PciBusTest, A64BitBarLiesAboveFourGigabytes) {
  write(0x18, 0);
  write(0x1c, 2);
  write(0x04, 2, 2);
  EXPECT_EQ(memory.read(0x2'0000'0000, 4), 0x22u);
}

TEST_F(PciBusTest, AnIoBarAnswersOnPorts) {
  write(0x20, 0xc000);
  write(0x04, 1, 2);
  EXPECT_EQ(ports.read(0xc000, 1), 0x33u);
}

TEST_F(PciBusTest, ABarOnTopOfAnotherDeviceIsNotDecoded) {
  TaggedDevice other(0x55);
  ASSERT_TRUE(memory.map(0xd0000000, 0x1000, other, "other").ok());
  write(0x10, 0xd0000000);
  write(0x04, 2, 2);
  EXPECT_EQ(memory.read(0xd0000000, 4), 0x55u);
  EXPECT_FALSE(function.bar_mapped(0));
}

TEST_F(PciBusTest, ABarThatMovesAwayFromAConflictAnswersAgain) {
  TaggedDevice other(0x55);
  ASSERT_TRUE(memory.map(0xd0000000, 0x1000, other, "other").ok());
  write(0x10, 0xd0000000);
  write(0x04, 2, 2);
  write(0x10, 0xd0001000);
  EXPECT_EQ(memory.read(0xd0001000, 4), 0x11u);
}

TEST_F(PciBusTest, ABarAtTheEndOfTheAddressSpaceIsHarmless) {
  write(0x04, 2, 2);
  write(0x18, 0xffffffff);
  write(0x1c, 0xffffffff);
  EXPECT_FALSE(function.bar_mapped(2));
}

TEST_F(PciBusTest, IdentityIsReadOnly) {
  write(0, 0);
  EXPECT_EQ(read(0), 0x56781234u);
}

TEST_F(PciBusTest, AssignsEveryBar) {
  bus.assign_resources({0xc0000000, 0x10000000, 0x100000000, 0x40000000, 0xc000, 0x1000});
  EXPECT_EQ(memory.read(0xc0000000, 4), 0x11u);
  EXPECT_EQ(memory.read(0x100000000, 4), 0x22u);
  EXPECT_EQ(ports.read(0xc000, 1), 0x33u);
}

TEST_F(PciBusTest, AFullWindowLeavesABarUnassigned) {
  bus.assign_resources({0xc0000000, 0x800, 0, 0, 0xc000, 0x1000});
  EXPECT_FALSE(function.bar_mapped(0));
}

TEST_F(PciBusTest, IntxReachesTheLineOfItsSlot) {
  function.set_intx(true);
  EXPECT_TRUE(lines[1].level);
  EXPECT_EQ(read(0x06, 2) & 8u, 8u);
}

TEST_F(PciBusTest, InterruptDisableKeepsThePinLow) {
  function.set_intx(true);
  write(0x04, 0x400, 2);
  EXPECT_FALSE(lines[1].level);
  EXPECT_EQ(read(0x06, 2) & 8u, 8u);
}

TEST_F(PciBusTest, ASharedLineStaysHighWhileOneHoldsIt) {
  TestFunction second("second");
  bus.plug(9, second);
  function.set_intx(true);
  second.set_intx(true);
  function.set_intx(false);
  EXPECT_TRUE(lines[1].level);
  second.set_intx(false);
  EXPECT_FALSE(lines[1].level);
}

TEST_F(PciBusTest, MsixIsTheFirstCapability) {
  EXPECT_EQ(read(0x34, 1), 0x40u);
  EXPECT_EQ(read(0x40, 1), 0x11u);
  EXPECT_EQ(read(0x42, 2), 1u);  // two vectors
}

TEST_F(PciBusTest, AnMsiReachesTheLocalApic) {
  ManualTimers timers;
  LocalApic apic{0, apics, timers, nullptr, {}};
  apic.write(0xf0, 4, 0x1ff);
  const unsigned msi = read(0x41, 1);  // behind MSI-X
  ASSERT_EQ(read(msi, 1), pci::CAP_MSI);
  write(msi + 4, 0xfee0'0000);
  write(msi + 12, 0x45, 2);
  write(pci::COMMAND, pci::COMMAND_MASTER, 2);
  function.signal_msi();
  EXPECT_EQ(apic.acknowledge(), std::nullopt);  // it is off
  write(msi + 2, 1, 2);
  function.set_intx(true);
  EXPECT_FALSE(lines[1].level);
  function.signal_msi();
  EXPECT_EQ(apic.acknowledge(), 0x45);
}

TEST_F(PciBusTest, EnablingMsixSilencesIntx) {
  function.set_intx(true);
  write(0x42, 0x8000, 2);
  EXPECT_FALSE(lines[1].level);
}

TEST_F(PciBusTest, ResetUnmaps) {
  write(0x10, 0xd0000000);
  write(0x04, 2, 2);
  bus.reset();
  EXPECT_EQ(memory.read(0xd0000000, 4), 0xffffffffu);
  EXPECT_EQ(read(0x10), 0u);
}

TEST_F(PciBusTest, SaveDisturbRestoreSaveIsEqual) {
  write(0x10, 0xd0000000);
  write(0x04, 7, 2);
  machine::SnapshotWriter before;
  bus.save(before);
  bus.reset();
  machine::SnapshotReader reader(before.data());
  bus.restore(reader);
  machine::SnapshotWriter after;
  bus.save(after);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(before.data(), after.data());
  EXPECT_EQ(memory.read(0xd0000000, 4), 0x11u);
}

TEST_F(PciBusTest, FunctionsAboveZeroHaveTheirOwnSpace) {
  TestFunction other("other");
  bus.plug(6, function6);
  bus.plug(6, 3, other);
  bus.write(0, 4, 0x80000000u | (6u << 11) | (3u << 8));
  EXPECT_EQ(bus.read(4, 4), 0x56781234u);
  bus.write(0, 4, 0x80000000u | (6u << 11) | (2u << 8));
  EXPECT_EQ(bus.read(4, 4), 0xffffffffu);
}

TEST_F(PciBusTest, LineListenerHearsOfSharedLines) {
  std::vector<bool> heard;
  bus.set_line_listener([&](unsigned line, bool level) {
    if (line == 1) heard.push_back(level);
  });
  function.set_intx(true);
  function.set_intx(false);
  EXPECT_EQ(heard, (std::vector<bool>{true, false}));
}

class RomTest : public PciBusTest {
 protected:
  RomTest() {
    std::vector<std::byte> image(3000, std::byte{0x77});
    function.add_rom(std::move(image));
  }
};

TEST_F(RomTest, TheRegisterTellsTheSize) {
  write(0x30, 0xffff'fffe);
  EXPECT_EQ(read(0x30), 0xffff'f000u);
}
TEST_F(RomTest, AnswersOnlyWhenBothSwitchesAreOn) {
  write(0x30, 0xd000'0000);
  write(0x04, 2, 2);
  EXPECT_FALSE(function.rom_address().has_value());
  write(0x30, 0xd000'0001);
  EXPECT_EQ(memory.read(0xd000'0000, 4), 0x7777'7777u);
  write(0x04, 0, 2);
  EXPECT_FALSE(function.rom_address().has_value());
}
TEST_F(RomTest, BehindTheImageAreOnes) {
  write(0x30, 0xd000'0001);
  write(0x04, 2, 2);
  EXPECT_EQ(memory.read(0xd000'0bb8, 4), 0xffff'ffffu);
}
TEST_F(RomTest, IsNotWritten) {
  write(0x30, 0xd000'0001);
  write(0x04, 2, 2);
  memory.write(0xd000'0000, 4, 0);
  EXPECT_EQ(memory.read(0xd000'0000, 4), 0x7777'7777u);
}
TEST_F(RomTest, IsWhereItWasAfterRestoring) {
  write(0x30, 0xd000'0001);
  write(0x04, 2, 2);
  machine::SnapshotWriter saved;
  bus.save(saved);
  bus.reset();
  EXPECT_FALSE(function.rom_address().has_value());
  machine::SnapshotReader reader(saved.data());
  bus.restore(reader);
  EXPECT_EQ(function.rom_address(), 0xd000'0000u);
}

/// What the host bridge told about the region at an address.
struct Told {
  bool reads = false, writes = false;
};

TEST(HostBridge, PamRegistersSwitchTheirRegions) {
  std::map<std::uint32_t, Told> told;
  HostBridge bridge([&](std::uint32_t base, std::uint32_t, bool reads, bool writes) { told[base] = {reads, writes}; });
  bridge.write_config(0x59, 1, 0x30);
  bridge.write_config(0x5a, 1, 0x21);
  EXPECT_TRUE(told[0xf0000].reads && told[0xf0000].writes);
  EXPECT_TRUE(told[0xc0000].reads && !told[0xc0000].writes);
  EXPECT_TRUE(!told[0xc4000].reads && told[0xc4000].writes);
  EXPECT_EQ(told.size(), 13u);
}

TEST(HostBridge, ResetHidesTheRam) {
  bool any = true;
  HostBridge bridge([&](std::uint32_t, std::uint32_t, bool reads, bool writes) { any = reads || writes; });
  bridge.write_config(0x59, 1, 0x30);
  bridge.reset();
  EXPECT_FALSE(any);
}

class Piix3Test : public testing::Test {
 protected:
  Piix3Test() : bridge(lines()) {}
  Piix3IsaBridge::IsaLines lines() {
    Piix3IsaBridge::IsaLines out{};
    out[10] = &irq10;
    out[11] = &irq11;
    return out;
  }
  TestLine irq10, irq11;
  Piix3IsaBridge bridge;
};

TEST_F(Piix3Test, PirqsGoNowhereAtFirst) {
  bridge.set_pirq(0, true);
  EXPECT_FALSE(irq10.level || irq11.level);
}

TEST_F(Piix3Test, TwoPirqsShareAnInterrupt) {
  bridge.write_config(0x60, 2, 0x0a0a);
  bridge.set_pirq(0, true);
  bridge.set_pirq(1, true);
  bridge.set_pirq(0, false);
  EXPECT_TRUE(irq10.level);
  bridge.set_pirq(1, false);
  EXPECT_FALSE(irq10.level);
}

TEST_F(Piix3Test, ReroutingMovesAnAssertedLine) {
  bridge.write_config(0x60, 1, 0x0a);
  bridge.set_pirq(0, true);
  bridge.write_config(0x60, 1, 0x0b);
  EXPECT_FALSE(irq10.level);
  EXPECT_TRUE(irq11.level);
}

TEST_F(Piix3Test, InterruptsThatArentThereAreHarmless) {
  for (unsigned value = 0; value < 256; ++value) {
    bridge.write_config(0x60, 1, value);
    bridge.set_pirq(0, true);
    bridge.set_pirq(0, false);
  }
  SUCCEED();
}

TEST(Piix4, RegistersAnswerWhereTheyAreSwitchedOn) {
  std::optional<std::uint16_t> at;
  Piix4PowerManagement pm([&](std::optional<std::uint16_t> base) { at = base; });
  pm.write_config(0x40, 4, 0xb001);
  EXPECT_EQ(at, std::nullopt);
  pm.write_config(0x80, 1, 1);
  EXPECT_EQ(at, std::optional<std::uint16_t>(0xb000));
  pm.reset();
  EXPECT_EQ(at, std::nullopt);
}

}  // namespace
}  // namespace veneer::devices
