// The console behind its transport, driven as a driver does it: well and badly.
#include "devices/virtio/virtio_console.h"

#include <gmock/gmock.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/bits.h"
#include "devices/pci/pci_bus.h"
#include "devices/testing/fakes.h"
#include "devices/virtio/virtio_pci.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t registers = 0xc0000000;
constexpr std::uint64_t config = registers + 0x2000, notify = registers + 0x3000;
constexpr std::uint64_t ram_bytes = 1024 * KiB, buffers = 0x40000;
constexpr std::uint16_t NEXT = 1, WRITE = 2, ring_size = 16;
constexpr std::uint64_t VERSION_1 = bit(32);
constexpr std::uint64_t usual = VERSION_1 | bit(CONSOLE_F_SIZE) | bit(CONSOLE_F_EMERG_WRITE);
constexpr unsigned RECEIVE = 0, TRANSMIT = 1;

struct Piece {
  std::uint64_t address;
  std::uint32_t bytes;
  bool writable;
};

class VirtioConsoleTest : public ::testing::Test {
 protected:
  VirtioConsoleTest() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok());
    bus.plug(3, function);
    bus.reset();
    bus.assign_resources({registers, 0x100000, 0, 0, 0, 0});
    function.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER);
    console.set_room_callback([this] { ++rooms; });
  }
  // Queue n has its rings at 0x4000 * n.
  static std::uint64_t descriptors(unsigned queue) { return 0x1000 + 0x4000 * std::uint64_t{queue}; }
  static std::uint64_t driver_area(unsigned queue) { return descriptors(queue) + 0x1000; }
  static std::uint64_t device_area(unsigned queue) { return descriptors(queue) + 0x2000; }

  void start(std::uint64_t features = usual) {
    for (unsigned queue = 0; queue < 2; ++queue) {
      poke(driver_area(queue), std::uint32_t{0});
      poke(device_area(queue), std::uint32_t{0});
    }
    memory.write(registers + 20, 1, 3);
    for (unsigned half = 0; half < 2; ++half) {
      memory.write(registers + 8, 4, half);
      memory.write(registers + 12, 4, (features >> (32 * half)) & 0xffffffff);
    }
    memory.write(registers + 20, 1, 11);
    for (unsigned queue = 0; queue < 2; ++queue) {
      memory.write(registers + 22, 2, queue);
      memory.write(registers + 24, 2, ring_size);
      memory.write(registers + 32, 4, descriptors(queue));
      memory.write(registers + 40, 4, driver_area(queue));
      memory.write(registers + 48, 4, device_area(queue));
      memory.write(registers + 28, 2, 1);
    }
    memory.write(registers + 20, 1, 15);
  }
  void stop() { memory.write(registers + 20, 1, 0); }
  template <typename T>
  void poke(std::uint64_t address, T value) {
    ASSERT_TRUE(ram.write_value(GuestPhys{address}, value));
  }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(ram.read_value(GuestPhys{address}, value));
    return value;
  }
  void offer(unsigned queue, std::uint16_t first, const std::vector<Piece>& pieces) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const std::uint64_t at = descriptors(queue) + 16 * (first + i);
      poke(at, pieces[i].address);
      poke(at + 8, pieces[i].bytes);
      const bool last = i + 1 == pieces.size();
      poke(at + 12, static_cast<std::uint16_t>((last ? 0 : NEXT) | (pieces[i].writable ? WRITE : 0)));
      poke(at + 14, static_cast<std::uint16_t>(first + i + 1));
    }
    const auto index = peek<std::uint16_t>(driver_area(queue) + 2);
    poke(driver_area(queue) + 4 + 2 * (index % ring_size), first);
    poke(driver_area(queue) + 2, static_cast<std::uint16_t>(index + 1));
  }
  void ring(unsigned queue) { memory.write(notify + 4 * queue, 2, queue); }
  std::uint16_t used(unsigned queue) { return peek<std::uint16_t>(device_area(queue) + 2); }
  std::uint32_t used_length(unsigned queue, unsigned slot) {
    return peek<std::uint32_t>(device_area(queue) + 8 + 8 * slot);
  }
  bool needs_reset() { return (memory.read(registers + 20, 1) & 64) != 0; }

  /// The driver has room for `bytes`, and says so.
  void make_room(std::uint32_t bytes, std::uint64_t at = buffers) {
    offer(RECEIVE, 0, {{at, bytes, true}});
    ring(RECEIVE);
  }
  void type(std::string_view text) {
    console.receive({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  }
  std::string text_at(std::uint64_t address, std::size_t size) {
    std::string text(size, 0);
    EXPECT_TRUE(ram.read(GuestPhys{address}, std::as_writable_bytes(std::span(text))));
    return text;
  }
  void print(std::string_view text) {
    ASSERT_TRUE(ram.write(GuestPhys{buffers}, std::as_bytes(std::span(text.data(), text.size()))));
    offer(TRANSMIT, 0, {{buffers, static_cast<std::uint32_t>(text.size()), false}});
    ring(TRANSMIT);
  }
  std::vector<std::byte> saved() {
    machine::SnapshotWriter out;
    function.save(out);
    return out.data();
  }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock}, ports{"port", lock};
  testing::FakeIrqLine irq;
  ApicBus apics{lock};
  PciBus bus{{memory, ports, apics, {&irq, &irq, &irq, &irq}}};
  machine::GuestMemory ram;
  testing::FakeCharSink terminal;
  VirtioConsole console{ram, terminal};
  VirtioPci function{"virtio-console", console, ram};
  unsigned rooms = 0;
};

TEST_F(VirtioConsoleTest, HasTheIdsOfAModernConsole) { EXPECT_EQ(function.read_config(0, 4), 0x10431af4u); }

TEST_F(VirtioConsoleTest, OutputGoesToTheTerminal) {
  start();
  print("hello\r\n");
  EXPECT_EQ(terminal.text, "hello\r\n");
  EXPECT_EQ(used(TRANSMIT), 1u);
  EXPECT_TRUE(irq.level);
}

TEST_F(VirtioConsoleTest, OutputInPiecesStaysInOrder) {
  start();
  ASSERT_TRUE(ram.write(GuestPhys{buffers}, std::as_bytes(std::span("abcdef", 6))));
  offer(TRANSMIT, 0, {{buffers, 2, false}, {buffers + 2, 3, false}, {buffers + 5, 1, false}});
  ring(TRANSMIT);
  EXPECT_EQ(terminal.text, "abcdef");
}

TEST_F(VirtioConsoleTest, OutputWithoutEndIsCut) {
  start();
  offer(TRANSMIT, 0, {{buffers, 0x80000, false}});
  ring(TRANSMIT);
  EXPECT_EQ(terminal.text.size(), VirtioConsole::output_bytes_max);
  EXPECT_EQ(used(TRANSMIT), 1u);
}

TEST_F(VirtioConsoleTest, OutputFromNowhereIsNone) {
  start();
  offer(TRANSMIT, 0, {{ram_bytes + 0x1000, 100, false}});
  ring(TRANSMIT);
  EXPECT_EQ(terminal.text, "");
  EXPECT_EQ(used(TRANSMIT), 1u);
}

TEST_F(VirtioConsoleTest, WhatIsTypedGoesIntoABuffer) {
  start();
  make_room(16);
  type("ls\r");
  EXPECT_EQ(used(RECEIVE), 1u);
  EXPECT_EQ(used_length(RECEIVE, 0), 3u);
  EXPECT_EQ(text_at(buffers, 3), "ls\r");
}

TEST_F(VirtioConsoleTest, WhatIsTypedWaitsForABuffer) {
  start();
  type("ls");
  EXPECT_EQ(used(RECEIVE), 0u);
  make_room(16);
  EXPECT_EQ(used_length(RECEIVE, 0), 2u);
}

TEST_F(VirtioConsoleTest, SmallBuffersAreFilledOneByOne) {
  start();
  type("abcdef");
  offer(RECEIVE, 0, {{buffers, 4, true}});
  offer(RECEIVE, 1, {{buffers + 4, 4, true}});
  ring(RECEIVE);
  EXPECT_EQ(used_length(RECEIVE, 0), 4u);
  EXPECT_EQ(used_length(RECEIVE, 1), 2u);
  EXPECT_EQ(text_at(buffers, 6), "abcdef");
}

TEST_F(VirtioConsoleTest, BuffersWithoutRoomGoBackEmpty) {
  start();
  type("a");
  offer(RECEIVE, 0, {{buffers, 4, false}});
  ring(RECEIVE);
  EXPECT_EQ(used_length(RECEIVE, 0), 0u);
  make_room(4);
  EXPECT_EQ(used_length(RECEIVE, 1), 1u);
}

TEST_F(VirtioConsoleTest, ABufferOutsideMemoryDoesNotEatWhatIsTyped) {
  start();
  type("a");
  make_room(4, ram_bytes + 0x1000);
  EXPECT_EQ(used_length(RECEIVE, 0), 0u);
  make_room(4);
  EXPECT_EQ(text_at(buffers, 1), "a");
}

TEST_F(VirtioConsoleTest, ThereIsNoRoomBeforeADriver) {
  EXPECT_EQ(console.receive_room(), 0u);
  type("lost");
  start();
  EXPECT_EQ(console.receive_room(), VirtioConsole::input_bytes_max);
  EXPECT_EQ(rooms, 1u);
}

TEST_F(VirtioConsoleTest, RoomEndsAndComesBack) {
  start();
  type(std::string(VirtioConsole::input_bytes_max + 10, 'x'));
  EXPECT_EQ(console.receive_room(), 0u);
  rooms = 0;
  make_room(100);
  EXPECT_EQ(console.receive_room(), 100u);
  EXPECT_EQ(rooms, 1u);
}

TEST_F(VirtioConsoleTest, AfterAResetWithFullInputItTakesMore) {
  start();
  type(std::string(VirtioConsole::input_bytes_max, 'x'));
  stop();
  EXPECT_EQ(console.receive_room(), 0u);
  rooms = 0;
  start();
  EXPECT_EQ(rooms, 1u);
  EXPECT_EQ(console.receive_room(), VirtioConsole::input_bytes_max);
  make_room(16);
  EXPECT_EQ(used(RECEIVE), 0u);
  type("new");
  EXPECT_EQ(text_at(buffers, 3), "new");
}

TEST_F(VirtioConsoleTest, TheSizeIsInTheConfiguration) {
  start();
  console.set_size(132, 43);
  EXPECT_EQ(memory.read(config, 2), 132u);
  EXPECT_EQ(memory.read(config + 2, 2), 43u);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(memory.read(registers + 0x1000, 1), 2u);
}

TEST_F(VirtioConsoleTest, ASizeFromBeforeTheDriverIsToldWithTheFirstOutput) {
  console.set_size(132, 43);
  start();
  EXPECT_FALSE(irq.level);
  print("x");
  EXPECT_EQ(memory.read(registers + 0x1000, 1), 3u);
  print("x");
  EXPECT_EQ(memory.read(registers + 0x1000, 1), 1u);
}

TEST_F(VirtioConsoleTest, TheSameSizeIsNoChange) {
  start();
  console.set_size(0, 0);
  EXPECT_FALSE(irq.level);
}

TEST_F(VirtioConsoleTest, TheSizeOutlivesAReset) {
  console.set_size(132, 43);
  start();
  stop();
  EXPECT_EQ(memory.read(config, 4), 132u | 43u << 16);
}

TEST_F(VirtioConsoleTest, EmergencyWritesNeedNoDriver) {
  memory.write(config + 8, 4, 'P');
  memory.write(config + 8, 4, 'a' | 0x4200);
  memory.write(config + 8, 1, 'n');
  EXPECT_EQ(terminal.text, "Pan");
}

TEST_F(VirtioConsoleTest, OtherWritesToTheConfigurationDoNothing) {
  memory.write(config, 4, 0x55555555);
  memory.write(config + 4, 4, 0x55555555);
  memory.write(config + 9, 1, 'x');
  EXPECT_EQ(memory.read(config, 4), 0u);
  EXPECT_EQ(memory.read(config + 8, 4), 0u);
  EXPECT_EQ(terminal.text, "");
}

TEST_F(VirtioConsoleTest, StateComesBack) {
  start();
  console.set_size(80, 25);
  type("typed");
  const auto state = saved();
  stop();
  console.set_size(1, 1);
  EXPECT_NE(saved(), state);
  machine::SnapshotReader in(state);
  function.restore(in);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.left(), 0u);
  EXPECT_EQ(saved(), state);
  make_room(16);
  EXPECT_EQ(text_at(buffers, 5), "typed");
}

TEST_F(VirtioConsoleTest, ACutStateIsRefused) {
  start();
  type("typed");
  const auto state = saved();
  machine::SnapshotReader in(std::span<const std::byte>(state).first(state.size() - 1));
  function.restore(in);
  EXPECT_FALSE(in.ok());
}

TEST_F(VirtioConsoleTest, DamagedStatesDoNoHarm) {
  start();
  type("typed");
  const auto state = saved();
  for (std::size_t i = 0; i < state.size(); ++i) {
    auto damaged = state;
    damaged[i] = std::byte{0xff};
    machine::SnapshotReader in(damaged);
    function.restore(in);
    type("more");
    make_room(16);
    print("out");
  }
}

}  // namespace
}  // namespace veneer::devices
