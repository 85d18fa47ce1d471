// The DMA controllers, programmed as BIOSes do it.
#include "devices/legacy/isa_dma.h"

#include <gtest/gtest.h>

#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;

constexpr std::uint8_t TO_MEMORY = 0x46, FROM_MEMORY = 0x4a;  // single mode, channel 2

class IsaDmaTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(memory.add("ram", GuestPhys{0}, MiB, machine::SlotKind::Ram).ok()); }
  void program(std::uint8_t mode, std::uint32_t address, std::uint16_t count) {
    out8(dma.master(), 10, 0x06);
    out8(dma.master(), 12, 0);
    out8(dma.master(), 11, mode);
    out8(dma.master(), 4, static_cast<std::uint8_t>(address));
    out8(dma.master(), 4, static_cast<std::uint8_t>(address >> 8));
    out8(dma.page_registers(), 0, static_cast<std::uint8_t>(address >> 16));
    out8(dma.master(), 5, static_cast<std::uint8_t>(count));
    out8(dma.master(), 5, static_cast<std::uint8_t>(count >> 8));
    out8(dma.master(), 10, 0x02);
  }
  std::uint8_t at(std::uint64_t address) {
    std::uint8_t value = 0;
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }
  machine::GuestMemory memory;
  IsaDma dma{memory};
  const std::array<std::uint8_t, 4> data{1, 2, 3, 4};
};

TEST_F(IsaDmaTest, MovesToMemoryUntilTheCountRunsOut) {
  program(TO_MEMORY, 0x2'1000, 2);
  const DmaMoved moved = dma.to_memory(2, data);
  EXPECT_EQ(moved.bytes, 3u);
  EXPECT_TRUE(moved.terminal_count);
  EXPECT_EQ(at(0x2'1002), 3);
  EXPECT_EQ(at(0x2'1003), 0);
}

TEST_F(IsaDmaTest, TerminalCountMasksTheChannelAndShowsOnce) {
  program(TO_MEMORY, 0x1000, 3);
  dma.to_memory(2, data);
  EXPECT_EQ(in8(dma.master(), 8), 0x04);
  EXPECT_EQ(in8(dma.master(), 8), 0x00);
  EXPECT_EQ(dma.to_memory(2, data).bytes, 0u);
}

TEST_F(IsaDmaTest, AutoinitStartsOver) {
  program(TO_MEMORY | 0x10, 0x1000, 3);
  dma.to_memory(2, data);
  EXPECT_EQ(dma.to_memory(2, data).bytes, 4u);
}

TEST_F(IsaDmaTest, MovesFromMemory) {
  ASSERT_TRUE(memory.write(GuestPhys{0x1000}, std::as_bytes(std::span(data))));
  program(FROM_MEMORY, 0x1000, 3);
  std::array<std::uint8_t, 4> out{};
  EXPECT_TRUE(dma.from_memory(2, out).terminal_count);
  EXPECT_EQ(out, data);
}

TEST_F(IsaDmaTest, WrongDirectionMovesNothing) {
  program(FROM_MEMORY, 0x1000, 3);
  EXPECT_EQ(dma.to_memory(2, data).bytes, 0u);
}

TEST_F(IsaDmaTest, VerifyCountsAndTouchesNothing) {
  program(0x42, 0x1000, 3);
  EXPECT_TRUE(dma.to_memory(2, data).terminal_count);
  EXPECT_EQ(at(0x1000), 0);
}

TEST_F(IsaDmaTest, AddressWrapsInsideItsPage) {
  program(TO_MEMORY, 0x1'ffff, 1);
  dma.to_memory(2, data);
  EXPECT_EQ(at(0x1'ffff), 1);
  EXPECT_EQ(at(0x1'0000), 2);
}

TEST_F(IsaDmaTest, CurrentAddressReadsBack) {
  program(TO_MEMORY, 0x1234, 9);
  dma.to_memory(2, data);
  out8(dma.master(), 12, 0);
  EXPECT_EQ(in8(dma.master(), 4), 0x38);
  EXPECT_EQ(in8(dma.master(), 4), 0x12);
}

TEST_F(IsaDmaTest, SixteenBitChannelsCountWords) {
  out8(dma.slave(), 11 << 1, 0x45);
  out8(dma.slave(), 2 << 1, 0x00);
  out8(dma.slave(), 2 << 1, 0x08);  // word address 800h
  out8(dma.page_registers(), 0x0a, 0x02);
  out8(dma.slave(), 3 << 1, 1);
  out8(dma.slave(), 3 << 1, 0);
  out8(dma.slave(), 10 << 1, 0x01);
  EXPECT_EQ(dma.to_memory(5, data).bytes, 4u);
  EXPECT_EQ(at(0x2'1003), 4);
}

TEST_F(IsaDmaTest, DeviceMemoryIsNoTarget) {
  program(TO_MEMORY, 0xff'ff00, 3);
  EXPECT_EQ(dma.to_memory(2, data).bytes, 4u);
}

}  // namespace
}  // namespace veneer::devices
