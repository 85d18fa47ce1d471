// The floppy controller, driven as BIOSes and Linux do it.
#include <gtest/gtest.h>

#include <algorithm>

#include "devices/floppy/floppy_controller.h"
#include "devices/testing/fake_backend.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t TO_MEMORY = 0x46, FROM_MEMORY = 0x4a;
constexpr std::uint32_t buffer = 0x2000;

class FloppyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(memory.add("ram", GuestPhys{0}, MiB, machine::SlotKind::Ram).ok());
    for (std::size_t i = 0; i < disk.bytes.size(); ++i) disk.bytes[i] = static_cast<std::byte>(i / 512);
    controller.attach(0, disk);
    out8(controller, 2, 0x00);
    out8(controller, 2, 0x1c);  // out of reset, DMA, motor and drive A
    for (unsigned i = 0; i < 4; ++i) command({0x08});
    out8(controller.change_port(), 0, 0);  // 500 kbps
  }
  /// Its results.
  Bytes command(std::initializer_list<std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) {
      EXPECT_EQ(in8(controller, 4) & 0xc0, 0x80);
      out8(controller, 5, byte);
    }
    return results();
  }
  Bytes results() {
    Bytes out;
    while ((in8(controller, 4) & 0xc0) == 0xc0) out.push_back(in8(controller, 5));
    return out;
  }
  void program_dma(std::uint8_t mode, std::uint16_t bytes) {
    out8(dma.master(), 10, 0x06);
    out8(dma.master(), 12, 0);
    out8(dma.master(), 11, mode);
    for (const unsigned shift : {0u, 8u}) out8(dma.master(), 4, static_cast<std::uint8_t>(buffer >> shift));
    for (const unsigned shift : {0u, 8u}) out8(dma.master(), 5, static_cast<std::uint8_t>((bytes - 1u) >> shift));
    out8(dma.master(), 10, 0x02);
  }
  std::uint8_t at(std::uint32_t offset) {
    std::uint8_t value = 0;
    EXPECT_TRUE(memory.read_value(GuestPhys{buffer + offset}, value));
    return value;
  }
  void put(std::uint32_t offset, Bytes bytes) {
    EXPECT_TRUE(memory.write(GuestPhys{buffer + offset}, std::as_bytes(std::span(bytes))));
  }
  Bytes transfer(std::uint8_t code, std::uint8_t c, std::uint8_t h, std::uint8_t r) {
    return command({code, static_cast<std::uint8_t>(h << 2), c, h, r, 2, 18, 0x1b, 0xff});
  }
  void seek(std::uint8_t track) {
    command({0x0f, 0, track});
    command({0x08});
  }

  testing::FakeIrqLine irq;
  machine::GuestMemory memory;
  IsaDma dma{memory};
  testing::FakeBackend disk{1474560};
  FloppyController controller{irq, dma};
};

TEST_F(FloppyTest, ResetIsToldOfForEachDrive) {
  out8(controller, 2, 0x08);
  EXPECT_FALSE(irq.level);
  out8(controller, 2, 0x0c);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(command({0x08}), (Bytes{0xc0, 0}));
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(command({0x08}), (Bytes{0xc1, 0}));
}

TEST_F(FloppyTest, NothingToSenseIsInvalid) { EXPECT_EQ(command({0x08}), (Bytes{0x80})); }

TEST_F(FloppyTest, VersionIsEnhanced) { EXPECT_EQ(command({0x10}), (Bytes{0x90})); }

TEST_F(FloppyTest, PartIdIsUnknownAsOnA82077) { EXPECT_EQ(command({0x18}), (Bytes{0x80})); }

TEST_F(FloppyTest, SeekInterruptsAndTellsItsTrack) {
  command({0x0f, 0, 5});
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(command({0x08}), (Bytes{0x20, 5}));
}

TEST_F(FloppyTest, RecalibrateFindsTrack0) {
  seek(5);
  command({0x07, 0});
  EXPECT_EQ(command({0x08}), (Bytes{0x20, 0}));
}

TEST_F(FloppyTest, MissingDriveHasNoTrack0) {
  command({0x07, 1});
  EXPECT_EQ(command({0x08}), (Bytes{0x71, 0}));
}

TEST_F(FloppyTest, ChangeLineFallsWithASeek) {
  EXPECT_EQ(in8(controller.change_port(), 0), 0x80);
  seek(1);
  EXPECT_EQ(in8(controller.change_port(), 0), 0x00);
}

TEST_F(FloppyTest, ReadsASector) {
  program_dma(TO_MEMORY, 512);
  const Bytes result = transfer(0xe6, 0, 0, 3);
  EXPECT_EQ(result, (Bytes{0x00, 0, 0, 0, 0, 4, 2}));
  EXPECT_EQ(at(0), 2);
  EXPECT_EQ(at(511), 2);
  EXPECT_TRUE(irq.rises > 0);
}

TEST_F(FloppyTest, ReadsAcrossHeads) {
  program_dma(TO_MEMORY, 1024);
  EXPECT_EQ(transfer(0xe6, 0, 0, 18), (Bytes{0x04, 0, 0, 0, 1, 2, 2}));
  EXPECT_EQ(at(0), 17);
  EXPECT_EQ(at(512), 18);
}

TEST_F(FloppyTest, EndOfTrackWithoutTerminalCountIsAbnormal) {
  program_dma(TO_MEMORY, 4096);
  const Bytes result = transfer(0x46, 0, 0, 18);
  EXPECT_EQ(result[0] & 0xc0, 0x40);
  EXPECT_EQ(result[1], 0x80);
}

TEST_F(FloppyTest, WritesASector) {
  put(0, Bytes(512, 0xab));
  program_dma(FROM_MEMORY, 512);
  EXPECT_EQ(transfer(0xc5, 0, 1, 1)[0] & 0xc0, 0);
  EXPECT_EQ(disk.bytes[18 * 512], std::byte{0xab});
  EXPECT_EQ(disk.bytes[19 * 512], std::byte{19});
}

TEST_F(FloppyTest, WriteProtectedDiskIsNotWritten) {
  disk.is_read_only = true;
  program_dma(FROM_MEMORY, 512);
  const Bytes result = transfer(0xc5, 0, 0, 1);
  EXPECT_EQ(result[0] & 0xc0, 0x40);
  EXPECT_EQ(result[1], 0x02);
  EXPECT_EQ(command({0x04, 0})[0] & 0x40, 0x40);
}

TEST_F(FloppyTest, WrongTrackHasNoData) {
  program_dma(TO_MEMORY, 512);
  const Bytes result = transfer(0xe6, 3, 0, 1);
  EXPECT_EQ(result[1], 0x04);
  EXPECT_EQ(result[2], 0x10);
}

TEST_F(FloppyTest, ImpliedSeekGoesThere) {
  command({0x13, 0, 0x57, 0});
  program_dma(TO_MEMORY, 512);
  EXPECT_EQ(transfer(0xe6, 3, 0, 1)[0] & 0xc0, 0);
}

TEST_F(FloppyTest, SectorThatIsNotThere) {
  program_dma(TO_MEMORY, 512);
  EXPECT_EQ(transfer(0xe6, 0, 0, 19)[1], 0x04);
}

TEST_F(FloppyTest, WrongRateFindsNoMarks) {
  out8(controller.change_port(), 0, 2);
  const Bytes result = command({0x4a, 0});
  EXPECT_EQ(result[0] & 0xc0, 0x40);
  EXPECT_EQ(result[1], 0x01);
}

TEST_F(FloppyTest, ReadIdTellsWhereTheHeadIs) {
  seek(7);
  const Bytes result = command({0x4a, 4});
  EXPECT_EQ(result[0], 0x04);
  EXPECT_EQ(result[3], 7);
  EXPECT_EQ(result[4], 1);
}

TEST_F(FloppyTest, FormatsATrack) {
  seek(1);
  for (std::uint8_t i = 0; i < 18; ++i) put(4u * i, {1, 0, static_cast<std::uint8_t>(i + 1), 2});
  program_dma(FROM_MEMORY, 72);
  EXPECT_EQ(command({0x4d, 0, 2, 18, 0x50, 0xf6})[0] & 0xc0, 0);
  EXPECT_TRUE(std::all_of(disk.bytes.begin() + 36 * 512, disk.bytes.begin() + 54 * 512,
                          [](std::byte byte) { return byte == std::byte{0xf6}; }));
  EXPECT_EQ(disk.bytes[54 * 512], std::byte{54});
  EXPECT_EQ(disk.bytes[35 * 512], std::byte{35});
}

TEST_F(FloppyTest, FailureOfTheHostIsADataError) {
  disk.answer = disk::IoStatus::Failed;
  program_dma(TO_MEMORY, 512);
  EXPECT_EQ(transfer(0xe6, 0, 0, 1)[1], 0x20);
}

TEST_F(FloppyTest, MaskedChannelOverruns) { EXPECT_EQ(transfer(0xe6, 0, 0, 1)[1], 0x10); }

TEST_F(FloppyTest, BehindTheEndOfAShortImageAreZeros) {
  testing::FakeBackend half{1000 * 512};
  controller.attach(0, half);
  seek(79);
  put(0, {0xff});
  program_dma(TO_MEMORY, 512);
  EXPECT_EQ(transfer(0xe6, 79, 0, 1)[0] & 0xc0, 0);
  EXPECT_EQ(at(0), 0);
  program_dma(FROM_MEMORY, 512);
  EXPECT_EQ(transfer(0xc5, 79, 0, 1)[0] & 0xc0, 0x40);
}

TEST_F(FloppyTest, BusyWhileTheHostReads) {
  disk.hold = true;
  program_dma(TO_MEMORY, 512);
  transfer(0xe6, 0, 0, 1);
  EXPECT_EQ(in8(controller, 4), 0x10);
  disk.hold = false;
  disk.release();
  EXPECT_EQ(results().size(), 7u);
}

TEST_F(FloppyTest, AnswerBehindAResetCountsForNothing) {
  disk.hold = true;
  program_dma(TO_MEMORY, 512);
  transfer(0xe6, 0, 0, 1);
  out8(controller, 2, 0x18);
  out8(controller, 2, 0x1c);
  disk.release();
  EXPECT_EQ(in8(controller, 4), 0x80);
  EXPECT_EQ(at(0), 0);
}

TEST_F(FloppyTest, LockKeepsTheConfiguration) {
  command({0x13, 0, 0x57, 0});
  EXPECT_EQ(command({0x94}), (Bytes{0x10}));
  out8(controller, 2, 0x18);
  out8(controller, 2, 0x1c);
  EXPECT_EQ(command({0x0e}).at(8), 0x57);
}

TEST(FloppyFormat, SizesAreKnown) {
  EXPECT_EQ(floppy_format(737280)->sectors, 9);
  EXPECT_EQ(floppy_format(1296384)->sectors, 18);
  EXPECT_EQ(floppy_format(1474561)->sectors, 36);
  EXPECT_EQ(floppy_format(2949121), nullptr);
}

}  // namespace
}  // namespace veneer::devices
