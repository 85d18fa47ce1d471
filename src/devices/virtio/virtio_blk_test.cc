// The block device behind its transport, driven as a driver does it: well and badly.
#include "devices/virtio/virtio_blk.h"

#include <gmock/gmock.h>

#include <array>
#include <cstring>
#include <vector>

#include "devices/pci/pci_bus.h"
#include "devices/testing/fake_backend.h"
#include "devices/testing/fakes.h"
#include "devices/virtio/virtio_pci.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t registers = 0xc0000000;
constexpr std::uint64_t notify = registers + 0x3000, config = registers + 0x2000;
constexpr std::uint64_t ram_bytes = 256 * KiB;
// Where the test's driver keeps things.
constexpr std::uint64_t descriptors = 0x1000, driver_area = 0x2000, device_area = 0x3000;
constexpr std::uint64_t headers = 0x4000, statuses = 0x5000, data_at = 0x10000;
constexpr std::uint16_t NEXT = 1, WRITE = 2;
constexpr std::uint8_t OK = 0, IOERR = 1, UNSUPP = 2, untouched = 0xee;
constexpr std::uint64_t VERSION_1 = std::uint64_t{1} << 32, FLUSH = 1u << 9, CONFIG_WCE = 1u << 11;

struct Piece {
  std::uint64_t address;
  std::uint32_t bytes;
  bool writable;
};

class VirtioBlkTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t size = 8;

  VirtioBlkTest() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok());
    bus.plug(3, function);
    bus.reset();
    bus.assign_resources({registers, 0x100000, 0, 0, 0, 0});
    function.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER);
  }
  void start(std::uint64_t features = VERSION_1 | FLUSH) {
    memory.write(registers + 20, 1, 3);
    for (unsigned half = 0; half < 2; ++half) {
      memory.write(registers + 8, 4, half);
      memory.write(registers + 12, 4, (features >> (32 * half)) & 0xffffffff);
    }
    memory.write(registers + 20, 1, 11);
    memory.write(registers + 24, 2, size);
    memory.write(registers + 32, 4, descriptors);
    memory.write(registers + 40, 4, driver_area);
    memory.write(registers + 48, 4, device_area);
    memory.write(registers + 28, 2, 1);
    memory.write(registers + 20, 1, 15);
  }
  template <typename T>
  void poke(std::uint64_t address, T value) {
    ASSERT_TRUE(ram.write_value(GuestPhys{address}, value));
  }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(ram.read_value(GuestPhys{address}, value));
    return value;
  }
  /// Puts a chain into the ring; its first descriptor is `first`.
  void offer(std::uint16_t first, const std::vector<Piece>& pieces) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const std::uint64_t at = descriptors + 16 * (first + i);
      poke(at, pieces[i].address);
      poke(at + 8, pieces[i].bytes);
      const bool last = i + 1 == pieces.size();
      poke(at + 12, static_cast<std::uint16_t>((last ? 0 : NEXT) | (pieces[i].writable ? WRITE : 0)));
      poke(at + 14, static_cast<std::uint16_t>(first + i + 1));
    }
    const auto index = peek<std::uint16_t>(driver_area + 2);
    poke(driver_area + 4 + 2 * (index % size), first);
    poke(driver_area + 2, static_cast<std::uint16_t>(index + 1));
  }
  void ring() { memory.write(notify, 2, 0); }
  void header(std::uint32_t type, std::uint64_t sector) {
    poke(headers, type);
    poke(headers + 4, 0u);
    poke(headers + 8, sector);
    poke(statuses, untouched);
  }
  /// One request from descriptor 0 on, and its status.
  std::uint8_t request(std::uint32_t type, std::uint64_t sector, const std::vector<Piece>& data = {}) {
    header(type, sector);
    std::vector<Piece> pieces = {{headers, 16, false}};
    pieces.insert(pieces.end(), data.begin(), data.end());
    pieces.push_back({statuses, 1, true});
    offer(0, pieces);
    ring();
    return peek<std::uint8_t>(statuses);
  }
  std::uint8_t range_request(std::uint32_t type, std::uint64_t sector, std::uint32_t sectors, std::uint32_t flags) {
    poke(data_at, sector);
    poke(data_at + 8, sectors);
    poke(data_at + 12, flags);
    return request(type, 0, {{data_at, 16, false}});
  }
  std::uint16_t used() { return peek<std::uint16_t>(device_area + 2); }
  std::uint32_t used_length() { return peek<std::uint32_t>(device_area + 8); }
  bool needs_reset() { return (memory.read(registers + 20, 1) & 64) != 0; }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock};
  machine::Bus ports{"port", lock};
  machine::GuestMemory ram;
  ApicBus apics{lock};
  std::array<testing::FakeIrqLine, 4> lines;
  PciBus bus{{memory, ports, apics, {&lines[0], &lines[1], &lines[2], &lines[3]}}};
  testing::FakeBackend disk{64 * KiB};
  VirtioBlk blk{ram, disk, 2};
  VirtioPci function{"virtio-blk", blk, ram};
};

TEST_F(VirtioBlkTest, HasTheIdsOfAModernBlockDevice) { EXPECT_EQ(function.read_config(0, 4), 0x10421af4u); }
TEST_F(VirtioBlkTest, TellsItsCapacity) { EXPECT_EQ(memory.read(config, 8), 128u); }
TEST_F(VirtioBlkTest, TellsItsQueues) { EXPECT_EQ(memory.read(config + 34, 2), 2u); }

TEST_F(VirtioBlkTest, Reads) {
  disk.bytes[512 * 3] = std::byte{0x5a};
  start();
  EXPECT_EQ(request(0, 3, {{data_at, 1024, true}}), OK);
  EXPECT_EQ(peek<std::uint8_t>(data_at), 0x5a);
  EXPECT_EQ(used_length(), 1025u);
}
TEST_F(VirtioBlkTest, Writes) {
  start();
  poke<std::uint8_t>(data_at + 512, 0x77);
  EXPECT_EQ(request(1, 2, {{data_at, 1024, false}}), OK);
  EXPECT_EQ(disk.bytes[512 * 3], std::byte{0x77});
  EXPECT_EQ(used_length(), 1u);
}
TEST_F(VirtioBlkTest, AnyLayoutOfTheBuffers) {  // Virtio 1.2 2.7.4: the driver may cut them as it likes
  start();
  header(0, 0);
  disk.bytes[511] = std::byte{0x33};
  offer(0, {{headers, 7, false}, {headers + 7, 9, false}, {data_at, 500, true}, {data_at + 500, 13, true}});
  ring();
  EXPECT_EQ(peek<std::uint8_t>(data_at + 511), 0x33);
  EXPECT_EQ(peek<std::uint8_t>(data_at + 512), OK);
}
TEST_F(VirtioBlkTest, ReadsAreAnnouncedToTheTranslator) {
  ram.find(GuestPhys{0})->code_pages[data_at >> page_shift] = 1;
  unsigned heard = 0;
  ram.set_code_write_listener([&](machine::MemorySlot&, std::uint64_t, std::uint64_t) { ++heard; });
  start();
  EXPECT_EQ(request(0, 0, {{data_at, 512, true}}), OK);
  EXPECT_EQ(heard, 1u);
}
TEST_F(VirtioBlkTest, InterruptsWhenDone) {
  start();
  (void)request(0, 0, {{data_at, 512, true}});
  EXPECT_TRUE(lines[3].level);
}
TEST_F(VirtioBlkTest, CompletesLater) {
  disk.hold = true;
  start();
  EXPECT_EQ(request(0, 0, {{data_at, 512, true}}), untouched);
  EXPECT_FALSE(lines[3].level);
  disk.release();
  EXPECT_EQ(peek<std::uint8_t>(statuses), OK);
  EXPECT_TRUE(lines[3].level);
}
TEST_F(VirtioBlkTest, Flushes) {
  start();
  EXPECT_EQ(request(4, 0), OK);
  EXPECT_EQ(disk.flushes, 1u);
}
TEST_F(VirtioBlkTest, Discards) {
  start();
  EXPECT_EQ(range_request(11, 8, 16, 0), OK);
  EXPECT_EQ(disk.last.kind, disk::IoKind::Discard);
  EXPECT_EQ(disk.last.offset, 8u * 512);
  EXPECT_EQ(disk.last.bytes, 16u * 512);
}
TEST_F(VirtioBlkTest, ADiscardWithTheUnmapFlagIsUnsupported) {
  start();
  EXPECT_EQ(range_request(11, 8, 16, 1), UNSUPP);
}
TEST_F(VirtioBlkTest, WritesZeroes) {
  disk.bytes[512] = std::byte{1};
  start();
  EXPECT_EQ(range_request(13, 1, 1, 1), OK);
  EXPECT_EQ(disk.bytes[512], std::byte{0});
  EXPECT_TRUE(disk.last.may_unmap);
}
TEST_F(VirtioBlkTest, ReservedFlagsAreUnsupported) {
  start();
  EXPECT_EQ(range_request(13, 1, 1, 2), UNSUPP);
}
TEST_F(VirtioBlkTest, GivesItsId) {
  start();
  EXPECT_EQ(request(8, 0, {{data_at, 20, true}}), OK);
  EXPECT_EQ(peek<std::uint32_t>(data_at), 0x6b736964u);  // "disk"
}
TEST_F(VirtioBlkTest, AShortIdBufferGetsAPart) {
  start();
  poke<std::uint8_t>(data_at + 2, untouched);
  EXPECT_EQ(request(8, 0, {{data_at, 2, true}}), OK);
  EXPECT_EQ(peek<std::uint8_t>(data_at + 2), untouched);
}
TEST_F(VirtioBlkTest, AnUnknownTypeIsUnsupported) {
  start();
  EXPECT_EQ(request(99, 0), UNSUPP);
}
TEST_F(VirtioBlkTest, AFailureOfTheHostIsAnIoError) {
  disk.answer = disk::IoStatus::Failed;
  start();
  EXPECT_EQ(request(0, 0, {{data_at, 512, true}}), IOERR);
}

// ---- Cache mode (5.2.6.2) -------------------------------------------------------------------------------------------

TEST_F(VirtioBlkTest, WritesMayBeCachedWhenTheDriverFlushes) {
  start();
  (void)request(1, 0, {{data_at, 512, false}});
  EXPECT_FALSE(disk.last.force_unit_access);
}
TEST_F(VirtioBlkTest, WithoutFlushWritesAreStable) {
  start(VERSION_1);
  (void)request(1, 0, {{data_at, 512, false}});
  EXPECT_TRUE(disk.last.force_unit_access);
}
TEST_F(VirtioBlkTest, TheDriverCanAskForWriteThrough) {
  start(VERSION_1 | FLUSH | CONFIG_WCE);
  memory.write(config + 32, 1, 0);
  (void)request(1, 0, {{data_at, 512, false}});
  EXPECT_TRUE(disk.last.force_unit_access);
}
TEST_F(VirtioBlkTest, ResetRestoresTheCacheMode) {
  memory.write(config + 32, 1, 0);
  memory.write(registers + 20, 1, 0);
  EXPECT_EQ(memory.read(config + 32, 1), 1u);
}

// ---- Size, read-only ------------------------------------------------------------------------------------------------

TEST_F(VirtioBlkTest, AnotherSizeInterrupts) {
  start();
  const auto generation = memory.read(registers + 21, 1);
  disk.resize(128 * KiB);
  EXPECT_EQ(memory.read(config, 8), 256u);
  EXPECT_NE(memory.read(registers + 21, 1), generation);
  EXPECT_TRUE(lines[3].level);
}
TEST_F(VirtioBlkTest, AReadOnlyDiskSaysSo) {
  disk.is_read_only = true;
  EXPECT_EQ(memory.read(registers + 4, 4) & 0x6020u, 0x20u);  // RO, and neither DISCARD nor WRITE_ZEROES
}
TEST_F(VirtioBlkTest, AReadOnlyDiskRefusesWrites) {
  disk.is_read_only = true;
  start();
  EXPECT_EQ(request(1, 0, {{data_at, 512, false}}), IOERR);
  EXPECT_EQ(range_request(13, 0, 1, 0), IOERR);
  EXPECT_EQ(disk.requests, 0u);
}

// ---- Hostile drivers ------------------------------------------------------------------------------------------------

TEST_F(VirtioBlkTest, ASectorBeyondTheEndIsAnIoError) {
  start();
  EXPECT_EQ(request(0, 128, {{data_at, 512, true}}), IOERR);
}
TEST_F(VirtioBlkTest, ATransferAcrossTheEndIsAnIoError) {
  start();
  EXPECT_EQ(request(0, 127, {{data_at, 1024, true}}), IOERR);
}
TEST_F(VirtioBlkTest, AnAbsurdSectorIsAnIoError) {
  start();
  EXPECT_EQ(request(1, ~std::uint64_t{0} / 512 + 1, {{data_at, 512, false}}), IOERR);
  EXPECT_EQ(request(1, ~std::uint64_t{0}, {{data_at, 512, false}}), IOERR);
}
TEST_F(VirtioBlkTest, HalfASectorIsAnIoError) {
  start();
  EXPECT_EQ(request(0, 0, {{data_at, 256, true}}), IOERR);
}
TEST_F(VirtioBlkTest, DataOutsideRamIsAnIoError) {
  start();
  EXPECT_EQ(request(0, 0, {{ram_bytes - 256, 512, true}}), IOERR);
  EXPECT_EQ(disk.requests, 0u);
}
TEST_F(VirtioBlkTest, DataInDeviceRegistersIsAnIoError) {
  start();
  EXPECT_EQ(request(0, 0, {{registers, 512, true}}), IOERR);
}
TEST_F(VirtioBlkTest, FourGigabytesOfDataIsAnIoError) {
  start();
  EXPECT_EQ(request(0, 0, {{0, 0xfffffe00, true}}), IOERR);
}
TEST_F(VirtioBlkTest, AHugeDiscardIsAnIoError) {
  start();
  EXPECT_EQ(range_request(11, 0, 0xffffffff, 0), IOERR);
}
TEST_F(VirtioBlkTest, ADiscardBeyondTheEndIsAnIoError) {
  start();
  EXPECT_EQ(range_request(11, 127, 2, 0), IOERR);
}
TEST_F(VirtioBlkTest, ADiscardWithHalfASegmentIsUnsupported) {
  start();
  EXPECT_EQ(request(11, 0, {{data_at, 8, false}}), UNSUPP);
}
TEST_F(VirtioBlkTest, ARequestWithoutAStatusByteBreaksTheQueue) {
  start();
  offer(0, {{headers, 16, false}});
  ring();
  EXPECT_TRUE(needs_reset());
}
TEST_F(VirtioBlkTest, ARequestWithoutAHeaderBreaksTheQueue) {
  start();
  offer(0, {{headers, 8, false}, {statuses, 1, true}});
  ring();
  EXPECT_TRUE(needs_reset());
}
TEST_F(VirtioBlkTest, AStatusByteOutsideRamBreaksTheQueue) {
  start();
  header(4, 0);
  offer(0, {{headers, 16, false}, {ram_bytes, 1, true}});
  ring();
  EXPECT_TRUE(needs_reset());
}
TEST_F(VirtioBlkTest, AHeaderOutsideRamIsAnIoError) {
  start();
  poke(statuses, untouched);
  offer(0, {{ram_bytes, 16, false}, {statuses, 1, true}});
  ring();
  EXPECT_EQ(peek<std::uint8_t>(statuses), IOERR);
}
TEST_F(VirtioBlkTest, MoreRequestsThanDescriptorsBreakTheQueue) {
  disk.hold = true;
  start();
  header(4, 0);
  for (unsigned i = 0; i <= size; ++i) {
    offer(0, {{headers, 16, false}, {statuses, 1, true}});  // the same chain, again and again
    ring();
  }
  EXPECT_TRUE(needs_reset());
  EXPECT_EQ(disk.held.size(), size);
  disk.release();
}
TEST_F(VirtioBlkTest, ABrokenQueueTakesNoMoreCompletions) {
  disk.hold = true;
  start();
  (void)request(4, 0);
  offer(2, {{headers, 16, false}});
  ring();
  ASSERT_TRUE(needs_reset());
  disk.release();
  EXPECT_EQ(used(), 0u);
}

// ---- Reset, save ----------------------------------------------------------------------------------------------------

TEST_F(VirtioBlkTest, AResetWaitsForTheDisk) {
  disk.hold = true;
  start();
  (void)request(0, 0, {{data_at, 512, true}});
  memory.write(registers + 20, 1, 0);
  EXPECT_TRUE(disk.held.empty());
}
TEST_F(VirtioBlkTest, StoppedRequestsAreSavedAndBegunAgain) {
  disk.stuck = true;
  start();
  EXPECT_EQ(request(1, 5, {{data_at, 512, false}}), untouched);
  machine::SnapshotWriter out;
  function.save(out);
  disk.stuck = false;
  disk.drop();
  machine::SnapshotReader in(out.data());
  function.restore(in);
  ASSERT_TRUE(in.ok());
  EXPECT_EQ(peek<std::uint8_t>(statuses), OK);
  EXPECT_EQ(disk.last.offset, 5u * 512);
}
TEST_F(VirtioBlkTest, ACutStateIsRefused) {
  machine::SnapshotWriter out;
  function.save(out);
  machine::SnapshotReader in(std::span(out.data()).first(out.data().size() - 1));
  function.restore(in);
  EXPECT_FALSE(in.ok());
}
TEST_F(VirtioBlkTest, ASavedStateComesBack) {
  start(VERSION_1 | FLUSH | CONFIG_WCE);
  memory.write(config + 32, 1, 0);
  machine::SnapshotWriter before;
  function.save(before);
  memory.write(registers + 20, 1, 0);
  machine::SnapshotReader in(before.data());
  function.restore(in);
  machine::SnapshotWriter after;
  function.save(after);
  EXPECT_EQ(after.data(), before.data());
}

}  // namespace
}  // namespace veneer::devices
