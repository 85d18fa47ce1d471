// IDE: PIO, DMA and packets as drivers use them, and drivers that ask for nonsense.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "devices/ata/ata.h"
#include "devices/ide/ide_controller.h"
#include "devices/testing/fake_backend.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using namespace ata;
using testing::in8;
using testing::out8;

class IdeTest : public ::testing::Test {
 protected:
  IdeTest() {
    EXPECT_TRUE(memory.add("ram", GuestPhys{0}, 0x10'0000, machine::SlotKind::Ram).ok());
    for (std::size_t i = 0; i < disk.bytes.size(); ++i) disk.bytes[i] = static_cast<std::byte>(i / 512 + i);
    for (std::size_t i = 0; i < disc.bytes.size(); ++i) disc.bytes[i] = static_cast<std::byte>(i / 2048 + 3 * i);
    channel.attach(0, AtaDriveKind::Disk, disk);
    channel.attach(1, AtaDriveKind::Cdrom, disc);
    channel.reset();
  }
  void start(std::uint8_t command, std::uint32_t lba, std::uint8_t count) {
    out8(channel, DEVICE, static_cast<std::uint8_t>(LBA | (lba >> 24)));
    out8(channel, SECTOR_COUNT, count);
    out8(channel, LBA_LOW, static_cast<std::uint8_t>(lba));
    out8(channel, LBA_MID, static_cast<std::uint8_t>(lba >> 8));
    out8(channel, LBA_HIGH, static_cast<std::uint8_t>(lba >> 16));
    out8(channel, STATUS_COMMAND, command);
  }
  std::uint8_t status() { return in8(channel, STATUS_COMMAND); }
  void packet(std::initializer_list<std::uint8_t> bytes, std::uint16_t limit = 0x8000, bool dma = false) {
    out8(channel, DEVICE, 0x10);
    out8(channel, ERROR_FEATURES, dma);
    out8(channel, LBA_MID, static_cast<std::uint8_t>(limit));
    out8(channel, LBA_HIGH, static_cast<std::uint8_t>(limit >> 8));
    out8(channel, STATUS_COMMAND, 0xa0);
    std::array<std::uint8_t, 12> all{};
    std::copy(bytes.begin(), bytes.end(), all.begin());
    for (unsigned i = 0; i < 12; i += 2) channel.write(DATA, 2, all[i] | all[i + 1] << 8);
  }
  /// A table with one descriptor at 0x100, and the start bit.
  void start_dma(std::uint32_t address, std::uint32_t bytes, bool to_memory) {
    const std::uint32_t entry[2] = {address, (bytes & 0xffff) | 0x8000'0000};
    ASSERT_TRUE(memory.write_value(GuestPhys{0x100}, entry));
    for (unsigned i = 0; i < 4; ++i) channel.bus_master().write(4 + i, static_cast<std::uint8_t>(0x100u >> (8 * i)));
    channel.bus_master().write(0, static_cast<std::uint8_t>(1 | (to_memory ? 8 : 0)));
  }
  testing::FakeIrqLine irq;
  machine::GuestMemory memory;
  testing::FakeBackend disk{1024 * 512}, disc{64 * 2048};
  IdeChannel channel{irq, memory};
};

TEST_F(IdeTest, PioReadGivesTheSectorsAndAnInterruptForEach) {
  start(0x20, 5, 2);
  for (std::size_t i = 0; i < 1024; i += 2) {
    ASSERT_TRUE(status() & DRQ) << i;
    const auto want =
        static_cast<unsigned>(disk.bytes[5 * 512 + i]) | static_cast<unsigned>(disk.bytes[5 * 512 + i + 1]) << 8;
    ASSERT_EQ(channel.read(DATA, 2), want) << i;
  }
  EXPECT_EQ(status(), DRDY | DSC);
  EXPECT_EQ(irq.rises, 2u);
}

TEST_F(IdeTest, PioWriteReachesTheDisk) {
  start(0x30, 9, 1);
  for (unsigned i = 0; i < 256; ++i) channel.write(DATA, 2, 0x1234);
  EXPECT_EQ(status(), DRDY | DSC);
  EXPECT_EQ(disk.bytes[9 * 512], std::byte{0x34});
  EXPECT_EQ(disk.bytes[9 * 512 + 511], std::byte{0x12});
  EXPECT_EQ(irq.rises, 1u);
}

TEST_F(IdeTest, LargeReadsGoInPieces) {
  start(0x20, 0, 0);  // 256 sectors: more than the buffer
  std::size_t bad = 0;
  for (std::size_t i = 0; i < 256 * 512; i += 4) {
    std::uint32_t want = 0;
    std::memcpy(&want, &disk.bytes[i], 4);
    bad += channel.read(DATA, 4) != want;
  }
  EXPECT_EQ(bad, 0u);
  EXPECT_EQ(status(), DRDY | DSC);
}

TEST_F(IdeTest, DmaReadReachesMemory) {
  start(0xc8, 3, 4);
  start_dma(0x4000, 4 * 512, true);
  std::array<std::byte, 4 * 512> got{};
  ASSERT_TRUE(memory.read(GuestPhys{0x4000}, got));
  EXPECT_EQ(std::memcmp(got.data(), &disk.bytes[3 * 512], got.size()), 0);
  EXPECT_EQ(channel.bus_master().read(2), 4);
  EXPECT_EQ(status(), DRDY | DSC);
}

TEST_F(IdeTest, DmaWriteReachesTheDisk) {
  ASSERT_TRUE(memory.write_value(GuestPhys{0x4000}, std::uint32_t{0xdeadbeef}));
  start(0xca, 7, 1);
  start_dma(0x4000, 512, false);
  EXPECT_EQ(status(), DRDY | DSC);
  EXPECT_EQ(disk.bytes[7 * 512], std::byte{0xef});
}

/// Answers from inside start(), and knows how deep it was called.
class DeepBackend final : public testing::FakeBackend {
 public:
  using FakeBackend::FakeBackend;
  void start() override {
    deepest = std::max(deepest, ++depth);
    FakeBackend::start();
    --depth;
  }
  unsigned depth = 0, deepest = 0;
};

TEST_F(IdeTest, LongCommandsOfDisksThatAnswerAtOnceNeedNoDeepStack) {
  DeepBackend deep(0x1'0000 * 512);
  IdeChannel with_deep{irq, memory};
  with_deep.attach(0, AtaDriveKind::Disk, deep);
  with_deep.reset();
  // Descriptors of 64 KiB each, all of the same RAM; the table ends with the command.
  for (std::uint32_t i = 0; i < 512; ++i) {
    const std::uint32_t entry[2] = {0x1'0000, i == 511 ? 0x8000'0000 : 0};
    ASSERT_TRUE(memory.write_value(GuestPhys{0x2'0000 + 8 * i}, entry));
  }
  for (unsigned i = 0; i < 4; ++i) with_deep.bus_master().write(4 + i, static_cast<std::uint8_t>(0x2'0000u >> (8 * i)));
  for (const unsigned reg : {SECTOR_COUNT, LBA_LOW, LBA_MID, LBA_HIGH})
    for (unsigned twice = 0; twice < 2; ++twice) out8(with_deep, reg, 0);
  out8(with_deep, DEVICE, LBA);
  out8(with_deep, STATUS_COMMAND, 0x25);  // READ DMA EXT, count 0: 65536 sectors
  with_deep.bus_master().write(0, 9);
  EXPECT_EQ(in8(with_deep, STATUS_COMMAND), DRDY | DSC);
  EXPECT_EQ(deep.requests, 512u);
  EXPECT_LE(deep.deepest, 2u);
}

TEST_F(IdeTest, StateComesBackWhenTheSmallerDriveIsSelectedAfterwards) {
  start(0x20, 1000, 1);
  for (unsigned i = 0; i < 256; ++i) (void)channel.read(DATA, 2);
  out8(channel, DEVICE, 0x10);
  const std::vector<std::byte> state = testing::saved(channel);
  EXPECT_TRUE(testing::restore(channel, state));
  EXPECT_EQ(testing::saved(channel), state);
}

TEST_F(IdeTest, StateComesBackInTheMiddleOfTheFirstPacket) {
  out8(channel, DEVICE, 0x10);
  out8(channel, STATUS_COMMAND, 0xa0);
  channel.write(DATA, 2, 0x12);
  const std::vector<std::byte> state = testing::saved(channel);
  EXPECT_TRUE(testing::restore(channel, state));
  EXPECT_EQ(testing::saved(channel), state);
}

TEST_F(IdeTest, DmaIntoNothingIsAnError) {
  start(0xc8, 3, 4);
  start_dma(0xf000'0000, 4 * 512, true);
  EXPECT_TRUE(status() & ERR);
  EXPECT_TRUE(channel.bus_master().read(2) & 2);
  EXPECT_FALSE(channel.bus_master().active());
}

TEST_F(IdeTest, DmaTableThatIsTooShortIsAnError) {
  start(0xc8, 3, 4);
  start_dma(0x4000, 512, true);
  EXPECT_TRUE(status() & ERR);
}

TEST_F(IdeTest, SectorsBehindTheEndAreNotFound) {
  start(0x20, 1023, 2);
  EXPECT_TRUE(status() & ERR);
  EXPECT_EQ(in8(channel, ERROR_FEATURES), IDNF);
  EXPECT_EQ(disk.requests, 0u);
}

TEST_F(IdeTest, WideAddressesBehindTheEndAreNotFound) {
  for (const unsigned reg : {LBA_LOW, LBA_MID, LBA_HIGH}) {
    out8(channel, reg, 0xff);
    out8(channel, reg, 0xff);
  }
  out8(channel, DEVICE, LBA);
  out8(channel, STATUS_COMMAND, 0x25);
  EXPECT_TRUE(status() & ERR);
}

TEST_F(IdeTest, ReadOnlyDisksRefuseWrites) {
  disk.is_read_only = true;
  start(0x30, 9, 1);
  EXPECT_TRUE(status() & ERR);
}

TEST_F(IdeTest, HostErrorsAreReported) {
  disk.answer = disk::IoStatus::Failed;
  start(0x20, 0, 1);
  EXPECT_TRUE(status() & ERR);
  EXPECT_EQ(in8(channel, ERROR_FEATURES), UNC);
}

TEST_F(IdeTest, ChsAddressesTheSameSectors) {
  out8(channel, DEVICE, 1);  // head 1
  out8(channel, SECTOR_COUNT, 1);
  out8(channel, LBA_LOW, 2);
  out8(channel, LBA_MID, 0);
  out8(channel, LBA_HIGH, 0);
  out8(channel, STATUS_COMMAND, 0x20);
  EXPECT_EQ(channel.read(DATA, 2) & 0xff, static_cast<unsigned>(disk.bytes[64 * 512]));
}

TEST_F(IdeTest, SoftwareResetShowsSignatures) {
  start(0x20, 0, 1);
  out8(channel.control_port(), 0, SRST);
  EXPECT_EQ(in8(channel.control_port(), 0), BSY);
  out8(channel.control_port(), 0, 0);
  EXPECT_EQ(in8(channel, LBA_MID), 0);
  EXPECT_EQ(status(), DRDY | DSC);
}

TEST_F(IdeTest, AnswersOfTheDiskAfterAResetCountForNothing) {
  disk.hold = true;
  start(0x20, 0, 1);
  EXPECT_TRUE(status() & BSY);
  out8(channel.control_port(), 0, SRST);
  out8(channel.control_port(), 0, 0);
  EXPECT_EQ(status(), DRDY | DSC);
}

TEST_F(IdeTest, AnAbsentDriveReadsAsZero) {
  IdeChannel alone{irq, memory};
  alone.attach(0, AtaDriveKind::Disk, disk);
  out8(alone, DEVICE, 0x10);
  EXPECT_EQ(in8(alone, STATUS_COMMAND), 0);
}

TEST_F(IdeTest, PacketReadGivesTheSector) {
  packet({0x28, 0, 0, 0, 0, 7, 0, 0, 1});
  std::size_t bad = 0;
  for (std::size_t i = 0; i < 2048; i += 2) {
    std::uint16_t want = 0;
    std::memcpy(&want, &disc.bytes[7 * 2048 + i], 2);
    bad += channel.read(DATA, 2) != want;
  }
  EXPECT_EQ(bad, 0u);
  EXPECT_EQ(status() & (ERR | DRQ), 0);
  EXPECT_EQ(in8(channel, SECTOR_COUNT), 3);
}

TEST_F(IdeTest, PacketBlocksKeepTheHostsLimit) {
  packet({0x28, 0, 0, 0, 0, 7, 0, 0, 1}, 512);
  EXPECT_EQ(in8(channel, LBA_MID) | in8(channel, LBA_HIGH) << 8, 512);
  (void)status();
  for (unsigned i = 0; i < 256; ++i) (void)channel.read(DATA, 2);
  EXPECT_EQ(irq.rises, 2u);
  EXPECT_TRUE(status() & DRQ);
}

TEST_F(IdeTest, PacketReadByDma) {
  packet({0x28, 0, 0, 0, 0, 2, 0, 0, 2}, 0, true);
  start_dma(0x8000, 4096, true);
  std::array<std::byte, 4096> got{};
  ASSERT_TRUE(memory.read(GuestPhys{0x8000}, got));
  EXPECT_EQ(std::memcmp(got.data(), &disc.bytes[2 * 2048], got.size()), 0);
}

TEST_F(IdeTest, PacketReadBehindTheEndHasSense) {
  packet({0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff});
  EXPECT_TRUE(status() & ERR);
  packet({0x03, 0, 0, 0, 18});
  EXPECT_EQ(channel.read(DATA, 2) & 0xff, 0x70u);
  EXPECT_EQ(channel.read(DATA, 2) & 0xf, SENSE_ILLEGAL_REQUEST);
}

TEST_F(IdeTest, CapacityIsTheLastSector) {
  packet({0x25});
  EXPECT_EQ(channel.read(DATA, 4), 0x3f00'0000u);
  EXPECT_EQ(channel.read(DATA, 4), 0x0008'0000u);
}

TEST_F(IdeTest, CdromShowsItselfToIdentify) {
  out8(channel, DEVICE, 0x10);
  out8(channel, STATUS_COMMAND, 0xec);
  EXPECT_TRUE(status() & ERR);
  EXPECT_EQ(in8(channel, LBA_MID), 0x14);
  EXPECT_EQ(in8(channel, LBA_HIGH), 0xeb);
}

TEST_F(IdeTest, NoInterruptWhileItIsSwitchedOff) {
  out8(channel.control_port(), 0, NIEN);
  start(0x20, 0, 1);
  EXPECT_FALSE(irq.level);
}

TEST_F(IdeTest, StateComesBackInTheMiddleOfATransfer) {
  start(0x20, 5, 2);
  for (unsigned i = 0; i < 100; ++i) (void)channel.read(DATA, 2);
  const auto state = testing::saved(channel);
  const std::uint64_t next = channel.read(DATA, 2);
  ASSERT_TRUE(testing::restore(channel, state));
  EXPECT_EQ(testing::saved(channel), state);
  EXPECT_EQ(channel.read(DATA, 2), next);
}

TEST_F(IdeTest, AnyAccessIsSurvived) {
  std::uint32_t random = 1;
  for (int i = 0; i < 200'000; ++i) {
    random = random * 1664525 + 1013904223;
    const unsigned size = 1u << ((random >> 8) & 3);
    const unsigned offset = (random >> 12) & 7;
    if ((random >> 16 & 7) == 0)
      channel.bus_master().write(offset, static_cast<std::uint8_t>(random >> 24));
    else if ((random >> 16 & 7) == 1)
      out8(channel.control_port(), 0, static_cast<std::uint8_t>(random >> 24 & ~SRST));
    else if (random & 0x8000'0000)
      channel.write(offset, size, (random >> 20) & 0xff);
    else
      (void)channel.read(offset, size);
  }
  SUCCEED();
}

}  // namespace
}  // namespace veneer::devices
