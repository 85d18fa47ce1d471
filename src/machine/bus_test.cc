// Bus: finding, overlaps, splitting, the nothing in between.
#include "machine/bus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace veneer::machine {
namespace {

/// Answers with its offset in each byte, and remembers writes.
class EchoDevice final : public Device {
 public:
  struct Write {
    std::uint64_t offset;
    unsigned size_bytes;
    std::uint64_t value;
    bool operator==(const Write&) const = default;
  };
  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size_bytes; ++i) value |= (offset + i) << (8 * i);
    return value;
  }
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override {
    writes.push_back({offset, size_bytes, value});
  }
  void save(SnapshotWriter&) const override {}
  void restore(SnapshotReader&) override {}
  void reset() override {}
  std::vector<Write> writes;
};

class BusTest : public testing::Test {
 protected:
  BusTest() { EXPECT_TRUE(bus.map(0x100, 8, device, "echo").ok()); }
  BoardLock lock;
  Bus bus{"test", lock};
  EchoDevice device;
  EchoDevice other;
};

TEST_F(BusTest, DeviceSeesOffsets) { EXPECT_EQ(bus.read(0x104, 2), 0x0504u); }

TEST_F(BusTest, NothingReadsAsAllOnes) { EXPECT_EQ(bus.read(0x200, 4), 0xffffffffu); }

TEST_F(BusTest, WritesToNothingGoNowhere) {
  bus.write(0x200, 4, 1);
  EXPECT_TRUE(device.writes.empty());
}

TEST_F(BusTest, ReadAcrossTheEndIsSplitIntoBytes) { EXPECT_EQ(bus.read(0x106, 4), 0xffff0706u); }

TEST_F(BusTest, ReadAcrossTheStartIsSplitIntoBytes) { EXPECT_EQ(bus.read(0xfe, 4), 0x0100ffffu); }

TEST_F(BusTest, WriteAcrossTheEndReachesTheDeviceByteByByte) {
  bus.write(0x106, 4, 0x44332211);
  EXPECT_THAT(device.writes, testing::ElementsAre(EchoDevice::Write{6, 1, 0x11}, EchoDevice::Write{7, 1, 0x22}));
}

TEST_F(BusTest, AccessAcrossTwoDevicesReachesBoth) {
  ASSERT_TRUE(bus.map(0x108, 8, other, "other").ok());
  EXPECT_EQ(bus.read(0x106, 4), 0x01000706u);
}

TEST_F(BusTest, OverlapIsRefusedNamingBoth) {
  const auto result = bus.map(0x107, 4, other, "late comer");
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message(), testing::AllOf(testing::HasSubstr("late comer"), testing::HasSubstr("echo")));
}

TEST_F(BusTest, OverlapFromBelowIsRefused) { EXPECT_FALSE(bus.map(0xf0, 0x11, other, "below").ok()); }

TEST_F(BusTest, NeighboursAreNoOverlap) { EXPECT_TRUE(bus.map(0xf0, 0x10, other, "below").ok()); }

TEST_F(BusTest, RangeThatWrapsIsRefused) { EXPECT_FALSE(bus.map(~std::uint64_t{0}, 2, other, "wrap").ok()); }

TEST_F(BusTest, UnmappedRangeIsGone) {
  bus.unmap(0x100);
  EXPECT_FALSE(bus.has_device(0x100));
}

TEST_F(BusTest, ReadAtTheTopOfTheAddressSpaceFindsTheLastByte) {
  Bus top("top", lock);
  ASSERT_TRUE(top.map(~std::uint64_t{0}, 1, other, "last byte").ok());
  EXPECT_EQ(top.read(~std::uint64_t{0}, 2), 0xff00u);
}

}  // namespace
}  // namespace veneer::machine
