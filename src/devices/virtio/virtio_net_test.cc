// The network device behind its transport, driven as a driver does it: well and badly.
#include "devices/virtio/virtio_net.h"

#include <gmock/gmock.h>

#include <array>
#include <vector>

#include "base/bits.h"
#include "devices/testing/virtio_driver.h"
#include "devices/virtio/virtio_net_defs.h"
#include "net/test_packets.h"

namespace veneer::devices {
namespace {

using testing::Piece;
using testing::VERSION_1;
using testing::VirtioDriver;

constexpr std::uint64_t ram_bytes = 1024 * KiB;
constexpr std::uint64_t buffers = 0x40000;
constexpr std::uint64_t usual = VERSION_1 | bit(NET_F_MAC) | bit(NET_F_CTRL_VQ) | bit(NET_F_CTRL_RX) |
                                bit(NET_F_CTRL_MAC_ADDR) | bit(NET_F_STATUS) | bit(NET_F_MRG_RXBUF);
constexpr net::MacAddress own_mac = {0x52, 0x56, 0, 1, 2, 3};
constexpr std::size_t header = 12;

struct FakePort final : net::CardPort {
  void wake() override { ++wakes; }
  void forget_waiting() override { ++forgets; }
  unsigned wakes = 0, forgets = 0;
};

class VirtioNetTest : public VirtioDriver {
 protected:
  VirtioNetTest() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok());
    plug(function);
  }
  void start(std::uint64_t features = usual, unsigned queues = 5) {
    set_up_queues(features, queues);
    driver_ok();
  }

  /// The driver sends a frame behind this header.
  void send(const std::vector<std::byte>& bytes, const std::array<std::uint8_t, header>& head = {}) {
    ASSERT_TRUE(ram.write(GuestPhys{buffers}, std::as_bytes(std::span(head))));
    ASSERT_TRUE(ram.write(GuestPhys{buffers + header}, bytes));
    offer(1, 0, {{buffers, static_cast<std::uint32_t>(header + bytes.size()), false}});
    memory.write(notify + 4, 2, 1);
  }
  /// What the link then gets.
  bool taken() {
    const bool got = net.take(frame);
    net.announce();
    return got;
  }
  /// `count` buffers for the device to receive into.
  void make_room(unsigned count, std::uint32_t bytes, unsigned queue = 0) {
    for (unsigned i = 0; i < count; ++i)
      offer(queue, static_cast<std::uint16_t>(i), {{buffers + 0x1000 * i, bytes, true}});
  }
  net::Given give(const std::vector<std::byte>& bytes, net::Offload offload = {}) {
    net::Frame out = net::testing::as_frame(bytes);
    out.offload = offload;
    const net::Given given = net.give(out);
    net.announce();
    return given;
  }
  std::vector<std::byte> addressed_to(const net::MacAddress& to, std::size_t size = 100) {
    std::vector<std::byte> out(size, std::byte{0x77});
    for (std::size_t i = 0; i < 6; ++i) out[i] = std::byte{to[i]};
    return out;
  }
  std::uint8_t control(const std::vector<std::uint8_t>& bytes, unsigned queue = 2) {
    ASSERT_TRUE_OR(ram.write(GuestPhys{0x90000}, std::as_bytes(std::span(bytes))));
    poke<std::uint8_t>(0x9f000, 0xee);
    offer(queue, 0, {{0x90000, static_cast<std::uint32_t>(bytes.size()), false}, {0x9f000, 1, true}});
    memory.write(notify + 4 * queue, 2, queue);
    return peek<std::uint8_t>(0x9f000);
  }
  static void ASSERT_TRUE_OR(bool good) { EXPECT_TRUE(good); }

  FakePort port;
  VirtioNet net{ram, port, own_mac, 2};
  VirtioPci function{"virtio-net", net, ram};
  net::Frame frame;
};

TEST_F(VirtioNetTest, HasTheIdsOfAModernNetworkDevice) { EXPECT_EQ(function.read_config(0, 4), 0x10411af4u); }
TEST_F(VirtioNetTest, IsAnEthernetController) { EXPECT_EQ(function.read_config(8, 4) >> 8, 0x020000u); }
TEST_F(VirtioNetTest, TellsItsAddress) { EXPECT_EQ(memory.read(config, 1), own_mac[0]); }
TEST_F(VirtioNetTest, TellsItsPairs) { EXPECT_EQ(memory.read(config + 8, 2), 2u); }
TEST_F(VirtioNetTest, TellsItsMtu) { EXPECT_EQ(memory.read(config + 10, 2), 1500u); }

// ---- Sending --------------------------------------------------------------------------------------------------------

TEST_F(VirtioNetTest, SendsAFrame) {
  start();
  send(addressed_to(own_mac, 77));
  EXPECT_GT(port.wakes, 0u);
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.size(), 77u);
  EXPECT_EQ(frame.bytes()[76], std::byte{0x77});
  EXPECT_EQ(used(1), 1u);
  EXPECT_TRUE(irq.level);
}
TEST_F(VirtioNetTest, HeaderAndFrameMayBeCutAnywhere) {
  start();
  poke<std::uint8_t>(buffers + 0x2000, 0x5a);
  offer(1, 0, {{buffers, 5, false}, {buffers + 5, 27, false}, {buffers + 0x2000, 1, false}});
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.size(), 21u);
  EXPECT_EQ(frame.bytes()[20], std::byte{0x5a});
}
TEST_F(VirtioNetTest, NothingIsTakenFromAnEmptyRing) {
  start();
  EXPECT_FALSE(taken());
}
TEST_F(VirtioNetTest, NothingIsTakenBeforeTheDriverIsReady) { EXPECT_FALSE(taken()); }
TEST_F(VirtioNetTest, AChecksumIsLeftToUs) {
  start(usual | bit(NET_F_CSUM));
  send(addressed_to(own_mac), {NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 0, 0, 34, 0, 16, 0});
  ASSERT_TRUE(taken());
  EXPECT_TRUE(frame.offload.needs_checksum);
  EXPECT_EQ(frame.offload.checksum_start, 34u);
  EXPECT_EQ(frame.offload.checksum_offset, 16u);
}
TEST_F(VirtioNetTest, ALargeTcpPacketIsLeftToUs) {
  start(usual | bit(NET_F_CSUM) | bit(NET_F_HOST_TSO4));
  send(addressed_to(own_mac, 5000), {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_TCPV4, 54, 0, 0xb4, 5, 34, 0, 16, 0});
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.offload.segmentation, net::Segmentation::Tcp4);
  EXPECT_EQ(frame.offload.segment_bytes, 1460u);
}
TEST_F(VirtioNetTest, WithThePulledCableNothingIsSent) {
  start();
  net.set_link(false);
  send(addressed_to(own_mac));
  EXPECT_FALSE(taken());
  EXPECT_EQ(used(1), 1u);
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

TEST_F(VirtioNetTest, ReceivesAFrame) {
  start();
  make_room(1, 2048);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Done);
  EXPECT_EQ(used_length(0, 0), header + 100);
  EXPECT_EQ(peek<std::uint16_t>(buffers + 10), 1u);  // num_buffers
  EXPECT_EQ(peek<std::uint8_t>(buffers + header + 99), 0x77);
  EXPECT_TRUE(irq.level);
}
TEST_F(VirtioNetTest, ALargeFrameIsSpreadOverBuffers) {
  start();
  make_room(4, 1024);
  EXPECT_EQ(give(addressed_to(own_mac, 3000)), net::Given::Done);
  EXPECT_EQ(used(0), 3u);
  EXPECT_EQ(peek<std::uint16_t>(buffers + 10), 3u);
  EXPECT_EQ(used_length(0, 0), 1024u);
  EXPECT_EQ(used_length(0, 2), header + 3000 - 2048);
}
TEST_F(VirtioNetTest, WithoutEnoughBuffersItWaits) {
  start();
  make_room(2, 1024);
  EXPECT_EQ(give(addressed_to(own_mac, 3000)), net::Given::Full);
  EXPECT_EQ(used(0), 0u);
  offer(0, 5, {{buffers + 0x5000, 1024, true}});
  EXPECT_EQ(give(addressed_to(own_mac, 3000)), net::Given::Done);
  EXPECT_EQ(used(0), 3u);
}
TEST_F(VirtioNetTest, AFrameThatNeverFitsIsDropped) {
  start();
  make_room(ring_size, 64);
  EXPECT_EQ(give(addressed_to(own_mac, 3000)), net::Given::Dropped);
  EXPECT_EQ(give(addressed_to(own_mac, 60)), net::Given::Done);  // and the buffers are still there
}
TEST_F(VirtioNetTest, WithoutMergeableBuffersAFrameNeedsOne) {
  start(usual & ~bit(NET_F_MRG_RXBUF));
  make_room(2, 64);
  EXPECT_EQ(give(addressed_to(own_mac, 100)), net::Given::Dropped);
}
TEST_F(VirtioNetTest, NewRoomWakesTheLink) {
  start();
  port.wakes = 0;
  make_room(1, 2048);
  memory.write(notify, 2, 0);
  EXPECT_EQ(port.wakes, 1u);
}
TEST_F(VirtioNetTest, AChecksumIsLeftToTheGuest) {
  start(usual | bit(NET_F_GUEST_CSUM));
  make_room(1, 2048);
  EXPECT_TRUE(net.abilities().checksum);
  (void)give(addressed_to(own_mac), {.needs_checksum = true, .checksum_start = 34, .checksum_offset = 16});
  EXPECT_EQ(peek<std::uint8_t>(buffers), NET_HDR_F_NEEDS_CSUM);
  EXPECT_EQ(peek<std::uint16_t>(buffers + 6), 34u);
  EXPECT_EQ(peek<std::uint16_t>(buffers + 8), 16u);
}
TEST_F(VirtioNetTest, AGoodChecksumIsSaid) {
  start(usual | bit(NET_F_GUEST_CSUM));
  make_room(1, 2048);
  (void)give(addressed_to(own_mac), {.checksum_good = true});
  EXPECT_EQ(peek<std::uint8_t>(buffers), NET_HDR_F_DATA_VALID);
}
TEST_F(VirtioNetTest, ALargeTcpPacketIsLeftToTheGuest) {
  start(usual | bit(NET_F_GUEST_CSUM) | bit(NET_F_GUEST_TSO4));
  make_room(4, 1024);
  (void)give(net::testing::make_packet({.payload_bytes = 3000}), {.needs_checksum = true,
                                                                  .checksum_start = 34,
                                                                  .checksum_offset = 16,
                                                                  .segmentation = net::Segmentation::Tcp4,
                                                                  .segment_bytes = 1460});
  EXPECT_EQ(peek<std::uint8_t>(buffers + 1), NET_HDR_GSO_TCPV4);
  EXPECT_EQ(peek<std::uint16_t>(buffers + 2), 54u);
  EXPECT_EQ(peek<std::uint16_t>(buffers + 4), 1460u);
}
TEST_F(VirtioNetTest, WhatWasNotAgreedIsNotAbleTo) {
  start();
  EXPECT_FALSE(net.abilities().checksum);
  EXPECT_FALSE(net.abilities().tcp4);
}
TEST_F(VirtioNetTest, AnnouncedToTheTranslator) {
  ram.find(GuestPhys{0})->code_pages[buffers >> page_shift] = 1;
  unsigned heard = 0;
  ram.set_code_write_listener([&](machine::MemorySlot&, std::uint64_t, std::uint64_t) { ++heard; });
  start();
  make_room(1, 2048);
  (void)give(addressed_to(own_mac));
  EXPECT_GT(heard, 0u);
}

// ---- Control queue --------------------------------------------------------------------------------------------------

constexpr net::MacAddress other_mac = {0x52, 0x56, 9, 9, 9, 9}, group = {0x33, 0x33, 0, 0, 0, 1},
                          everybody = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

TEST_F(VirtioNetTest, LetsInItsOwnAndBroadcastsOnly) {
  start();
  make_room(4, 2048);
  EXPECT_EQ(control({NET_CTRL_RX, NET_CTRL_RX_PROMISC, 0}), NET_OK);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Done);
  EXPECT_EQ(give(addressed_to(everybody)), net::Given::Done);
  EXPECT_EQ(give(addressed_to(other_mac)), net::Given::Dropped);
  EXPECT_EQ(give(addressed_to(group)), net::Given::Dropped);
}
TEST_F(VirtioNetTest, LetsInWhatIsInTheTable) {
  start();
  make_room(4, 2048);
  (void)control({NET_CTRL_RX, NET_CTRL_RX_PROMISC, 0});
  EXPECT_EQ(control({NET_CTRL_MAC,
                     NET_CTRL_MAC_TABLE_SET,
                     1,
                     0,
                     0,
                     0,
                     0x52,
                     0x56,
                     9,
                     9,
                     9,
                     9,  //
                     1,
                     0,
                     0,
                     0,
                     0x33,
                     0x33,
                     0,
                     0,
                     0,
                     1}),
            NET_OK);
  EXPECT_EQ(give(addressed_to(other_mac)), net::Given::Done);
  EXPECT_EQ(give(addressed_to(group)), net::Given::Done);
}
TEST_F(VirtioNetTest, AllMulticast) {
  start();
  make_room(4, 2048);
  (void)control({NET_CTRL_RX, NET_CTRL_RX_PROMISC, 0});
  (void)control({NET_CTRL_RX, NET_CTRL_RX_ALLMULTI, 1});
  EXPECT_EQ(give(addressed_to(group)), net::Given::Done);
}
TEST_F(VirtioNetTest, TheDriverSetsTheAddress) {
  start();
  EXPECT_EQ(control({NET_CTRL_MAC, NET_CTRL_MAC_ADDR_SET, 0x52, 0x56, 9, 9, 9, 9}), NET_OK);
  EXPECT_EQ(memory.read(config + 2, 1), 9u);
}
TEST_F(VirtioNetTest, AResetGivesTheAddressBack) {
  start();
  (void)control({NET_CTRL_MAC, NET_CTRL_MAC_ADDR_SET, 0x52, 0x56, 9, 9, 9, 9});
  memory.write(registers + 20, 1, 0);
  EXPECT_EQ(memory.read(config + 5, 1), own_mac[5]);
  EXPECT_GT(port.forgets, 0u);
}
TEST_F(VirtioNetTest, PairsAreSetWithMultiqueue) {
  start(usual | bit(NET_F_MQ));
  EXPECT_EQ(control({NET_CTRL_MQ, NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0}, 4), NET_OK);
  EXPECT_EQ(control({NET_CTRL_MQ, NET_CTRL_MQ_VQ_PAIRS_SET, 3, 0}, 4), NET_ERR);
  EXPECT_EQ(control({NET_CTRL_MQ, NET_CTRL_MQ_VQ_PAIRS_SET, 0, 0}, 4), NET_ERR);
}
TEST_F(VirtioNetTest, AFlowComesBackOnItsPair) {
  start(usual | bit(NET_F_MQ));
  (void)control({NET_CTRL_MQ, NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0}, 4);
  make_room(1, 2048, 0);
  make_room(1, 2048, 2);
  const auto out = net::testing::make_packet({.source = 1, .destination = 2, .source_port = 3, .destination_port = 4});
  ASSERT_TRUE(ram.write(GuestPhys{0x80000 + header}, out));
  offer(3, 0, {{0x80000, static_cast<std::uint32_t>(header + out.size()), false}});
  ASSERT_TRUE(taken());
  EXPECT_EQ(give(net::testing::make_packet({.source = 2, .destination = 1, .source_port = 4, .destination_port = 3})),
            net::Given::Done);
  EXPECT_EQ(used(2), 1u);
  EXPECT_EQ(used(0), 0u);
}
TEST_F(VirtioNetTest, OffloadsAreSwitchedOff) {
  start(usual | bit(NET_F_GUEST_CSUM) | bit(NET_F_GUEST_TSO4) | bit(NET_F_CTRL_GUEST_OFFLOADS));
  EXPECT_TRUE(net.abilities().tcp4);
  EXPECT_EQ(control({NET_CTRL_GUEST_OFFLOADS, 0, 2, 0, 0, 0, 0, 0, 0, 0}), NET_OK);
  EXPECT_FALSE(net.abilities().tcp4);
  EXPECT_TRUE(net.abilities().checksum);
}
TEST_F(VirtioNetTest, OffloadsThatWereNotAgreedAreRefused) {
  start();
  EXPECT_EQ(control({NET_CTRL_GUEST_OFFLOADS, 0, 2, 0, 0, 0, 0, 0, 0, 0}), NET_ERR);
}
TEST_F(VirtioNetTest, TheCableIsSeenByTheDriver) {
  start();
  EXPECT_EQ(memory.read(config + 6, 2), NET_S_LINK_UP);
  net.set_link(false);
  EXPECT_EQ(memory.read(config + 6, 2), 0u);
  EXPECT_TRUE(irq.level);
}

// ---- Hostile drivers ------------------------------------------------------------------------------------------------

TEST_F(VirtioNetTest, AFrameOfNothingIsGivenBack) {
  start();
  offer(1, 0, {{buffers, 12, false}});
  EXPECT_FALSE(taken());
  EXPECT_EQ(used(1), 1u);
}
TEST_F(VirtioNetTest, AHugeFrameIsGivenBack) {
  start();
  offer(1, 0, {{buffers, 0xfffff000, false}});
  EXPECT_FALSE(taken());
  EXPECT_EQ(used(1), 1u);
}
TEST_F(VirtioNetTest, AFrameOutsideRamIsGivenBack) {
  start();
  offer(1, 0, {{ram_bytes - 50, 100, false}});
  offer(1, 1, {{registers, 100, false}});
  EXPECT_FALSE(taken());
  EXPECT_EQ(used(1), 2u);
}
TEST_F(VirtioNetTest, AChecksumOutsideTheFrameIsNoFrame) {
  start(usual | bit(NET_F_CSUM));
  send(addressed_to(own_mac), {NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 0, 0, 99, 0, 0, 0});
  EXPECT_FALSE(taken());
}
TEST_F(VirtioNetTest, OffloadsThatWereNotAgreedAreNoFrames) {
  start();
  send(addressed_to(own_mac), {NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 0, 0, 34, 0, 16, 0});
  EXPECT_FALSE(taken());
}
TEST_F(VirtioNetTest, SegmentsOfNothingAreNoFrames) {
  start(usual | bit(NET_F_CSUM) | bit(NET_F_HOST_TSO4));
  send(addressed_to(own_mac), {NET_HDR_F_NEEDS_CSUM, NET_HDR_GSO_TCPV4, 54, 0, 0, 0, 34, 0, 16, 0});
  EXPECT_FALSE(taken());
}
TEST_F(VirtioNetTest, AnUnknownSegmentationIsNoFrame) {
  start(usual | bit(NET_F_CSUM));
  send(addressed_to(own_mac), {NET_HDR_F_NEEDS_CSUM, 77, 54, 0, 1, 1, 34, 0, 16, 0});
  EXPECT_FALSE(taken());
}
TEST_F(VirtioNetTest, AReceiveBufferOutsideRamBreaksTheQueue) {
  start();
  offer(0, 0, {{ram_bytes, 2048, true}});
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Dropped);
  (void)taken();
  EXPECT_TRUE(needs_reset());
}
TEST_F(VirtioNetTest, AReceiveBufferInDeviceRegistersBreaksTheQueue) {
  start();
  offer(0, 0, {{registers, 2048, true}});
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Dropped);
}
TEST_F(VirtioNetTest, AReceiveBufferForReadingNeverHasRoom) {
  start();
  offer(0, 0, {{buffers, 2048, false}});
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Full);
}
TEST_F(VirtioNetTest, AnIndexThatRanAheadBreaksTheQueue) {
  start();
  poke<std::uint16_t>(driver_area(1) + 2, 1000);
  EXPECT_FALSE(taken());
  EXPECT_TRUE(needs_reset());
}
TEST_F(VirtioNetTest, CommandsThatAreCutAreRefused) {
  start();
  EXPECT_EQ(control({NET_CTRL_RX}), NET_ERR);
  EXPECT_EQ(control({NET_CTRL_RX, 0}), NET_ERR);
  EXPECT_EQ(control({NET_CTRL_RX, 0, 2}), NET_ERR);
  EXPECT_EQ(control({NET_CTRL_RX, 99, 1}), NET_ERR);
  EXPECT_EQ(control({99, 0, 1}), NET_ERR);
  EXPECT_EQ(control({NET_CTRL_MAC, 0, 1, 0, 0, 0}), NET_ERR);
  EXPECT_EQ(control({NET_CTRL_MAC, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}), NET_ERR);
}
TEST_F(VirtioNetTest, ACommandWithoutRoomForItsAnswerBreaksTheQueue) {
  start();
  offer(2, 0, {{buffers, 3, false}});
  memory.write(notify + 8, 2, 2);
  EXPECT_TRUE(needs_reset());
}
TEST_F(VirtioNetTest, AHugeCommandIsRefused) {
  start();
  offer(2, 0, {{0x10000, 0x20000, false}, {0x9f000, 1, true}});
  memory.write(notify + 8, 2, 2);
  EXPECT_EQ(peek<std::uint8_t>(0x9f000), NET_ERR);
}
TEST_F(VirtioNetTest, RandomRingsAreSurvived) {
  std::uint32_t random = 11;
  const auto next = [&random] { return (random = random * 1664525 + 1013904223) >> 8; };
  for (unsigned round = 0; round < 300; ++round) {
    memory.write(registers + 20, 1, 0);
    for (unsigned queue = 0; queue < 5; ++queue) {
      poke<std::uint16_t>(driver_area(queue) + 2, 0);
      poke<std::uint16_t>(device_area(queue) + 2, 0);
    }
    start(usual | bit(NET_F_CSUM) | bit(NET_F_HOST_TSO4) | bit(NET_F_HOST_UFO) | bit(NET_F_MQ) | bit(28));
    for (unsigned queue = 0; queue < 5; ++queue) {
      for (unsigned i = 0; i < ring_size; ++i) {
        const std::uint64_t at = descriptors(queue) + 16 * i;
        poke<std::uint64_t>(at, next() % 5 == 0 ? next() : buffers + next() % 0x8000);
        poke<std::uint32_t>(at + 8, next() % 7 == 0 ? next() : next() % 3000);
        poke<std::uint16_t>(at + 12, static_cast<std::uint16_t>(next() % 8));
        poke<std::uint16_t>(at + 14, static_cast<std::uint16_t>(next() % (ring_size + 1)));
        poke<std::uint16_t>(driver_area(queue) + 4 + 2 * i, static_cast<std::uint16_t>(next() % (ring_size + 1)));
      }
      poke<std::uint16_t>(driver_area(queue) + 2, static_cast<std::uint16_t>(next() % (ring_size + 2)));
      memory.write(notify + 4 * queue, 2, queue);
    }
    for (unsigned i = 0; i < 20; ++i) (void)taken();
    for (unsigned i = 0; i < 10; ++i) (void)give(addressed_to(own_mac, 14 + next() % 9000));
  }
}

// ---- Saving ---------------------------------------------------------------------------------------------------------

std::vector<std::byte> saved(const VirtioPci& function) {
  machine::SnapshotWriter out;
  function.save(out);
  return out.data();
}

TEST_F(VirtioNetTest, GoesOnAfterRestoring) {
  start(usual | bit(NET_F_GUEST_CSUM));
  make_room(2, 2048);
  (void)control({NET_CTRL_RX, NET_CTRL_RX_PROMISC, 0});
  (void)control({NET_CTRL_MAC, NET_CTRL_MAC_ADDR_SET, 0x52, 0x56, 9, 9, 9, 9});
  const auto state = saved(function);
  memory.write(registers + 20, 1, 0);
  EXPECT_NE(saved(function), state);
  machine::SnapshotReader in(state);
  function.restore(in);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.left(), 0u);
  EXPECT_EQ(saved(function), state);
  EXPECT_EQ(give(addressed_to(other_mac)), net::Given::Done);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Dropped);
  EXPECT_TRUE(net.abilities().checksum);
}
TEST_F(VirtioNetTest, AnyStateIsSurvived) {
  start();
  const auto state = saved(function);
  for (std::size_t i = 0; i < state.size(); ++i) {
    auto damaged = state;
    damaged[i] = std::byte{0xff};
    machine::SnapshotReader in(damaged);
    function.restore(in);
    (void)taken();
    (void)give(addressed_to(own_mac));
  }
}

}  // namespace
}  // namespace veneer::devices
