// The console behind its transport, driven as a driver does it: well and badly.
#include "devices/virtio/virtio_console.h"

#include <gmock/gmock.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/bits.h"
#include "devices/testing/virtio_driver.h"

namespace veneer::devices {
namespace {

using testing::Piece;
using testing::VERSION_1;
using testing::VirtioDriver;

constexpr std::uint64_t ram_bytes = 1024 * KiB, buffers = 0x40000;
constexpr std::uint64_t usual = VERSION_1 | bit(CONSOLE_F_SIZE) | bit(CONSOLE_F_EMERG_WRITE);
constexpr unsigned RECEIVE = 0, TRANSMIT = 1;

class VirtioConsoleTest : public VirtioDriver {
 protected:
  VirtioConsoleTest() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok());
    plug(function);
    console.set_room_callback([this] { ++rooms; });
  }
  void start(std::uint64_t features = usual) {
    for (unsigned queue = 0; queue < 2; ++queue) {
      poke(driver_area(queue), std::uint32_t{0});
      poke(device_area(queue), std::uint32_t{0});
    }
    set_up_queues(features, 2);
    driver_ok();
  }
  void stop() { memory.write(registers + 20, 1, 0); }

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
