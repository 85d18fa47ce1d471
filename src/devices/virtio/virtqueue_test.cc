// Virtqueues against well-behaved and hostile drivers.
#include "devices/virtio/virtqueue.h"

#include <gmock/gmock.h>

#include <array>
#include <cstring>

namespace veneer::devices {
namespace {

constexpr std::uint16_t NEXT = 1, WRITE = 2, INDIRECT = 4;

class VirtQueueTest : public testing::Test {
 protected:
  static constexpr std::uint16_t size = 8;
  static constexpr std::uint64_t descriptors = 0x1000, driver = 0x2000, device = 0x3000, ram = 64 * KiB;

  VirtQueueTest() {
    EXPECT_TRUE(memory.add("ram", GuestPhys{0}, ram, machine::SlotKind::Ram).ok());
    enable();
  }
  void enable() {
    queue.setup() = {.size = size,
                     .descriptors = GuestPhys{descriptors},
                     .driver_area = GuestPhys{driver},
                     .device_area = GuestPhys{device},
                     .enabled = true};
  }
  template <typename T>
  void poke(std::uint64_t address, T value) {
    ASSERT_TRUE(memory.write_value(GuestPhys{address}, value));
  }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }
  void describe(unsigned index, std::uint64_t address, std::uint32_t length, std::uint16_t flags,
                std::uint16_t next = 0, std::uint64_t table = descriptors) {
    poke(table + 16 * index, address);
    poke(table + 16 * index + 8, length);
    poke(table + 16 * index + 12, flags);
    poke(table + 16 * index + 14, next);
  }
  void offer(std::uint16_t head) {
    const auto index = peek<std::uint16_t>(driver + 2);
    poke<std::uint16_t>(driver + 4 + 2 * (index % size), head);
    poke<std::uint16_t>(driver + 2, static_cast<std::uint16_t>(index + 1));
  }
  bool breaks() { return !queue.pop() && queue.broken(); }

  machine::GuestMemory memory;
  VirtQueue queue{memory, size};
};

TEST_F(VirtQueueTest, AnEmptyRingGivesNothing) {
  EXPECT_FALSE(queue.pop().has_value());
  EXPECT_FALSE(queue.broken());
}

TEST_F(VirtQueueTest, GivesAChainWithItsParts) {
  describe(3, 0x8000, 10, NEXT, 5);
  describe(5, 0x9000, 20, WRITE);
  offer(3);
  const auto chain = queue.pop();
  ASSERT_TRUE(chain.has_value());
  EXPECT_EQ(chain->head, 3);
  EXPECT_EQ(chain->readable_bytes, 10u);
  EXPECT_EQ(chain->writable_bytes, 20u);
}

TEST_F(VirtQueueTest, FollowsAnIndirectTable) {
  describe(0, 0xa000, 32, INDIRECT);
  describe(0, 0x8000, 10, NEXT, 1, 0xa000);
  describe(1, 0x9000, 20, WRITE, 0, 0xa000);
  offer(0);
  const auto chain = queue.pop();
  ASSERT_TRUE(chain.has_value());
  EXPECT_EQ(chain->writable.at(0).address.value, 0x9000u);
}

TEST_F(VirtQueueTest, PushWritesTheUsedElement) {
  queue.push(6, 1234);
  EXPECT_EQ(peek<std::uint32_t>(device + 4), 6u);
  EXPECT_EQ(peek<std::uint32_t>(device + 8), 1234u);
  EXPECT_EQ(peek<std::uint16_t>(device + 2), 1u);
}

TEST_F(VirtQueueTest, IndicesWrapAround) {
  describe(0, 0x8000, 1, 0);
  for (unsigned i = 0; i < 70000; ++i) {
    offer(0);
    const auto chain = queue.pop();
    ASSERT_TRUE(chain.has_value());
    queue.push(chain->head, 0);
  }
  EXPECT_EQ(peek<std::uint16_t>(device + 2), 70000 % 65536);
}

TEST_F(VirtQueueTest, WantsAnInterruptUnlessTheDriverSaysNo) {
  queue.push(0, 0);
  EXPECT_TRUE(queue.interrupt_wanted());
  poke<std::uint16_t>(driver, 1);
  queue.push(0, 0);
  EXPECT_FALSE(queue.interrupt_wanted());
}

TEST_F(VirtQueueTest, NothingPushedWantsNoInterrupt) { EXPECT_FALSE(queue.interrupt_wanted()); }

TEST_F(VirtQueueTest, EventIndexAsksForTheInterruptAtItsElement) {
  queue.set_event_index(true);
  poke<std::uint16_t>(driver + 4 + 2 * size, 1);  // used_event: after the second
  queue.push(0, 0);
  EXPECT_FALSE(queue.interrupt_wanted());
  queue.push(0, 0);
  EXPECT_TRUE(queue.interrupt_wanted());
}

TEST_F(VirtQueueTest, AnEmptyRingAsksForTheNextNotification) {
  queue.set_event_index(true);
  describe(0, 0x8000, 1, 0);
  offer(0);
  (void)queue.pop();
  (void)queue.pop();
  EXPECT_EQ(peek<std::uint16_t>(device + 4 + 8 * size), 1u);
}

TEST_F(VirtQueueTest, BreaksOnAnIndexAheadOfTheRing) {
  poke<std::uint16_t>(driver + 2, size + 1);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnAHeadBeyondTheTable) {
  offer(size);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnASuccessorBeyondTheTable) {
  describe(0, 0x8000, 1, NEXT, size);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnALoop) {
  describe(0, 0x8000, 1, NEXT, 1);
  describe(1, 0x8000, 1, NEXT, 0);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnASelfLoopInAnIndirectTable) {
  describe(0, 0xa000, 16, INDIRECT);
  describe(0, 0x8000, 1, NEXT, 0, 0xa000);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnANestedIndirectTable) {
  describe(0, 0xa000, 16, INDIRECT);
  describe(0, 0xa000, 16, INDIRECT, 0, 0xa000);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnAnIndirectDescriptorWithASuccessor) {
  describe(0, 0xa000, 16, INDIRECT | NEXT, 1);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnAnEmptyIndirectTable) {
  describe(0, 0xa000, 0, INDIRECT);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnAHugeIndirectTable) {
  describe(0, 0xa000, 0xfffffff0, INDIRECT);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnAnOddIndirectTable) {
  describe(0, 0xa000, 17, INDIRECT);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnAnIndirectTableOutsideRam) {
  describe(0, ram - 8, 16, INDIRECT);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnABufferThatWrapsAround) {
  describe(0, ~std::uint64_t{0} - 4, 16, 0);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnMoreThanFourGigabytes) {
  describe(0, 0x8000, 0xffffffff, NEXT, 1);
  describe(1, 0x8000, 0xffffffff, 0);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnReadableBehindWritable) {
  describe(0, 0x8000, 1, NEXT | WRITE, 1);
  describe(1, 0x8000, 1, 0);
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnADriverAreaOutsideRam) {
  queue.setup().driver_area = GuestPhys{ram};
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnADescriptorTableOutsideRam) {
  queue.setup().descriptors = GuestPhys{ram};
  offer(0);
  EXPECT_TRUE(breaks());
}

TEST_F(VirtQueueTest, BreaksOnADeviceAreaOutsideRam) {
  queue.setup().device_area = GuestPhys{ram};
  queue.push(0, 0);
  EXPECT_TRUE(queue.broken());
}

TEST_F(VirtQueueTest, ABrokenRingStaysBrokenUntilReset) {
  offer(size);
  (void)queue.pop();
  describe(0, 0x8000, 1, 0);
  offer(0);
  EXPECT_FALSE(queue.pop().has_value());
  queue.reset();
  EXPECT_FALSE(queue.broken());
}

TEST_F(VirtQueueTest, ADisabledRingGivesNothing) {
  queue.setup().enabled = false;
  describe(0, 0x8000, 1, 0);
  offer(0);
  EXPECT_FALSE(queue.pop().has_value());
}

TEST_F(VirtQueueTest, UnalignedRingsWork) {
  queue.setup().driver_area = GuestPhys{0x2001};
  poke<std::uint16_t>(0x2001 + 2, 1);
  describe(0, 0x8000, 1, 0);
  EXPECT_TRUE(queue.pop().has_value());
}

TEST_F(VirtQueueTest, CopiesAcrossSegments) {
  VirtChain chain;
  chain.writable = {{GuestPhys{0x8000}, 3}, {GuestPhys{0x9000}, 0}, {GuestPhys{0xa000}, 4}};
  constexpr std::array<std::uint8_t, 5> data = {1, 2, 3, 4, 5};
  EXPECT_EQ(copy_to_chain(memory, chain, 1, std::as_bytes(std::span(data))), 5u);
  EXPECT_EQ(peek<std::uint8_t>(0x8001), 1);
  EXPECT_EQ(peek<std::uint8_t>(0xa002), 5);
}

TEST_F(VirtQueueTest, CopyStopsAtTheEndOfTheChain) {
  VirtChain chain;
  chain.readable = {{GuestPhys{0x8000}, 3}};
  std::array<std::byte, 8> out{};
  EXPECT_EQ(copy_from_chain(memory, chain, 1, out), 2u);
}

TEST_F(VirtQueueTest, CopyStopsWhereThereIsNoRam) {
  VirtChain chain;
  chain.writable = {{GuestPhys{0x8000}, 4}, {GuestPhys{ram}, 4}};
  std::array<std::byte, 8> data{};
  EXPECT_EQ(copy_to_chain(memory, chain, 0, data), 4u);
}

TEST_F(VirtQueueTest, RandomRingsNeverHang) {
  std::uint32_t seed = 1;
  const auto random = [&seed] { return seed = seed * 1664525 + 1013904223; };
  unsigned broken = 0;
  for (unsigned round = 0; round < 2000; ++round) {
    for (std::uint64_t at = descriptors; at < descriptors + 16 * size; at += 4) poke(at, random() >> (random() >> 27));
    for (std::uint64_t at = driver + 4; at < driver + 4 + 2 * size; at += 2)
      poke(at, static_cast<std::uint16_t>((random() >> 16) % (size + 1)));
    poke(driver + 2, static_cast<std::uint16_t>((random() >> 16) % (size + 2)));
    queue.reset();
    enable();
    while (const auto chain = queue.pop()) queue.push(chain->head, 0);
    broken += queue.broken();
  }
  EXPECT_GT(broken, 100u);
}

}  // namespace
}  // namespace veneer::devices
