// What devices reach through a translation, and what is refused.
#include "machine/dma_space.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>

#include "machine/dma.h"

namespace veneer::machine {
namespace {

/// One level of pages; what is not in it is refused.
struct PageMap final : DmaTranslator {
  std::optional<DmaRun> translate(std::uint16_t requester, std::uint64_t address, std::uint64_t size_bytes,
                                  DmaAccess access) override {
    requesters = requester;
    const auto page = pages.find(address >> page_shift);
    if (page == pages.end() || (access == DmaAccess::Write && read_only.contains(page->first))) return std::nullopt;
    const std::uint64_t in_page = address & page_offset_mask;
    return DmaRun{GuestPhys{(page->second << page_shift) | in_page}, std::min(size_bytes, page_size - in_page)};
  }
  std::map<std::uint64_t, std::uint64_t> pages;
  std::map<std::uint64_t, bool> read_only;
  std::uint16_t requesters = 0;
};

class DmaSpaceTest : public testing::Test {
 protected:
  DmaSpaceTest() { EXPECT_TRUE(memory.add("ram", GuestPhys{0}, 64 * KiB, SlotKind::Ram).ok()); }
  std::uint8_t byte_at(std::uint64_t address) {
    std::uint8_t value = 0;
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }
  GuestMemory memory;
  PageMap map;
  DmaSpace space{memory, &map, 0x2b};
};

TEST_F(DmaSpaceTest, WithoutATranslationAddressesAreTheGuests) {
  const DmaSpace direct(memory);
  EXPECT_FALSE(direct.translated());
  ASSERT_TRUE(direct.write_value(GuestPhys{0x123}, std::uint8_t{9}));
  EXPECT_EQ(byte_at(0x123), 9);
}
TEST_F(DmaSpaceTest, AWriteGoesToEachPageOfItsOwn) {
  map.pages = {{0x100, 5}, {0x101, 2}};
  std::array<std::byte, 4> data = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  ASSERT_TRUE(space.write(GuestPhys{0x100ffe}, data));
  EXPECT_EQ(byte_at(0x5ffe), 1);
  EXPECT_EQ(byte_at(0x5fff), 2);
  EXPECT_EQ(byte_at(0x2000), 3);
  EXPECT_EQ(byte_at(0x2001), 4);
}
TEST_F(DmaSpaceTest, AReadComesFromEachPageOfItsOwn) {
  map.pages = {{0x100, 5}, {0x101, 2}};
  ASSERT_TRUE(memory.write_value(GuestPhys{0x5fff}, std::uint8_t{7}));
  ASSERT_TRUE(memory.write_value(GuestPhys{0x2000}, std::uint8_t{8}));
  std::uint16_t value = 0;
  ASSERT_TRUE(space.read_value(GuestPhys{0x100fff}, value));
  EXPECT_EQ(value, 0x0807);
}
TEST_F(DmaSpaceTest, ARefusedPageIsAnError) {
  map.pages = {{0x100, 5}};
  EXPECT_FALSE(space.write_value(GuestPhys{0x200000}, std::uint8_t{1}));
}
TEST_F(DmaSpaceTest, ReadingAndWritingAreAskedForApart) {
  map.pages = {{0x100, 5}};
  map.read_only = {{0x100, true}};
  std::uint8_t value = 0;
  EXPECT_TRUE(space.read_value(GuestPhys{0x100000}, value));
  EXPECT_FALSE(space.write_value(GuestPhys{0x100000}, value));
}
TEST_F(DmaSpaceTest, TheTranslatorHearsWhoAsks) {
  map.pages = {{0x100, 5}};
  ASSERT_TRUE(space.write_value(GuestPhys{0x100000}, std::uint8_t{1}));
  EXPECT_EQ(map.requesters, 0x2b);
}
TEST_F(DmaSpaceTest, WhatLeadsOutsideRamIsAnError) {
  map.pages = {{0x100, 0x10000}};
  EXPECT_FALSE(space.write_value(GuestPhys{0x100000}, std::uint8_t{1}));
}
TEST_F(DmaSpaceTest, RefusesToWrapAround) {
  std::uint64_t value = 0;
  EXPECT_FALSE(space.read_value(GuestPhys{~std::uint64_t{0} - 3}, value));
}
TEST_F(DmaSpaceTest, BuffersAreTranslatedPieceByPiece) {
  map.pages = {{0x100, 5}, {0x101, 6}, {0x102, 2}};
  DmaBuffers buffers;
  ASSERT_TRUE(buffers.add(space, GuestPhys{0x100800}, 0x2000, DmaAccess::Write));
  ASSERT_EQ(buffers.pieces().size(), 2u);  // pages 5 and 6 are neighbours
  EXPECT_EQ(buffers.pieces()[0].iov_base, memory.at(GuestPhys{0x5800}, 1));
  EXPECT_EQ(buffers.pieces()[0].iov_len, 0x1800u);
  EXPECT_EQ(buffers.pieces()[1].iov_base, memory.at(GuestPhys{0x2000}, 1));
}
TEST_F(DmaSpaceTest, BuffersAnnounceWhereTheyReallyAre) {
  map.pages = {{0x100, 5}};
  memory.find(GuestPhys{0})->code_pages[5] = 1;
  std::uint64_t heard = 0;
  memory.set_code_write_listener([&](MemorySlot&, std::uint64_t offset, std::uint64_t) { heard = offset; });
  DmaBuffers buffers;
  ASSERT_TRUE(buffers.add(space, GuestPhys{0x100010}, 8, DmaAccess::Write));
  buffers.announce(space);
  EXPECT_EQ(heard, 0x5010u);
}
TEST_F(DmaSpaceTest, BuffersOfARefusedAccessAreRefused) {
  map.pages = {{0x100, 5}};
  map.read_only = {{0x100, true}};
  DmaBuffers buffers;
  EXPECT_FALSE(buffers.add(space, GuestPhys{0x100000}, 8, DmaAccess::Write));
}

}  // namespace
}  // namespace veneer::machine
