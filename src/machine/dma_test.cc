// Guest buffers of all kinds, as a device's host pieces.
#include "machine/dma.h"

#include <gtest/gtest.h>

namespace veneer::machine {
namespace {

class DmaBuffersTest : public testing::Test {
 protected:
  DmaBuffersTest() {
    EXPECT_TRUE(memory.add("low", GuestPhys{0}, 64 * KiB, SlotKind::Ram).ok());
    EXPECT_TRUE(memory.add("next", GuestPhys{64 * KiB}, 64 * KiB, SlotKind::Ram).ok());
    EXPECT_TRUE(memory.add("rom", GuestPhys{1 * MiB}, 64 * KiB, SlotKind::Rom).ok());
  }
  GuestMemory memory;
  DmaBuffers buffers;
};

TEST_F(DmaBuffersTest, OneBufferIsOnePiece) {
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x1234}, 100, DmaAccess::Write));
  ASSERT_EQ(buffers.pieces().size(), 1u);
  EXPECT_EQ(buffers.pieces()[0].iov_base, memory.at(GuestPhys{0x1234}, 100));
  EXPECT_EQ(buffers.bytes(), 100u);
}
TEST_F(DmaBuffersTest, NeighboursBecomeOnePiece) {
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x1000}, 0x1000, DmaAccess::Write));
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x2000}, 0x1000, DmaAccess::Write));
  ASSERT_EQ(buffers.pieces().size(), 1u);
  EXPECT_EQ(buffers.pieces()[0].iov_len, 0x2000u);
}
TEST_F(DmaBuffersTest, TheSameBufferTwiceStaysTwoPieces) {
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x1000}, 0x1000, DmaAccess::Write));
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x1000}, 0x1000, DmaAccess::Write));
  EXPECT_EQ(buffers.pieces().size(), 2u);
}
TEST_F(DmaBuffersTest, ABufferAcrossSlotsIsWhole) {
  ASSERT_TRUE(buffers.add(memory, GuestPhys{64 * KiB - 8}, 16, DmaAccess::Write));
  EXPECT_EQ(buffers.bytes(), 16u);
}
TEST_F(DmaBuffersTest, NothingIsNoPiece) {
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x1000}, 0, DmaAccess::Write));
  EXPECT_TRUE(buffers.pieces().empty());
}
TEST_F(DmaBuffersTest, RefusesAHole) {
  EXPECT_FALSE(buffers.add(memory, GuestPhys{128 * KiB - 8}, 16, DmaAccess::Write));
}
TEST_F(DmaBuffersTest, RefusesRom) { EXPECT_FALSE(buffers.add(memory, GuestPhys{1 * MiB}, 16, DmaAccess::Write)); }
TEST_F(DmaBuffersTest, RefusesToWrapAround) {
  EXPECT_FALSE(buffers.add(memory, GuestPhys{~std::uint64_t{0} - 8}, 16, DmaAccess::Write));
}
TEST_F(DmaBuffersTest, RefusesTooManyPieces) {
  for (std::size_t i = 0; i < DmaBuffers::max_pieces; ++i)
    ASSERT_TRUE(buffers.add(memory, GuestPhys{(i % 2) * 0x2000}, 16, DmaAccess::Write));
  EXPECT_FALSE(buffers.add(memory, GuestPhys{0x8000}, 16, DmaAccess::Write));
}
TEST_F(DmaBuffersTest, AnnouncesEveryByte) {
  memory.find(GuestPhys{0})->code_pages[1] = 1;
  memory.find(GuestPhys{0})->code_pages[5] = 1;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> heard;
  memory.set_code_write_listener(
      [&](MemorySlot&, std::uint64_t offset, std::uint64_t size) { heard.emplace_back(offset, size); });
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x5010}, 8, DmaAccess::Write));
  ASSERT_TRUE(buffers.add(memory, GuestPhys{0x0ff8}, 16, DmaAccess::Write));
  buffers.announce(memory);
  EXPECT_EQ(heard, (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0x5010, 8}, {0x0ff8, 16}}));
}

}  // namespace
}  // namespace veneer::machine
