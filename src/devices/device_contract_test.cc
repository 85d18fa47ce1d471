// The contract of every device: save, disturb, restore, save gives equal bytes; disturbed differs; a truncated state
// is refused; any access is survived.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>

#include "base/manual_timers.h"
#include "devices/firmware/debug_console.h"
#include "devices/firmware/flash.h"
#include "devices/firmware/fw_cfg.h"
#include "devices/firmware/system_ports.h"
#include "devices/floppy/floppy_controller.h"
#include "devices/ide/ide_channel.h"
#include "devices/input/ps2_keyboard.h"
#include "devices/input/ps2_mouse.h"
#include "devices/irq/ioapic.h"
#include "devices/irq/lapic.h"
#include "devices/irq/pic8259.h"
#include "devices/legacy/coprocessor_error.h"
#include "devices/legacy/debug_exit.h"
#include "devices/legacy/hpet.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/isa_dma.h"
#include "devices/legacy/pit8254.h"
#include "devices/legacy/post_code.h"
#include "devices/legacy/reset_port.h"
#include "devices/legacy/rtc_cmos.h"
#include "devices/legacy/test_device.h"
#include "devices/legacy/uart16550.h"
#include "devices/testing/fake_backend.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::out8;

/// One device with all it is plugged into.
class Bench {
 public:
  virtual ~Bench() = default;
  virtual machine::Device& device() = 0;
  /// Brings the device into a state worth saving.
  virtual void set_up() = 0;
  /// Changes guest-visible state.
  virtual void disturb() = 0;
};

struct Case {
  const char* name;
  std::function<std::unique_ptr<Bench>()> make;
  bool has_state = true;
};
std::ostream& operator<<(std::ostream& out, const Case& item) { return out << item.name; }

struct UartBench final : Bench {
  machine::Device& device() override { return uart; }
  void set_up() override {
    out8(uart, 2, 0x81);
    out8(uart, 4, 0x0b);
    out8(uart, 1, 0x03);
    uart.receive(text);
  }
  void disturb() override { (void)uart.read(0, 1); }
  const std::array<std::uint8_t, 3> text{'a', 'b', 'c'};
  testing::FakeIrqLine irq;
  testing::FakeCharSink sink;
  Uart16550 uart{irq, sink};
};

struct PitBench final : Bench {
  machine::Device& device() override { return pit; }
  void set_up() override {
    out8(pit, 3, 0x34);
    out8(pit, 0, 0x00);
    out8(pit, 0, 0x10);
    out8(pit, 3, 0xb6);
    out8(pit, 2, 0x34);
    out8(pit, 2, 0x12);
    timers.advance(1'234'567);
    out8(pit, 3, 0x80);
  }
  void disturb() override {
    timers.advance(98'765'432);
    out8(pit, 3, 0x30);
    out8(pit, 0, 0x55);
  }
  testing::FakeIrqLine irq;
  ManualTimers timers;
  Pit8254 pit{irq, timers};
};

struct Port61Bench final : Bench {
  machine::Device& device() override { return pit.port61(); }
  void set_up() override { out8(pit.port61(), 0, 1); }
  void disturb() override { out8(pit.port61(), 0, 2); }
  testing::FakeIrqLine irq;
  ManualTimers timers;
  Pit8254 pit{irq, timers};
};

struct RtcBench final : Bench {
  machine::Device& device() override { return rtc; }
  void set_up() override {
    timers.advance(1'500'000'000);
    out8(rtc, 0, 0x0b);
    out8(rtc, 1, 0x52);
    rtc.set_cmos(0x40, 7);
  }
  void disturb() override {
    (void)rtc.read(1, 1);
    out8(rtc, 0, 0x04);
    out8(rtc, 1, 0x11);
    rtc.set_cmos(0x40, 8);
  }
  testing::FakeIrqLine irq;
  ManualTimers timers;
  RtcCmos rtc{irq, timers};
};

struct DmaBench final : Bench {
  machine::Device& device() override { return dma.master(); }
  void set_up() override {
    out8(dma.master(), 11, 0x46);
    out8(dma.master(), 4, 0x34);
    out8(dma.master(), 10, 0x02);
    out8(dma.page_registers(), 0, 0x12);
  }
  void disturb() override { out8(dma.master(), 4, 0x56); }
  machine::GuestMemory memory;
  IsaDma dma{memory};
};

struct DmaPagesBench final : Bench {
  machine::Device& device() override { return dma.page_registers(); }
  void set_up() override { out8(dma.page_registers(), 3, 0x12); }
  void disturb() override { out8(dma.page_registers(), 3, 0x13); }
  machine::GuestMemory memory;
  IsaDma dma{memory};
};

struct FloppyBench final : Bench {
  FloppyBench() { controller.attach(0, disk); }
  machine::Device& device() override { return controller; }
  void set_up() override {
    out8(controller, 2, 0x1c);
    for (const unsigned byte : {0x0fu, 0x00u, 0x05u}) out8(controller, 5, static_cast<std::uint8_t>(byte));
    out8(controller, 5, 0x4a);
  }
  void disturb() override {
    out8(controller, 5, 0x00);
    (void)controller.read(5, 1);
  }
  testing::FakeIrqLine irq;
  machine::GuestMemory memory;
  IsaDma dma{memory};
  testing::FakeBackend disk{1474560};
  FloppyController controller{irq, dma};
};

struct HpetBench final : Bench {
  machine::Device& device() override { return hpet; }
  void set_up() override {
    hpet.write(0x100, 8, 0x4c);
    hpet.write(0x108, 8, 300'000);
    hpet.write(0x120, 8, 0x6 | 20u << 9);
    hpet.write(0x128, 8, 100'000);
    hpet.write(0x10, 8, 3);
    timers.advance(2'000'000);
  }
  void disturb() override {
    timers.advance(5'000'000);
    hpet.write(0x10, 8, 0);
  }
  ManualTimers timers;
  testing::FakeIrqLine line0, line8;
  ReplaceableIrq irq0{line0}, irq8{line8};
  Hpet hpet{{irq0, irq8, {}, {}}, timers};
};

struct KeyboardBench final : Bench {
  machine::Device& device() override { return controller.data_port(); }
  void set_up() override {
    out8(controller.command_port(), 0, 0xaa);
    out8(controller.data_port(), 0, 0xf2);
    out8(controller.command_port(), 0, 0xd4);
    out8(controller.data_port(), 0, 0xf4);
    mouse.move(300, 300, 3);
    keyboard.key(Key::Enter, true);
    timers.advance(100'000'000);
    out8(controller.command_port(), 0, 0xd1);
  }
  void disturb() override { out8(controller.data_port(), 0, 0x01); }
  ManualTimers timers;
  testing::FakeIrqLine irq, mouse_irq;
  Ps2Keyboard keyboard{timers};
  Ps2Mouse mouse;
  Ps2Controller8042 controller{irq, mouse_irq, keyboard, mouse, [] {}};
};

struct FwCfgBench final : Bench {
  FwCfgBench() { fw_cfg.add_file_value("etc/one", std::uint64_t{0x1122334455667788}); }
  machine::Device& device() override { return fw_cfg; }
  void set_up() override {
    fw_cfg.write(0, 2, FwCfg::FIRST_FILE);
    (void)fw_cfg.read(1, 1);
    fw_cfg.write(4, 4, 0x1234);
  }
  void disturb() override { (void)fw_cfg.read(1, 1); }
  machine::GuestMemory memory;
  FwCfg fw_cfg{memory};
};

struct FlashBench final : Bench {
  machine::Device& device() override { return flash; }
  void set_up() override {
    out8(flash, 3, 0x10);
    out8(flash, 3, 0x42);
    out8(flash, 8, 0xe8);
    out8(flash, 8, 1);
    out8(flash, 8, 0x17);
  }
  void disturb() override { out8(flash, 9, 0x18); }
  std::vector<std::byte> contents = std::vector<std::byte>(CfiFlash::block_bytes, std::byte{0xff});
  CfiFlash flash{contents, nullptr, [](bool) {}};
};

struct DebugConsoleBench final : Bench {
  machine::Device& device() override { return console; }
  void set_up() override { out8(console, 0, 'a'); }
  void disturb() override { out8(console, 0, 'b'); }
  DebugConsole console;
};

struct Port92Bench final : Bench {
  machine::Device& device() override { return port; }
  void set_up() override { out8(port, 0, 2); }
  void disturb() override { out8(port, 0, 0); }
  SystemControlPort port{[] {}};
};

struct ApmBench final : Bench {
  machine::Device& device() override { return ports; }
  void set_up() override { out8(ports, 1, 2); }
  void disturb() override { out8(ports, 1, 3); }
  ApmPorts ports;
};

struct IdeBench final : Bench {
  IdeBench() {
    EXPECT_TRUE(memory.add("ram", GuestPhys{0}, 0x1000, machine::SlotKind::Ram).ok());
    channel.attach(0, AtaDriveKind::Disk, disk);
  }
  machine::Device& device() override { return channel; }
  void set_up() override {
    out8(channel, 6, 0x40);
    out8(channel, 2, 1);
    out8(channel, 7, 0x20);
    (void)channel.read(0, 2);
  }
  void disturb() override { (void)channel.read(0, 2); }
  testing::FakeIrqLine irq;
  machine::GuestMemory memory;
  testing::FakeBackend disk{16 * 512};
  IdeChannel channel{irq, memory};
};

struct ResetPortBench final : Bench {
  machine::Device& device() override { return port; }
  void set_up() override { out8(port, 0, 2); }
  void disturb() override { out8(port, 0, 8); }
  testing::FakePower power;
  ResetPort port{power};
};

struct DebugExitBench final : Bench {
  machine::Device& device() override { return port; }
  void set_up() override {}
  void disturb() override { out8(port, 0, 8); }
  testing::FakePower power;
  DebugExit port{power};
};

struct TestPortsBench final : Bench {
  machine::Device& device() override { return ports; }
  void set_up() override { ports.write(0, 4, 0x12345678); }
  void disturb() override { out8(ports, 1, 0); }
  TestPorts ports;
};

struct TestLinesBench final : Bench {
  TestLinesBench() : lines(make()) {}
  TestLines::Lines make() {
    TestLines::Lines all{};
    all.fill(&line);
    return all;
  }
  machine::Device& device() override { return lines; }
  void set_up() override { out8(lines, 3, 1); }
  void disturb() override { out8(lines, 3, 0); }
  testing::FakeIrqLine line;
  TestLines lines;
};

struct TestMemoryBench final : Bench {
  machine::Device& device() override { return memory; }
  void set_up() override { memory.write(8, 8, 0x1122334455667788); }
  void disturb() override { out8(memory, 9, 0); }
  TestMemory memory;
};

struct CoprocessorErrorBench final : Bench {
  machine::Device& device() override { return port; }
  void set_up() override { port.raise(); }
  void disturb() override { out8(port, 0, 0); }
  testing::FakeIrqLine irq;
  CoprocessorError port{irq};
};

struct PostCodeBench final : Bench {
  machine::Device& device() override { return port; }
  void set_up() override { out8(port, 0, 2); }
  void disturb() override { out8(port, 0, 8); }
  PostCode port;
};

/// Which of the pair's three devices is under test.
enum class PicPart { Master, Slave, Elcr };

struct PicBench final : Bench {
  explicit PicBench(PicPart which) : part(which) {}
  machine::Device& device() override {
    return part == PicPart::Master ? pic.master() : part == PicPart::Slave ? pic.slave() : pic.elcr();
  }
  void set_up() override {
    for (machine::Device* chip : {&pic.master(), &pic.slave()}) {
      out8(*chip, 0, 0x11);
      out8(*chip, 1, chip == &pic.master() ? 0x20 : 0x28);
      out8(*chip, 1, chip == &pic.master() ? 0x04 : 0x02);
      out8(*chip, 1, 0x01);
    }
    out8(pic.elcr(), 1, 0x0c);
    pic.input(10).set(true);
    pic.acknowledge();
    pic.input(4).set(true);
  }
  void disturb() override {
    for (machine::Device* chip : {&pic.master(), &pic.slave()}) {
      out8(*chip, 0, 0xe2);
      out8(*chip, 1, 0xff);
    }
    out8(pic.elcr(), 0, 0x20);
  }
  PicPart part;
  testing::FakeIrqLine intr;
  Pic8259Pair pic{intr};
};

struct IoApicBench final : Bench {
  machine::Device& device() override { return io_apic; }
  void set_up() override {
    apic.write(0xf0, 4, 0x1ff);
    io_apic.write(0, 4, 0x18);
    io_apic.write(0x10, 4, 0x8034);
    io_apic.input(4).set(true);
  }
  void disturb() override {
    io_apic.input(4).set(false);
    io_apic.write(0x40, 4, 0x34);
    io_apic.write(0, 4, 0);
    io_apic.write(0x10, 4, 0x05000000);
  }
  machine::BoardLock lock;
  ApicBus bus{lock};
  ManualTimers timers;
  LocalApic apic{0, bus, timers, nullptr, {}};
  IoApic io_apic{bus, timers};
};

struct LocalApicBench final : Bench {
  machine::Device& device() override { return apic; }
  void set_up() override {
    apic.write(0xf0, 4, 0x1ff);
    apic.write(0x3e0, 4, 0xb);
    apic.write(0x320, 4, 0x20060);
    apic.write(0x380, 4, 10'000'000);
    apic.deliver({.vector = 0x41});
    apic.acknowledge();
    apic.deliver({.trigger_mode = TriggerMode::Level, .vector = 0x91});
    apic.deliver({.delivery_mode = DeliveryMode::Nmi});
    timers.advance(1'000'000);
  }
  void disturb() override {
    apic.acknowledge();
    apic.take_nmi();
    apic.write(0x80, 4, 0x33);
    apic.write(0x320, 4, 0x40060);
    (void)apic.write_msr(0x6e0, 123'456'789);
    apic.lint0().set(true);
    timers.advance(20'000'000);
  }
  machine::BoardLock lock;
  ApicBus bus{lock};
  ManualTimers timers;
  LocalApic apic{0, bus, timers, nullptr, {}};
};

struct TscDeadlineBench final : Bench {
  machine::Device& device() override { return apic; }
  void set_up() override {
    apic.write(0xf0, 4, 0x1ff);
    apic.write(0x320, 4, 0x40060);
    (void)apic.write_msr(0x6e0, 123'456'789);
  }
  void disturb() override { apic.reset(); }
  machine::BoardLock lock;
  ApicBus bus{lock};
  ManualTimers timers;
  LocalApic apic{1, bus, timers, nullptr, {}};
};

class DeviceContract : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    bench = GetParam().make();
    bench->set_up();
  }
  machine::Device& device() { return bench->device(); }
  std::unique_ptr<Bench> bench;
};

TEST_P(DeviceContract, SavedStateComesBack) {
  const auto state = testing::saved(device());
  bench->disturb();
  ASSERT_TRUE(testing::restore(device(), state));
  EXPECT_EQ(testing::saved(device()), state);
}

TEST_P(DeviceContract, DisturbedStateDiffers) {
  if (!GetParam().has_state) GTEST_SKIP() << "no state";
  const auto state = testing::saved(device());
  bench->disturb();
  EXPECT_NE(testing::saved(device()), state);
}

TEST_P(DeviceContract, RestoreTakesExactlyWhatWasSaved) {
  auto state = testing::saved(device());
  state.push_back(std::byte{0x5a});
  machine::SnapshotReader in(state);
  device().restore(in);
  EXPECT_EQ(in.get<std::uint8_t>(), 0x5a);
}

TEST_P(DeviceContract, TruncatedStateIsRefused) {
  auto state = testing::saved(device());
  state.pop_back();
  EXPECT_FALSE(testing::restore(device(), state));
}

TEST_P(DeviceContract, ForeignStateIsRefused) {
  const std::vector<std::byte> garbage(4096, std::byte{0xff});
  EXPECT_FALSE(testing::restore(device(), garbage));
}

TEST_P(DeviceContract, AnyBytesInTheSavedStateAreSurvived) {
  const auto state = testing::saved(device());
  const std::size_t name_end = state.size() < 16 ? state.size() : 16;
  for (std::size_t i = name_end; i < state.size(); ++i) {
    auto damaged = state;
    damaged[i] = std::byte{0xff};
    (void)testing::restore(device(), damaged);
    bench->disturb();
  }
  device().reset();
  SUCCEED();
}

TEST_P(DeviceContract, ResetIsRepeatable) {
  device().reset();
  const auto once = testing::saved(device());
  device().reset();
  EXPECT_EQ(testing::saved(device()), once);
}

TEST_P(DeviceContract, EveryAccessIsSurvived) {
  std::uint32_t random = 1;
  for (int i = 0; i < 20'000; ++i) {
    random = random * 1664525 + 1013904223;
    const unsigned size = 1u << ((random >> 8) & 3);
    const std::uint64_t offset = (random >> 12) % 0x400;
    if (random & 0x80000000)
      device().write(offset, size, size == 8 ? random : random & ((std::uint64_t{1} << (8 * size)) - 1));
    else
      EXPECT_EQ(size == 8 ? 0 : device().read(offset, size) >> (8 * size), 0u);
  }
}

template <typename T>
Case of(const char* name) {
  return {name, [] { return std::make_unique<T>(); }};
}
Case pic_part(const char* name, PicPart part) {
  return {name, [part] { return std::make_unique<PicBench>(part); }};
}

INSTANTIATE_TEST_SUITE_P(
    All, DeviceContract,
    ::testing::Values(of<UartBench>("uart16550"), of<PitBench>("pit8254"), of<Port61Bench>("port61"),
                      of<RtcBench>("rtc_cmos"), of<DmaBench>("isa_dma"), of<DmaPagesBench>("dma_pages"),
                      of<FloppyBench>("floppy"), of<HpetBench>("hpet"), of<KeyboardBench>("i8042"),
                      of<ResetPortBench>("reset_port"), of<FwCfgBench>("fw_cfg"), of<FlashBench>("flash"),
                      Case{"debug_console", [] { return std::make_unique<DebugConsoleBench>(); }, false},
                      of<Port92Bench>("port92"), of<ApmBench>("apm"), of<IdeBench>("ide"),
                      Case{"debug_exit", [] { return std::make_unique<DebugExitBench>(); }, false},
                      of<PostCodeBench>("post_code"), of<TestPortsBench>("test_ports"),
                      of<TestLinesBench>("test_lines"), of<TestMemoryBench>("test_memory"),
                      of<CoprocessorErrorBench>("coprocessor_error"), pic_part("pic_master", PicPart::Master),
                      pic_part("pic_slave", PicPart::Slave), pic_part("elcr", PicPart::Elcr), of<IoApicBench>("ioapic"),
                      of<LocalApicBench>("lapic"), of<TscDeadlineBench>("lapic_tsc_deadline")),
    [](const ::testing::TestParamInfo<Case>& item) { return item.param.name; });

}  // namespace
}  // namespace veneer::devices
