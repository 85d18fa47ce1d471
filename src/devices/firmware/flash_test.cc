// The flash chip: its commands as OVMF and Linux' MTD drivers give them, and what it tells its store.
#include "devices/firmware/flash.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace veneer::devices {
namespace {

struct FakeStore final : FlashStore {
  explicit FakeStore(std::size_t size) : kept(size, std::byte{0xff}) {}
  bool write(std::uint64_t offset, std::span<const std::byte> data) override {
    if (full) return false;
    std::memcpy(kept.data() + offset, data.data(), data.size());
    return true;
  }
  void settle() override { ++settled; }
  std::vector<std::byte> kept;
  bool full = false;
  int settled = 0;
};

class Flash : public testing::Test {
 protected:
  std::uint8_t at(std::uint64_t offset) { return static_cast<std::uint8_t>(chip.read(offset, 1)); }
  void put(std::uint64_t offset, std::uint8_t value) { chip.write(offset, 1, value); }
  void program(std::uint64_t offset, std::uint8_t value) {
    put(offset, 0x10);
    put(offset, value);
  }
  std::vector<std::byte> contents = std::vector<std::byte>(4 * CfiFlash::block_bytes, std::byte{0xff});
  FakeStore store{contents.size()};
  bool shown = true;
  int switches = 0;
  CfiFlash chip{contents, &store, [this](bool array) {
                  shown = array;
                  ++switches;
                }};
};

TEST_F(Flash, ShowsItsContentsAtFirst) {
  contents[5] = std::byte{0x12};
  EXPECT_EQ(at(5), 0x12);
  EXPECT_EQ(chip.read(4, 4), 0xffff12ffu);
}

TEST_F(Flash, ProgramsAByteAndShowsTheStatusUntilToldOtherwise) {
  program(7, 0xa5);
  EXPECT_FALSE(shown);
  EXPECT_EQ(at(7), 0x80);
  put(7, 0xff);
  EXPECT_TRUE(shown);
  EXPECT_EQ(at(7), 0xa5);
}

TEST_F(Flash, ProgrammingMakesNoOnes) {
  program(7, 0x0f);
  program(7, 0xf5);
  EXPECT_EQ(contents[7], std::byte{0x05});
}

TEST_F(Flash, ErasesTheBlock) {
  program(4095, 0);
  program(4096, 0);
  program(8191, 0);
  put(5000, 0x20);
  put(5000, 0xd0);
  EXPECT_EQ(contents[4095], std::byte{0});
  EXPECT_EQ(contents[4096], std::byte{0xff});
  EXPECT_EQ(contents[8191], std::byte{0xff});
}

TEST_F(Flash, EraseWithoutConfirmationIsAnErrorAndErasesNothing) {
  program(0, 0);
  put(0, 0x20);
  put(0, 0xff);
  EXPECT_EQ(at(0), 0xb0);  // ready, both errors: a wrong sequence
  EXPECT_EQ(contents[0], std::byte{0});
}

TEST_F(Flash, ClearedStatusIsZeroAsOvmfWants) {
  put(0, 0x50);
  put(0, 0x70);
  EXPECT_EQ(at(0), 0);
}

TEST_F(Flash, ErrorsStayUntilTheyAreCleared) {
  put(0, 0x20);
  put(0, 0);
  program(1, 1);
  EXPECT_EQ(at(0), 0xb0);
  put(0, 0x50);
  program(1, 1);
  EXPECT_EQ(at(0), 0x80);
}

TEST_F(Flash, BufferedWrite) {
  put(100, 0xe8);
  EXPECT_EQ(at(100), 0x80);
  put(100, 3);
  for (std::uint8_t i = 0; i < 4; ++i) put(100 + i, static_cast<std::uint8_t>(0x10 + i));
  EXPECT_EQ(contents[100], std::byte{0xff});
  put(100, 0xd0);
  EXPECT_EQ(contents[100], std::byte{0x10});
  EXPECT_EQ(contents[103], std::byte{0x13});
  EXPECT_EQ(contents[104], std::byte{0xff});
}

TEST_F(Flash, BufferedWriteOutsideItsBufferIsAnError) {
  put(100, 0xe8);
  put(100, 3);
  put(100, 1);
  put(99, 1);
  EXPECT_EQ(at(0), 0xb0);
  EXPECT_EQ(contents[100], std::byte{0xff});
}

TEST_F(Flash, IdentifiesItself) {
  put(0, 0x90);
  EXPECT_EQ(at(0), 0x89);
  EXPECT_EQ(at(2), 0);
}

TEST_F(Flash, AnswersTheCommonQuery) {
  put(0x55, 0x98);
  EXPECT_EQ(at(0x10), 'Q');
  EXPECT_EQ(at(0x11), 'R');
  EXPECT_EQ(at(0x12), 'Y');
  EXPECT_EQ(at(0x13), 1);   // command set
  EXPECT_EQ(at(0x27), 14);  // 2^14 bytes
  EXPECT_EQ(at(0x2a), 5);   // a buffer of 2^5
  EXPECT_EQ(at(0x2c), 1);   // one region
  EXPECT_EQ(at(0x2d), 3);   // four blocks
  EXPECT_EQ(at(0x2f), 16);  // of 16 times 256 bytes
  EXPECT_EQ(at(0x31), 'P');
}

TEST_F(Flash, TellsTheStoreWhatItHolds) {
  program(9, 0x42);
  EXPECT_EQ(store.kept, contents);
  EXPECT_EQ(store.settled, 0);
  put(0, 0xff);
  EXPECT_EQ(store.settled, 1);
}

TEST_F(Flash, AStoreThatFailsIsAProgrammingError) {
  store.full = true;
  program(9, 0x42);
  EXPECT_EQ(at(0), 0x90);
}

TEST_F(Flash, MemoryIsSwitchedOnlyWhenItMatters) {
  program(1, 1);
  program(2, 1);
  put(2, 0xff);
  EXPECT_EQ(switches, 2);
}

TEST_F(Flash, TheLastBytesAreTheEnd) {
  chip.write(contents.size() - 1, 1, 0x10);
  chip.write(contents.size() - 1, 4, 0);
  EXPECT_EQ(contents.back(), std::byte{0});
}

}  // namespace
}  // namespace veneer::devices
