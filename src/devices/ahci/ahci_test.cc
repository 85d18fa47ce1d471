// AHCI: a tiny driver that does as the specification says, and one that does not.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "devices/ahci/ahci_controller.h"
#include "devices/pci/pci_bus.h"
#include "devices/testing/fake_backend.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using namespace ahci;
using namespace ata;

constexpr std::uint64_t ram_bytes = 4 * MiB;
constexpr std::uint64_t list_at = 0x1000, fis_at = 0x2000, tables_at = 0x4000, data_at = 0x10'0000;
constexpr std::uint8_t READ_DMA_EXT = 0x25, WRITE_DMA_EXT = 0x35, IDENTIFY = 0xec, PACKET = 0xa0, TRIM = 0x06;
constexpr std::uint8_t READ_QUEUED = 0x60, WRITE_QUEUED = 0x61, READ_LOG = 0x2f, FLUSH = 0xea, READ_SECTORS = 0x20;
constexpr std::uint32_t started = CMD_ST | CMD_FRE;

/// Pieces of guest memory, and their sizes.
using Regions = std::vector<std::pair<std::uint64_t, std::uint32_t>>;

class AhciTest : public ::testing::Test {
 protected:
  AhciTest() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok());
    for (std::size_t i = 0; i < disk.bytes.size(); ++i) disk.bytes[i] = static_cast<std::byte>(i / 512 + i);
    for (std::size_t i = 0; i < disc.bytes.size(); ++i) disc.bytes[i] = static_cast<std::byte>(i / 2048 + 3 * i);
    controller.attach(0, AtaDriveKind::Disk, disk);
    controller.attach(1, AtaDriveKind::Cdrom, disc);
    bus.plug(8, controller);
    bus.reset();
    bus.assign_resources({0xc000'0000, 0x10'0000, 0, 0, 0, 0});
    controller.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER);
    registers = controller.bar_address(5);
    for (const unsigned port : {0u, 1u}) start_port(port);
    write(GHC, GHC_IE);
  }
  void start_port(unsigned port) {
    set(port, PxCLB, list_of(port));
    set(port, PxFB, fis_of(port));
    set(port, PxSERR, ~0u);
    set(port, PxIS, ~0u);
    set(port, PxIE, IE_BITS);
    set(port, PxCMD, CMD_FRE);
    set(port, PxCMD, started);
  }
  static std::uint32_t list_of(unsigned port) { return static_cast<std::uint32_t>(list_at + port * 0x400); }
  static std::uint32_t fis_of(unsigned port) { return static_cast<std::uint32_t>(fis_at + port * 0x100); }
  static std::uint64_t table_of(unsigned port, unsigned slot) { return tables_at + (port * 32 + slot) * 0x400; }

  std::uint32_t read(std::uint64_t offset) { return static_cast<std::uint32_t>(memory.read(registers + offset, 4)); }
  void write(std::uint64_t offset, std::uint32_t value) { memory.write(registers + offset, 4, value); }
  std::uint32_t get(unsigned port, std::uint32_t offset) { return read(PORTS_BASE + port * PORT_BYTES + offset); }
  void set(unsigned port, std::uint32_t offset, std::uint32_t value) {
    write(PORTS_BASE + port * PORT_BYTES + offset, value);
  }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(ram.read_value(GuestPhys{address}, value));
    return value;
  }

  static std::array<std::uint8_t, 20> command(std::uint8_t code, std::uint64_t lba = 0, std::uint16_t count = 0) {
    const auto byte = [](std::uint64_t value, unsigned n) { return static_cast<std::uint8_t>(value >> (8 * n)); };
    return {FIS_H2D,      FIS_COMMAND,  code,         0, byte(lba, 0),   byte(lba, 1),  byte(lba, 2), 0x40,
            byte(lba, 3), byte(lba, 4), byte(lba, 5), 0, byte(count, 0), byte(count, 1)};
  }
  static std::array<std::uint8_t, 20> queued(std::uint8_t code, unsigned tag, std::uint64_t lba, std::uint16_t count) {
    auto fis = command(code, lba, static_cast<std::uint16_t>(tag << 3));
    fis[3] = static_cast<std::uint8_t>(count);
    fis[11] = static_cast<std::uint8_t>(count >> 8);
    return fis;
  }
  void put(unsigned port, unsigned slot, const std::array<std::uint8_t, 20>& fis, const Regions& regions,
           std::uint16_t flags = 5) {
    const std::uint64_t table = table_of(port, slot);
    const CommandHeader header{flags, static_cast<std::uint16_t>(regions.size()), 0xffff, table, {}};
    ASSERT_TRUE(ram.write_value(GuestPhys{list_of(port) + slot * sizeof header}, header));
    ASSERT_TRUE(ram.write_value(GuestPhys{table}, fis));
    for (std::size_t i = 0; i < regions.size(); ++i) {
      const PhysicalRegion region{regions[i].first, 0, regions[i].second - 1};
      ASSERT_TRUE(ram.write_value(GuestPhys{table + TABLE_PRDT + i * sizeof region}, region));
    }
  }
  /// One command in slot 0 of the disk's port.
  void run(const std::array<std::uint8_t, 20>& fis, const Regions& regions = {}) {
    put(0, 0, fis, regions);
    set(0, PxCI, 1);
  }
  void run_packet(std::initializer_list<std::uint8_t> bytes, const Regions& regions, bool dma = true) {
    std::array<std::uint8_t, 12> packet{};
    std::copy(bytes.begin(), bytes.end(), packet.begin());
    auto fis = command(PACKET);
    fis[3] = dma ? 1 : 0;
    put(1, 0, fis, regions, 5 | 1u << 5);
    ASSERT_TRUE(ram.write_value(GuestPhys{table_of(1, 0) + TABLE_PACKET}, packet));
    set(1, PxCI, 1);
  }
  bool holds(std::uint64_t address, const std::byte* want, std::size_t size) {
    std::vector<std::byte> got(size);
    EXPECT_TRUE(ram.read(GuestPhys{address}, got));
    return std::memcmp(got.data(), want, size) == 0;
  }
  void restart() {
    set(0, PxCMD, CMD_FRE);
    set(0, PxIS, ~0u);
    set(0, PxCMD, started);
  }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock}, ports{"ports", lock};
  ApicBus apics{lock};
  std::array<testing::FakeIrqLine, 4> lines;
  machine::GuestMemory ram;
  testing::FakeBackend disk{4'096 * 512}, disc{64 * 2048};
  PciBus bus{{memory, ports, apics, {&lines[0], &lines[1], &lines[2], &lines[3]}}};
  AhciController controller{"ahci", ram};
  std::uint64_t registers = 0;
};

// ---- Good drivers -------------------------------------------------------------------------------------------------

TEST_F(AhciTest, PortsWithDrivesAreImplemented) { EXPECT_EQ(read(PI), 3u); }

TEST_F(AhciTest, SignaturesTellDiskAndDisc) {
  EXPECT_EQ(get(0, PxSIG), 0x0000'0101u);
  EXPECT_EQ(get(1, PxSIG), 0xeb14'0101u);
}

TEST_F(AhciTest, AnEmptyPortHasNoLink) { EXPECT_EQ(get(2, PxSSTS), 0u); }

TEST_F(AhciTest, IdentifyComesByPio) {
  run(command(IDENTIFY), {{data_at, 512}});
  EXPECT_EQ(get(0, PxCI), 0u);
  EXPECT_EQ(get(0, PxIS), IS_PSS);
  EXPECT_EQ(get(0, PxTFD), std::uint32_t{DRDY | DSC});
  EXPECT_EQ(peek<std::uint16_t>(data_at + 2 * 76) & 0x100, 0x100);  // queued commands
  EXPECT_EQ(peek<std::uint8_t>(fis_of(0) + RX_PIO_SETUP), FIS_PIO_SETUP);
  EXPECT_EQ(peek<std::uint32_t>(list_of(0) + 4), 512u);
}

TEST_F(AhciTest, DmaReadFillsAllItsRegions) {
  run(command(READ_DMA_EXT, 5, 3), {{data_at, 514}, {data_at + 0x1000, 1022}});
  EXPECT_TRUE(holds(data_at, &disk.bytes[5 * 512], 514));
  EXPECT_TRUE(holds(data_at + 0x1000, &disk.bytes[5 * 512 + 514], 1022));
  EXPECT_EQ(get(0, PxIS), IS_DHRS);
  EXPECT_EQ(peek<std::uint8_t>(fis_of(0) + RX_D2H_REGISTER), FIS_D2H);
}

TEST_F(AhciTest, DmaWriteReachesTheDisk) {
  ASSERT_TRUE(ram.write_value(GuestPhys{data_at}, std::uint32_t{0xdead'beef}));
  run(command(WRITE_DMA_EXT, 7, 1), {{data_at, 512}});
  EXPECT_EQ(disk.bytes[7 * 512], std::byte{0xef});
  EXPECT_EQ(get(0, PxCI), 0u);
}

TEST_F(AhciTest, PartsMayBeAnsweredAtOnce) {
  disk.at_once = true;
  Regions regions;
  for (unsigned i = 0; i < 600; ++i) regions.push_back({data_at + (i % 2 ? 0x8000 : 0), 512});
  const std::uint64_t table = 0x30'0000;
  const auto fis = command(READ_DMA_EXT, 0, 600);
  ASSERT_TRUE(ram.write_value(GuestPhys{list_of(0)}, CommandHeader{5, 600, 0, table, {}}));
  ASSERT_TRUE(ram.write_value(GuestPhys{table}, fis));
  for (std::size_t i = 0; i < regions.size(); ++i)
    ASSERT_TRUE(ram.write_value(GuestPhys{table + TABLE_PRDT + 16 * i}, PhysicalRegion{regions[i].first, 0, 511}));
  set(0, PxCI, 1);
  EXPECT_EQ(get(0, PxCI), 0u);
  EXPECT_EQ(get(0, PxIS) & (IS_TFES | IS_HBDS | IS_HBFS), 0u);
  EXPECT_TRUE(holds(data_at + 0x8000, &disk.bytes[599 * 512], 512));
}

TEST_F(AhciTest, ALargeReadInPagesGoesInParts) {
  Regions regions;
  for (unsigned i = 0; i < 2048; ++i) regions.push_back({data_at + (i % 2 ? 0x8000 : 0), 512});
  // The table is long: put it where nothing else is.
  const std::uint64_t table = 0x30'0000;
  const auto fis = command(READ_DMA_EXT, 0, 2048);
  put(0, 0, fis, {});
  ASSERT_TRUE(ram.write_value(GuestPhys{list_of(0)}, CommandHeader{5, 2048, 0, table, {}}));
  ASSERT_TRUE(ram.write_value(GuestPhys{table}, fis));
  for (std::size_t i = 0; i < regions.size(); ++i)
    ASSERT_TRUE(ram.write_value(GuestPhys{table + TABLE_PRDT + 16 * i}, PhysicalRegion{regions[i].first, 0, 511}));
  set(0, PxCI, 1);
  EXPECT_EQ(get(0, PxCI), 0u);
  EXPECT_EQ(disk.requests, 3u);
  EXPECT_TRUE(holds(data_at + 0x8000, &disk.bytes[2047 * 512], 512));
}

TEST_F(AhciTest, FlushFlushes) {
  run(command(FLUSH));
  EXPECT_EQ(disk.flushes, 1u);
}

TEST_F(AhciTest, QueuedCommandsRunSideBySide) {
  disk.hold = true;
  for (unsigned tag = 0; tag < 4; ++tag)
    put(0, tag, queued(tag == 3 ? WRITE_QUEUED : READ_QUEUED, tag, tag * 8, 8), {{data_at + tag * 0x1000, 4096}});
  set(0, PxSACT, 0xf);
  set(0, PxCI, 0xf);
  EXPECT_EQ(get(0, PxCI), 0u);  // taken
  EXPECT_EQ(get(0, PxSACT), 0xfu);
  EXPECT_EQ(disk.held.size(), 4u);
  disk.release();
  EXPECT_EQ(get(0, PxSACT), 0u);
  EXPECT_EQ(get(0, PxIS), IS_SDBS);
  EXPECT_TRUE(holds(data_at + 0x2000, &disk.bytes[16 * 512], 4096));
}

TEST_F(AhciTest, AQueuedErrorIsInTheLog) {
  disk.hold = true;
  put(0, 3, queued(READ_QUEUED, 3, 0x234, 1), {{data_at, 512}});
  set(0, PxSACT, 8);
  set(0, PxCI, 8);
  disk.answer = disk::IoStatus::Failed;
  disk.release();
  EXPECT_TRUE(get(0, PxIS) & IS_TFES);
  EXPECT_EQ(get(0, PxSACT), 8u);
  EXPECT_EQ(get(0, PxTFD), std::uint32_t{UNC} << 8 | DRDY | DSC | ERR);
  restart();
  disk.hold = false;
  disk.answer = disk::IoStatus::Ok;
  run(command(READ_LOG, 0x10, 1), {{data_at, 512}});
  EXPECT_EQ(peek<std::uint8_t>(data_at), 3);
  EXPECT_EQ(peek<std::uint8_t>(data_at + 3), UNC);
  EXPECT_EQ(peek<std::uint16_t>(data_at + 4), 0x234);
  unsigned sum = 0;
  for (unsigned i = 0; i < 512; ++i) sum += peek<std::uint8_t>(data_at + i);
  EXPECT_EQ(sum & 0xff, 0u);
}

TEST_F(AhciTest, TrimDiscardsItsRanges) {
  std::array<std::uint64_t, 64> ranges{100 | std::uint64_t{8} << 48, 200 | std::uint64_t{16} << 48};
  ASSERT_TRUE(ram.write_value(GuestPhys{data_at}, ranges));
  disk.hold = true;
  auto fis = command(TRIM, 0, 1);
  fis[3] = 1;
  run(fis, {{data_at, 512}});
  ASSERT_EQ(disk.held.size(), 2u);
  EXPECT_EQ(disk.held[1].kind, disk::IoKind::Discard);
  EXPECT_EQ(disk.held[1].offset, 200u * 512);
  EXPECT_EQ(disk.held[1].bytes, 16u * 512);
  disk.release();
  EXPECT_EQ(get(0, PxCI), 0u);
  EXPECT_EQ(get(0, PxIS), IS_DHRS);
}

TEST_F(AhciTest, PacketReadsComeFromTheDisc) {
  run_packet({0x28, 0, 0, 0, 0, 2, 0, 0, 2}, {{data_at, 4096}});
  EXPECT_TRUE(holds(data_at, &disc.bytes[2 * 2048], 4096));
  EXPECT_EQ(get(1, PxIS), IS_DHRS);
}

TEST_F(AhciTest, PacketRepliesAreAsLongAsTheyAre) {
  run_packet({0x25}, {{data_at, 4096}}, false);
  EXPECT_EQ(peek<std::uint32_t>(data_at), 0x3f00'0000u);  // the last sector, high byte first
  EXPECT_EQ(peek<std::uint32_t>(list_of(1) + 4), 8u);
}

TEST_F(AhciTest, AFailedPacketLeavesSense) {
  run_packet({0x28, 0, 0, 0, 1, 0, 0, 0, 1}, {{data_at, 2048}});
  EXPECT_EQ(get(1, PxTFD), std::uint32_t{0x54} << 8 | DRDY | DSC | ERR);
  set(1, PxCMD, CMD_FRE);
  set(1, PxCMD, started);
  run_packet({0x03, 0, 0, 0, 18}, {{data_at, 18}});
  EXPECT_EQ(peek<std::uint8_t>(data_at + 2), SENSE_ILLEGAL_REQUEST);
  EXPECT_EQ(peek<std::uint8_t>(data_at + 12), 0x21);
}

TEST_F(AhciTest, InterruptsByThePin) {
  run(command(FLUSH));
  EXPECT_EQ(read(IS), 1u);
  EXPECT_TRUE(lines[0].level);
  set(0, PxIS, ~0u);
  write(IS, 1);
  EXPECT_FALSE(lines[0].level);
}

TEST_F(AhciTest, AnInterruptThatIsStillWantedComesBack) {
  run(command(FLUSH));
  write(IS, 1);
  EXPECT_EQ(read(IS), 1u);
}

TEST_F(AhciTest, WithMsiThePinIsSilent) {
  const std::uint32_t capability = controller.read_config(pci::CAPABILITIES, 1);
  ASSERT_EQ(controller.read_config(capability, 1), pci::CAP_MSI);
  controller.write_config(capability + 2, 2, 1);
  run(command(FLUSH));
  EXPECT_EQ(read(IS), 1u);
  EXPECT_FALSE(lines[0].level);
}

TEST_F(AhciTest, ComresetBringsTheDriveBack) {
  set(0, PxCMD, CMD_FRE);
  set(0, PxSCTL, 1);
  EXPECT_EQ(get(0, PxSSTS), 0u);
  set(0, PxSCTL, 0);
  EXPECT_EQ(get(0, PxSSTS), SSTS_CONNECTED);
  EXPECT_EQ(get(0, PxTFD), 0x150u);
  EXPECT_TRUE(get(0, PxIS) & IS_PCS);
  set(0, PxSERR, ~0u);
  EXPECT_FALSE(get(0, PxIS) & IS_PCS);
}

TEST_F(AhciTest, CommandIssuedWithoutALinkIsDoneWhenThereIsOne) {
  set(0, PxSCTL, 1);
  put(0, 0, command(FLUSH), {});
  set(0, PxCI, 1);
  EXPECT_EQ(get(0, PxCI), 1u);
  set(0, PxSCTL, 0);
  EXPECT_EQ(get(0, PxCI), 0u);
}

TEST_F(AhciTest, SoftwareResetEndsWithTheSignature) {
  std::array<std::uint8_t, 20> control = {FIS_H2D};
  control[15] = SRST;
  put(1, 0, control, {}, 5 | HEADER_C);
  set(1, PxCI, 1);
  control[15] = 0;
  put(1, 1, control, {});
  set(1, PxCI, 2);
  EXPECT_EQ(get(1, PxCI), 0u);
  EXPECT_EQ(get(1, PxTFD), 0x100u);
  EXPECT_EQ(peek<std::uint8_t>(fis_of(1) + RX_D2H_REGISTER + 5), 0x14);
}

TEST_F(AhciTest, ResetOfTheAdapterStopsAll) {
  write(GHC, GHC_HR);
  EXPECT_EQ(read(GHC), GHC_AE);
  EXPECT_EQ(get(0, PxCMD) & started, 0u);
  EXPECT_EQ(get(0, PxCLB), 0u);
}

// ---- Bad drivers, and bad luck ------------------------------------------------------------------------------------

TEST_F(AhciTest, BeyondTheEndIsATaskFileError) {
  run(command(READ_DMA_EXT, 4'096, 1), {{data_at, 512}});
  EXPECT_EQ(get(0, PxTFD), std::uint32_t{IDNF} << 8 | DRDY | DSC | ERR);
  EXPECT_TRUE(get(0, PxIS) & IS_TFES);
  EXPECT_EQ(get(0, PxCI), 1u);
}

TEST_F(AhciTest, AfterAnErrorNothingRunsUntilStIsCleared) {
  run(command(0xfe));
  put(0, 1, command(FLUSH), {});
  set(0, PxCI, 2);
  EXPECT_EQ(disk.flushes, 0u);
  restart();
  EXPECT_EQ(get(0, PxCI), 0u);
  run(command(FLUSH));
  EXPECT_EQ(disk.flushes, 1u);
}

TEST_F(AhciTest, TooLittleRoomIsAnOverflow) {
  run(command(READ_DMA_EXT, 0, 2), {{data_at, 512}});
  EXPECT_TRUE(get(0, PxIS) & IS_OFS);
  EXPECT_EQ(disk.requests, 0u);
}

TEST_F(AhciTest, DataOutsideRamIsABusError) {
  run(command(READ_DMA_EXT, 0, 1), {{ram_bytes - 256, 512}});
  EXPECT_TRUE(get(0, PxIS) & IS_HBDS);
  EXPECT_EQ(disk.requests, 0u);
}

TEST_F(AhciTest, AListOutsideRamIsABusError) {
  set(0, PxCMD, CMD_FRE);
  set(0, PxCLB, 0x8000'0000);
  set(0, PxCMD, started);
  set(0, PxCI, 1);
  EXPECT_TRUE(get(0, PxIS) & IS_HBFS);
}

TEST_F(AhciTest, ATagThatIsTakenEndsTheQueue) {
  disk.hold = true;
  put(0, 0, queued(READ_QUEUED, 0, 0, 8), {{data_at, 4096}});
  put(0, 1, queued(READ_QUEUED, 0, 8, 8), {{data_at, 4096}});
  set(0, PxSACT, 3);
  set(0, PxCI, 1);
  set(0, PxCI, 2);
  EXPECT_TRUE(get(0, PxIS) & IS_TFES);
  disk.release();
  EXPECT_EQ(get(0, PxSACT), 3u);
}

TEST_F(AhciTest, StoppingWaitsUntilMemoryIsLeftAlone) {
  disk.hold = true;
  put(0, 0, queued(READ_QUEUED, 0, 0, 8), {{data_at, 4096}});
  set(0, PxSACT, 1);
  set(0, PxCI, 1);
  set(0, PxCMD, CMD_FRE);
  EXPECT_TRUE(disk.held.empty());
  EXPECT_EQ(get(0, PxSACT), 0u);
  EXPECT_EQ(get(0, PxIS), 0u);
}

TEST_F(AhciTest, WithoutBusMasteringCommandsWait) {
  controller.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY);
  run(command(FLUSH));
  EXPECT_EQ(disk.flushes, 0u);
  controller.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER);
  EXPECT_EQ(disk.flushes, 1u);
}

TEST_F(AhciTest, AReadOnlyDiskRefusesWrites) {
  disk.is_read_only = true;
  run(command(WRITE_DMA_EXT, 0, 1), {{data_at, 512}});
  EXPECT_EQ(get(0, PxTFD), std::uint32_t{ABRT} << 8 | DRDY | DSC | ERR);
}

TEST_F(AhciTest, APioReadOfManySectorsArrives) {
  run(command(READ_SECTORS, 0, 256), {{data_at, 256 * 512}});
  EXPECT_TRUE(holds(data_at, disk.bytes.data(), 256 * 512));
}

// ---- Saving -------------------------------------------------------------------------------------------------------

struct AhciSaving : AhciTest {
  std::vector<std::byte> saved() {
    machine::SnapshotWriter out;
    controller.save(out);
    return out.data();
  }
};

TEST_F(AhciSaving, WhatAnErrorHasStoppedIsTriedAgain) {
  disk.stuck = true;
  put(0, 0, queued(READ_QUEUED, 0, 8, 8), {{data_at, 4096}});
  set(0, PxSACT, 1);
  set(0, PxCI, 1);
  const auto state = saved();
  disk.drop();
  disk.stuck = false;

  AhciController other{"ahci", ram};
  testing::FakeBackend copy{4'096 * 512};
  copy.bytes = disk.bytes;
  other.attach(0, AtaDriveKind::Disk, copy);
  other.attach(1, AtaDriveKind::Cdrom, disc);
  machine::SnapshotReader in(state);
  other.restore(in);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(copy.requests, 1u);
  EXPECT_TRUE(holds(data_at, &copy.bytes[8 * 512], 4096));
}

TEST_F(AhciSaving, SavedStateComesBack) {
  run(command(FLUSH));
  const auto state = saved();
  write(GHC, GHC_HR);
  EXPECT_NE(saved(), state);
  machine::SnapshotReader in(state);
  controller.restore(in);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(saved(), state);
}

TEST_F(AhciSaving, AnyDamageIsSurvived) {
  run(command(FLUSH));
  const auto state = saved();
  for (std::size_t i = 0; i < state.size(); ++i) {
    auto damaged = state;
    damaged[i] = std::byte{0xff};
    machine::SnapshotReader in(damaged);
    controller.restore(in);
    set(0, PxCI, ~0u);
    set(0, PxCMD, 0);
  }
  controller.reset();
  const auto after = saved();
  controller.reset();
  EXPECT_EQ(saved(), after);
}

}  // namespace
}  // namespace veneer::devices
