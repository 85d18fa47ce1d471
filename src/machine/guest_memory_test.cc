// GuestMemory: slots, copies across slots, announcing writes to code pages.
#include "machine/guest_memory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <cstring>

namespace veneer::machine {
namespace {

class GuestMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    auto low_result = memory.add("low", GuestPhys{0}, 4 * page_size, SlotKind::Ram);
    auto rom_result = memory.add("rom", GuestPhys{4 * page_size}, page_size, SlotKind::Rom);
    ASSERT_TRUE(low_result.ok() && rom_result.ok());
    low = low_result.value();
    rom = rom_result.value();
  }
  void listen() {
    memory.set_code_write_listener([this](MemorySlot& slot, std::uint64_t offset, std::uint64_t size) {
      ++announcements;
      last_slot = slot.index;
      last_offset = offset;
      last_size = size;
    });
  }
  GuestMemory memory;
  MemorySlot* low = nullptr;
  MemorySlot* rom = nullptr;
  int announcements = 0;
  std::uint32_t last_slot = 0;
  std::uint64_t last_offset = 0, last_size = 0;
};

TEST_F(GuestMemoryTest, NewMemoryIsZero) {
  std::uint64_t value = 1;
  ASSERT_TRUE(memory.read_value(GuestPhys{page_size}, value));
  EXPECT_EQ(value, 0u);
}

TEST_F(GuestMemoryTest, WrittenValueReadsBack) {
  ASSERT_TRUE(memory.write_value(GuestPhys{0x123}, std::uint32_t{0xdeadbeef}));
  std::uint32_t value = 0;
  ASSERT_TRUE(memory.read_value(GuestPhys{0x123}, value));
  EXPECT_EQ(value, 0xdeadbeefu);
}

TEST_F(GuestMemoryTest, CopyCrossesSlots) {
  rom->host[0] = std::byte{0x5a};
  ASSERT_TRUE(memory.write_value(GuestPhys{4 * page_size - 1}, std::uint8_t{0xa5}));
  std::uint16_t value = 0;
  ASSERT_TRUE(memory.read_value(GuestPhys{4 * page_size - 1}, value));
  EXPECT_EQ(value, 0x5aa5u);
}

TEST_F(GuestMemoryTest, ReadPastTheEndFails) {
  std::uint16_t value = 0;
  EXPECT_FALSE(memory.read_value(GuestPhys{5 * page_size - 1}, value));
}

TEST_F(GuestMemoryTest, WritePastTheEndWritesNothing) {
  GuestMemory small;
  ASSERT_TRUE(small.add("small", GuestPhys{0}, page_size, SlotKind::Ram).ok());
  EXPECT_FALSE(small.write_value(GuestPhys{page_size - 1}, std::uint16_t{0xffff}));
  EXPECT_EQ(small.at(GuestPhys{page_size - 1}, 1)[0], std::byte{0});
}

TEST_F(GuestMemoryTest, AddressThatWrapsFails) {
  std::uint16_t value = 0;
  EXPECT_FALSE(memory.read_value(GuestPhys{~std::uint64_t{0}}, value));
}

TEST_F(GuestMemoryTest, DmaToRomGoesNowhere) {
  EXPECT_TRUE(memory.write_value(GuestPhys{4 * page_size}, std::uint8_t{1}));
  EXPECT_EQ(rom->host[0], std::byte{0});
}

TEST_F(GuestMemoryTest, PointerStaysInsideOneSlot) { EXPECT_EQ(memory.at(GuestPhys{4 * page_size - 1}, 2), nullptr); }

TEST_F(GuestMemoryTest, OverlapIsRefused) {
  EXPECT_FALSE(memory.add("again", GuestPhys{page_size}, page_size, SlotKind::Ram).ok());
}

TEST_F(GuestMemoryTest, PartialPagesAreRefused) {
  EXPECT_FALSE(memory.add("odd", GuestPhys{16 * page_size}, 100, SlotKind::Ram).ok());
}

TEST_F(GuestMemoryTest, RamBytesLeaveOutRom) { EXPECT_EQ(memory.ram_bytes(), 4 * page_size); }

TEST_F(GuestMemoryTest, WriteToAPlainPageIsNotAnnounced) {
  listen();
  ASSERT_TRUE(memory.write_value(GuestPhys{0}, std::uint8_t{1}));
  EXPECT_EQ(announcements, 0);
}

TEST_F(GuestMemoryTest, WriteToACodePageIsAnnounced) {
  listen();
  low->code_pages[1] = 1;
  ASSERT_TRUE(memory.write_value(GuestPhys{page_size + 8}, std::uint64_t{1}));
  EXPECT_EQ(announcements, 1);
  EXPECT_EQ(last_slot, low->index);
  EXPECT_EQ(last_offset, page_size + 8);
  EXPECT_EQ(last_size, 8u);
}

TEST_F(GuestMemoryTest, WriteThatOnlyEndsInACodePageIsAnnounced) {
  listen();
  low->code_pages[1] = 1;
  ASSERT_TRUE(memory.write_value(GuestPhys{page_size - 1}, std::uint16_t{1}));
  EXPECT_EQ(announcements, 1);
}

TEST_F(GuestMemoryTest, WrittenAnnouncesWhatWentThroughAPointer) {
  listen();
  low->code_pages[2] = 1;
  memory.at(GuestPhys{2 * page_size}, 1)[0] = std::byte{1};
  memory.written(GuestPhys{2 * page_size}, 1);
  EXPECT_EQ(announcements, 1);
}

TEST_F(GuestMemoryTest, DataIsThereBeforeItIsAnnounced) {
  std::byte seen{0};
  memory.set_code_write_listener(
      [&](MemorySlot& slot, std::uint64_t offset, std::uint64_t) { seen = slot.host[offset]; });
  low->code_pages[0] = 1;
  ASSERT_TRUE(memory.write_value(GuestPhys{5}, std::uint8_t{0x77}));
  EXPECT_EQ(seen, std::byte{0x77});
}

TEST_F(GuestMemoryTest, EmptyWriteIsNotAnnounced) {
  listen();
  low->code_pages[0] = 1;
  EXPECT_TRUE(memory.write(GuestPhys{0}, {}));
  EXPECT_EQ(announcements, 0);
}

/// RAM at C0000h with ROM behind it: four pages, ROM bytes 0x11, RAM bytes 0x22.
class ShadowRam : public testing::Test {
 protected:
  ShadowRam() {
    front = memory.add("ram", GuestPhys{base}, 4 * page_size, SlotKind::Ram).value();
    rom = memory.add_behind("rom", *front).value();
    std::memset(front->host, 0x22, front->size_bytes);
    std::memset(rom->host, 0x11, rom->size_bytes);
    memory.set_map_listener([this] { ++changes; });
  }
  std::uint8_t at(std::uint64_t address) const {
    std::uint8_t value = 0;
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }
  static constexpr std::uint64_t base = 0xc'0000;
  GuestMemory memory;
  MemorySlot* front = nullptr;
  MemorySlot* rom = nullptr;
  unsigned changes = 0;
};

TEST_F(ShadowRam, RomAnswersAtFirst) { EXPECT_EQ(at(base), 0x11); }

TEST_F(ShadowRam, RamAnswersWhereItIsSwitchedOn) {
  memory.set_shadow(GuestPhys{base + page_size}, page_size, SHADOW_READS);
  EXPECT_EQ(at(base + page_size - 1), 0x11);
  EXPECT_EQ(at(base + page_size), 0x22);
  EXPECT_EQ(at(base + 2 * page_size), 0x11);
}

TEST_F(ShadowRam, OneReadPassesThroughBoth) {
  memory.set_shadow(GuestPhys{base + page_size}, page_size, SHADOW_READS);
  std::uint16_t value = 0;
  ASSERT_TRUE(memory.read_value(GuestPhys{base + page_size - 1}, value));
  EXPECT_EQ(value, 0x2211);
}

TEST_F(ShadowRam, PointersEndWhereTheOtherBegins) {
  memory.set_shadow(GuestPhys{base + page_size}, page_size, SHADOW_READS);
  EXPECT_EQ(memory.at(GuestPhys{base}, page_size), rom->host);
  EXPECT_EQ(memory.at(GuestPhys{base}, page_size + 1), nullptr);
}

TEST_F(ShadowRam, ProtectedRamKeepsItsContents) {
  memory.set_shadow(GuestPhys{base}, page_size, SHADOW_READS);
  ASSERT_TRUE(memory.write_value(GuestPhys{base}, std::uint8_t{0x33}));
  EXPECT_EQ(at(base), 0x22);
  EXPECT_FALSE(front->writable_at(0));
}

TEST_F(ShadowRam, OpenRamTakesWrites) {
  memory.set_shadow(GuestPhys{base}, page_size, SHADOW_READS | SHADOW_WRITES);
  ASSERT_TRUE(memory.write_value(GuestPhys{base}, std::uint8_t{0x33}));
  EXPECT_EQ(at(base), 0x33);
}

TEST_F(ShadowRam, HiddenRamTakesWritesBehindTheRomThatIsRead) {
  const std::array<std::byte, 1> data{std::byte{0x33}};
  EXPECT_FALSE(memory.write_hidden(GuestPhys{base}, data));
  memory.set_shadow(GuestPhys{base}, page_size, SHADOW_WRITES);
  EXPECT_TRUE(memory.write_hidden(GuestPhys{base}, data));
  EXPECT_EQ(at(base), 0x11);
  memory.set_shadow(GuestPhys{base}, page_size, SHADOW_READS);
  EXPECT_EQ(at(base), 0x33);
}

TEST_F(ShadowRam, TellsOfChangesOnly) {
  memory.set_shadow(GuestPhys{base}, page_size, SHADOW_READS);
  memory.set_shadow(GuestPhys{base}, page_size, SHADOW_READS);
  EXPECT_EQ(changes, 1u);
}

class SwitchedRom : public testing::Test {
 protected:
  SwitchedRom() : rom(memory.add_switched("rom", GuestPhys{page_size}, 2 * page_size).value()) {
    rom->host[0] = std::byte{0x44};
    memory.set_map_listener([this] { ++changes; });
  }
  GuestMemory memory;
  MemorySlot* rom;
  int changes = 0;
};

TEST_F(SwitchedRom, AnswersAtFirst) { EXPECT_EQ(memory.find(GuestPhys{page_size}), rom); }

TEST_F(SwitchedRom, NobodyAnswersWhenItIsOff) {
  memory.set_shadow(GuestPhys{page_size}, page_size, 0);
  EXPECT_EQ(memory.find(GuestPhys{page_size}), nullptr);
  EXPECT_EQ(memory.find(GuestPhys{2 * page_size}), rom);
  EXPECT_EQ(changes, 1);
}

TEST_F(SwitchedRom, PointersEndWhereItIsOff) {
  memory.set_shadow(GuestPhys{2 * page_size}, page_size, 0);
  EXPECT_NE(memory.at(GuestPhys{page_size}, page_size), nullptr);
  EXPECT_EQ(memory.at(GuestPhys{page_size}, page_size + 1), nullptr);
}

TEST_F(SwitchedRom, KeepsItsContents) {
  const std::byte value{0};
  EXPECT_TRUE(memory.write(GuestPhys{page_size}, std::span(&value, 1)));
  memory.set_shadow(GuestPhys{page_size}, 2 * page_size, 0);
  memory.set_shadow(GuestPhys{page_size}, 2 * page_size, SHADOW_READS);
  EXPECT_EQ(*memory.at(GuestPhys{page_size}, 1), std::byte{0x44});
}

/// Of a memfd: what the host holds for it.
std::uint64_t held_bytes(const MemorySlot& slot) {
  struct stat info {};
  EXPECT_EQ(::fstat(slot.memfd.get(), &info), 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

class DiscardTest : public GuestMemoryTest {
 protected:
  void SetUp() override {
    GuestMemoryTest::SetUp();
    listen();
    std::memset(low->host, 0x77, low->size_bytes);
    std::memset(rom->host, 0x77, rom->size_bytes);
  }
  std::uint8_t byte_at(std::uint64_t address) {
    std::uint8_t value = 0;
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }
};

TEST_F(DiscardTest, PagesGoBackAndReadAsZeros) {
  const std::uint64_t before = held_bytes(*low);
  EXPECT_EQ(memory.discard(GuestPhys{page_size}, 2 * page_size), 2 * page_size);
  EXPECT_EQ(held_bytes(*low), before - 2 * page_size);
  EXPECT_EQ(byte_at(page_size - 1), 0x77);
  EXPECT_EQ(byte_at(page_size), 0);
  EXPECT_EQ(byte_at(3 * page_size - 1), 0);
  EXPECT_EQ(byte_at(3 * page_size), 0x77);
}

TEST_F(DiscardTest, ThePagesCanBeUsedAgain) {
  memory.discard(GuestPhys{0}, 4 * page_size);
  ASSERT_TRUE(memory.write_value(GuestPhys{page_size}, std::uint8_t{1}));
  EXPECT_EQ(byte_at(page_size), 1);
}

TEST_F(DiscardTest, PartsOfPagesStay) {
  EXPECT_EQ(memory.discard(GuestPhys{1}, 2 * page_size), page_size);
  EXPECT_EQ(byte_at(page_size - 1), 0x77);
  EXPECT_EQ(byte_at(page_size), 0);
  EXPECT_EQ(byte_at(2 * page_size), 0x77);
}

TEST_F(DiscardTest, LessThanAPageIsNothing) {
  EXPECT_EQ(memory.discard(GuestPhys{1}, page_size), 0u);
  EXPECT_EQ(byte_at(0), 0x77);
  EXPECT_EQ(byte_at(page_size), 0x77);
}

TEST_F(DiscardTest, RomStays) {
  EXPECT_EQ(memory.discard(GuestPhys{0}, 5 * page_size), 4 * page_size);
  EXPECT_EQ(byte_at(4 * page_size), 0x77);
}

TEST_F(DiscardTest, ShadowRamStays) {
  auto front = memory.add("shadow", GuestPhys{8 * page_size}, page_size, SlotKind::Ram);
  ASSERT_TRUE(front.ok() && memory.add_behind("behind", *front.value()).ok());
  front.value()->host[0] = std::byte{0x33};
  EXPECT_EQ(memory.discard(GuestPhys{8 * page_size}, page_size), 0u);
  EXPECT_EQ(front.value()->host[0], std::byte{0x33});
}

TEST_F(DiscardTest, EverythingThereIsCanGoAtOnce) {
  EXPECT_EQ(memory.discard(GuestPhys{0}, ~std::uint64_t{0}), 4 * page_size);
}

TEST_F(DiscardTest, WhereThereIsNoMemoryNothingGoes) {
  EXPECT_EQ(memory.discard(GuestPhys{64 * page_size}, page_size), 0u);
  EXPECT_EQ(memory.discard(GuestPhys{~std::uint64_t{0}}, page_size), 0u);
  EXPECT_EQ(memory.discard(GuestPhys{~std::uint64_t{0} & ~std::uint64_t{page_offset_mask}}, page_size), 0u);
}

TEST_F(DiscardTest, CodeThatWentIsAnnounced) {
  low->code_pages[2] = 1;
  memory.discard(GuestPhys{0}, 4 * page_size);
  EXPECT_EQ(announcements, 1);
  EXPECT_EQ(last_offset, 2 * page_size);
  EXPECT_EQ(last_size, page_size);
}

TEST_F(DiscardTest, CodeThatStaysIsNotAnnounced) {
  low->code_pages[3] = 1;
  memory.discard(GuestPhys{0}, 3 * page_size);
  EXPECT_EQ(announcements, 0);
}

}  // namespace
}  // namespace veneer::machine
