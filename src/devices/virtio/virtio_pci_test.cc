// The transport, driven through its registers as a driver does it, with the entropy device behind.
#include "devices/virtio/virtio_pci.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>

#include "devices/pci/pci_bus.h"
#include "devices/virtio/virtio_rng.h"

namespace veneer::devices {
namespace {

struct TestLine final : machine::IrqLine {
  void set(bool value) override { level = value; }
  bool level = false;
};

class VirtioPciTest : public testing::Test {
 protected:
  static constexpr std::uint64_t registers = 0xc0000000;
  static constexpr std::uint64_t isr = registers + 0x1000, notify = registers + 0x3000;
  static constexpr unsigned slot = 3;
  enum Status : std::uint8_t { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };

  VirtioPciTest() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, 64 * KiB, machine::SlotKind::Ram).ok());
    bus.plug(slot, function);
    bus.reset();
    bus.assign_resources({registers, 0x100000, 0, 0, 0, 0});
    function.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER);
  }
  std::uint64_t read(unsigned offset, unsigned size) { return memory.read(registers + offset, size); }
  void write(unsigned offset, unsigned size, std::uint64_t value) { memory.write(registers + offset, size, value); }
  void negotiate(std::uint64_t features = std::uint64_t{1} << 32) {
    write(20, 1, ACKNOWLEDGE);
    write(20, 1, ACKNOWLEDGE | DRIVER);
    for (unsigned half = 0; half < 2; ++half) {
      write(8, 4, half);
      write(12, 4, (features >> (32 * half)) & 0xffffffff);
    }
    write(20, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  }
  void start_queue() {
    write(22, 2, 0);
    write(24, 2, 8);
    write(32, 4, 0x1000);
    write(40, 4, 0x2000);
    write(48, 4, 0x3000);
    write(28, 2, 1);
    write(20, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  }
  void offer(std::uint64_t address, std::uint32_t length) {
    ram.write_value(GuestPhys{0x1000}, address);
    ram.write_value(GuestPhys{0x1008}, length);
    ram.write_value(GuestPhys{0x100c}, std::uint32_t{2});  // writable
    ram.write_value(GuestPhys{0x2004}, std::uint16_t{0});
    ram.write_value(GuestPhys{0x2002}, std::uint16_t{1});
  }
  std::uint32_t used_length() {
    std::uint32_t length = 0;
    ram.read_value(GuestPhys{0x3008}, length);
    return length;
  }
  unsigned find_capability(std::uint8_t type) {
    for (unsigned at = function.read_config(pci::CAPABILITIES, 1); at != 0; at = function.read_config(at + 1, 1))
      if (function.read_config(at, 1) == pci::CAP_VENDOR && function.read_config(at + 3, 1) == type) return at;
    return 0;
  }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock};
  machine::Bus ports{"port", lock};
  machine::GuestMemory ram;
  ApicBus apics{lock};
  std::array<TestLine, 4> lines;
  PciBus bus{{memory, ports, apics, {&lines[0], &lines[1], &lines[2], &lines[3]}}};
  VirtioRng rng{ram, [](std::span<std::byte> out) {
                  std::ranges::fill(out, std::byte{0xab});
                  return true;
                }};
  VirtioPci function{"virtio-rng", rng, ram};
};

TEST_F(VirtioPciTest, HasTheIdsOfAModernEntropyDevice) {
  EXPECT_EQ(function.read_config(0, 4), 0x10441af4u);
  EXPECT_GE(function.read_config(pci::REVISION_ID, 1), 1u);
}

TEST_F(VirtioPciTest, ShowsAllCapabilities) {
  for (const std::uint8_t type : std::to_array<std::uint8_t>({1, 2, 3, 4, 5}))
    EXPECT_NE(find_capability(type), 0u) << int{type};
}

TEST_F(VirtioPciTest, OffersVersion1) {
  write(0, 4, 1);
  EXPECT_EQ(read(4, 4) & 1u, 1u);
}

TEST_F(VirtioPciTest, OffersNoAccessPlatformWithoutAnIommu) {
  write(0, 4, 1);
  EXPECT_EQ(read(4, 4) & 2u, 0u);
}

/// Adds 64 KiB to addresses, and refuses those below 64 KiB.
struct ShiftingTranslator final : machine::DmaTranslator {
  std::optional<machine::DmaRun> translate(std::uint16_t, std::uint64_t address, std::uint64_t size_bytes,
                                           machine::DmaAccess) override {
    if (address < 64 * KiB) return std::nullopt;
    return machine::DmaRun{GuestPhys{address - 64 * KiB}, size_bytes};
  }
};

class VirtioPciBehindIommuTest : public VirtioPciTest {
 protected:
  VirtioPciBehindIommuTest() { EXPECT_TRUE(behind.read_config(0, 4) != 0); }
  ShiftingTranslator iommu;
  machine::DmaSpace space{ram, &iommu, 0x28};
  VirtioRng source{space, [](std::span<std::byte> out) {
                     std::ranges::fill(out, std::byte{0xcd});
                     return true;
                   }};
  VirtioPci behind{"behind", source, space};
};

TEST_F(VirtioPciBehindIommuTest, ItsQueuesAreTranslated) {
  VirtQueue& queue = behind.queue(0);
  queue.setup() = {8, GuestPhys{0x1'1000}, GuestPhys{0x1'2000}, GuestPhys{0x1'3000}, true};
  offer(0x1'8000, 100);  // writes to rings at 1000h and 2000h, behind the translation
  auto chain = queue.pop();
  ASSERT_TRUE(chain);
  ASSERT_EQ(copy_to_chain(space, *chain, 0, std::vector<std::byte>(4, std::byte{0xcd})), 4u);
  std::uint32_t value = 0;
  ASSERT_TRUE(ram.read_value(GuestPhys{0x8000}, value));
  EXPECT_EQ(value, 0xcdcdcdcdu);
  queue.push(chain->head, 4);
  EXPECT_EQ(used_length(), 4u);
}

TEST_F(VirtioPciBehindIommuTest, AQueueThatIsRefusedIsBroken) {
  VirtQueue& queue = behind.queue(0);
  queue.setup() = {8, GuestPhys{0x1000}, GuestPhys{0x2000}, GuestPhys{0x3000}, true};
  EXPECT_FALSE(queue.pop());
  EXPECT_TRUE(queue.broken());
}

TEST_F(VirtioPciBehindIommuTest, OffersAccessPlatform) {
  bus.plug(9, behind);
  behind.write_config(pci::BAR0, 4, 0xe100'0000);
  behind.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY);
  memory.write(0xe100'0000, 4, 1);
  EXPECT_EQ(memory.read(0xe100'0004, 4) & 2u, 2u);
}

TEST_F(VirtioPciTest, AcceptsFeatures) {
  negotiate();
  EXPECT_EQ(read(20, 1) & FEATURES_OK, FEATURES_OK);
}

TEST_F(VirtioPciTest, RefusesADriverWithoutVersion1) {
  negotiate(0);
  EXPECT_EQ(read(20, 1) & FEATURES_OK, 0);
}

TEST_F(VirtioPciTest, RefusesFeaturesItDidNotOffer) {
  negotiate((std::uint64_t{1} << 32) | 1);
  EXPECT_EQ(read(20, 1) & FEATURES_OK, 0);
}

TEST_F(VirtioPciTest, AnswersARequestForEntropy) {
  negotiate();
  start_queue();
  offer(0x8000, 100);
  memory.write(notify, 2, 0);
  std::uint8_t last = 0;
  ram.read_value(GuestPhys{0x8000 + 99}, last);
  EXPECT_EQ(used_length(), 100u);
  EXPECT_EQ(last, 0xab);
}

TEST_F(VirtioPciTest, AHugeRequestGetsABoundedAnswer) {
  negotiate();
  start_queue();
  offer(0x4000, 0xffffffff);
  memory.write(notify, 2, 0);
  EXPECT_EQ(used_length(), 64 * KiB - 0x4000 - (64 * KiB - 0x4000) % (4 * KiB));
}

TEST_F(VirtioPciTest, ANotificationBeforeDriverOkIsIgnored) {
  negotiate();
  offer(0x8000, 100);
  memory.write(notify, 2, 0);
  EXPECT_EQ(used_length(), 0u);
}

TEST_F(VirtioPciTest, ANotificationForAnotherQueueIsIgnored) {
  negotiate();
  start_queue();
  offer(0x8000, 100);
  memory.write(notify + 4, 2, 1);
  EXPECT_EQ(used_length(), 0u);
}

TEST_F(VirtioPciTest, WithoutBusMasteringNothingIsRead) {
  negotiate();
  start_queue();
  function.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY);
  offer(0x8000, 100);
  memory.write(notify, 2, 0);
  EXPECT_EQ(used_length(), 0u);
}

TEST_F(VirtioPciTest, InterruptsByPinAndIsr) {
  negotiate();
  start_queue();
  offer(0x8000, 1);
  memory.write(notify, 2, 0);
  EXPECT_TRUE(lines[slot].level);
  EXPECT_EQ(memory.read(isr, 1), 1u);
  EXPECT_FALSE(lines[slot].level);
}

TEST_F(VirtioPciTest, ABrokenRingAsksForAReset) {
  negotiate();
  start_queue();
  ram.write_value(GuestPhys{0x2002}, std::uint16_t{1000});
  memory.write(notify, 2, 0);
  EXPECT_EQ(read(20, 1) & NEEDS_RESET, NEEDS_RESET);
  EXPECT_EQ(memory.read(isr, 1) & 2u, 2u);
}

TEST_F(VirtioPciTest, WritingZeroToTheStatusResets) {
  negotiate();
  start_queue();
  write(20, 1, 0);
  EXPECT_EQ(read(20, 1), 0u);
  EXPECT_EQ(read(28, 2), 0u);
}

TEST_F(VirtioPciTest, QueueSizesThatAreNoPowerOfTwoAreIgnored) {
  write(24, 2, 12);
  EXPECT_EQ(read(24, 2), 64u);
}

TEST_F(VirtioPciTest, AnEnabledQueueCannotBeMoved) {
  negotiate();
  start_queue();
  write(32, 4, 0x5000);
  EXPECT_EQ(read(32, 4), 0x1000u);
}

TEST_F(VirtioPciTest, SixtyFourBitFieldsTakeHalves) {
  write(36, 4, 0x12);
  EXPECT_EQ(read(32, 8), 0x12'0000'0000u);
}

TEST_F(VirtioPciTest, AQueueThatIsNotThereHasSizeZero) {
  write(22, 2, 1);
  EXPECT_EQ(read(24, 2), 0u);
}

TEST_F(VirtioPciTest, AVectorThatIsNotThereReadsAsNone) {
  write(26, 2, 2);
  EXPECT_EQ(read(26, 2), 0xffffu);
}

TEST_F(VirtioPciTest, TheConfigurationWindowReachesTheRegisters) {
  const unsigned window = find_capability(5);
  function.write_config(window + 8, 4, 18);  // num_queues
  function.write_config(window + 12, 4, 2);
  EXPECT_EQ(function.read_config(window + 16, 2), 1u);
}

TEST_F(VirtioPciTest, TheConfigurationWindowStaysInsideTheBar) {
  const unsigned window = find_capability(5);
  function.write_config(window + 8, 4, 0xfffffffc);
  function.write_config(window + 12, 4, 4);
  EXPECT_EQ(function.read_config(window + 16, 4), 0u);
}

TEST_F(VirtioPciTest, SaveDisturbRestoreSaveIsEqual) {
  negotiate();
  start_queue();
  machine::SnapshotWriter before;
  function.save(before);
  write(20, 1, 0);
  machine::SnapshotReader reader(before.data());
  function.restore(reader);
  machine::SnapshotWriter after;
  function.save(after);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(before.data(), after.data());
}

}  // namespace
}  // namespace veneer::devices
