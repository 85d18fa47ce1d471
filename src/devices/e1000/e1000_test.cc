// The 82540EM driven as a driver does it: well and badly.
#include "devices/e1000/e1000.h"

#include <gmock/gmock.h>

#include <array>
#include <vector>

#include "devices/pci/pci_bus.h"
#include "devices/testing/fakes.h"
#include "net/offload.h"
#include "net/test_packets.h"

namespace veneer::devices {
namespace {

using namespace e1000;

constexpr std::uint64_t registers = 0xc0000000, ports_at = 0xc000;
constexpr std::uint64_t ram_bytes = 512 * KiB;
constexpr std::uint64_t receive_ring = 0x1000, transmit_ring = 0x2000, buffers = 0x20000;
constexpr std::uint32_t ring_size = 8;
constexpr net::MacAddress own_mac = {0x52, 0x56, 0, 1, 2, 3};

struct FakePort final : net::CardPort {
  void wake() override { ++wakes; }
  void forget_waiting() override { ++forgets; }
  unsigned wakes = 0, forgets = 0;
};

class E1000Test : public ::testing::Test {
 protected:
  E1000Test() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok());
    bus.plug(3, card);
    bus.reset();
    bus.assign_resources({registers, 0x100000, 0, 0, ports_at, 0x1000});
    card.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER | pci::COMMAND_IO);
  }
  std::uint32_t get(std::uint32_t offset) { return static_cast<std::uint32_t>(memory.read(registers + offset, 4)); }
  void set(std::uint32_t offset, std::uint32_t value) { memory.write(registers + offset, 4, value); }
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
  void start() {
    set(RDBAL, receive_ring);
    set(RDLEN, ring_size * 16);
    set(TDBAL, transmit_ring);
    set(TDLEN, ring_size * 16);
    set(TCTL, TCTL_EN);
    set(RCTL, RCTL_EN | RCTL_BAM);
    for (std::uint32_t i = 0; i < ring_size; ++i) {
      poke<std::uint64_t>(receive_ring + 16 * i, buffers + 0x800 * i);
      poke<std::uint64_t>(receive_ring + 16 * i + 8, 0);
    }
    set(RDT, ring_size - 1);
    set(IMS, CAUSE_TXDW | CAUSE_RXT0 | CAUSE_LSC);
  }
  /// Places a transmit descriptor behind the last.
  void place(std::uint64_t address, std::uint32_t lower, std::uint32_t upper) {
    const std::uint32_t tail = get(TDT);
    poke(transmit_ring + 16 * tail, address);
    poke(transmit_ring + 16 * tail + 8, lower);
    poke(transmit_ring + 16 * tail + 12, upper);
    set(TDT, (tail + 1) % ring_size);
  }
  static constexpr std::uint32_t command(std::uint32_t bits) { return bits << 24; }
  bool taken() {
    const bool got = card.take(frame);
    card.announce();
    return got;
  }
  net::Given give(const std::vector<std::byte>& bytes, bool checksum_good = false) {
    net::Frame out = net::testing::as_frame(bytes);
    out.offload.checksum_good = checksum_good;
    const net::Given given = card.give(out);
    card.announce();
    return given;
  }
  std::vector<std::byte> addressed_to(const net::MacAddress& to, std::size_t size = 100) {
    std::vector<std::byte> out(size, std::byte{0x77});
    for (std::size_t i = 0; i < 6; ++i) out[i] = std::byte{to[i]};
    return out;
  }
  std::uint16_t eeprom_by_wire(unsigned address) {
    const auto clock_in = [&](bool bit) {
      const std::uint32_t level = EECD_CS | (bit ? EECD_DI : 0);
      set(EECD, level);
      set(EECD, level | EECD_SK);
      set(EECD, level);
    };
    set(EECD, EECD_REQ);
    EXPECT_TRUE(get(EECD) & EECD_GNT);
    for (int i = 2; i >= 0; --i) clock_in((0b110 >> i) & 1);
    for (int i = 5; i >= 0; --i) clock_in((address >> i) & 1);
    std::uint16_t out = 0;
    for (int i = 0; i < 16; ++i) {
      set(EECD, EECD_CS | EECD_SK);
      out = static_cast<std::uint16_t>((out << 1) | ((get(EECD) & EECD_DO) ? 1 : 0));
      set(EECD, EECD_CS);
    }
    set(EECD, 0);
    return out;
  }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock};
  machine::Bus ports{"port", lock};
  machine::GuestMemory ram;
  ApicBus apics{lock};
  std::array<testing::FakeIrqLine, 4> lines;
  PciBus bus{{memory, ports, apics, {&lines[0], &lines[1], &lines[2], &lines[3]}}};
  FakePort port;
  E1000 card{"e1000", ram, port, own_mac};
  net::Frame frame;
};

TEST_F(E1000Test, HasItsIds) { EXPECT_EQ(card.read_config(0, 4), 0x100e8086u); }

// ---- EEPROM, PHY, registers -----------------------------------------------------------------------------------------

TEST_F(E1000Test, TheEepromHasTheAddress) {
  EXPECT_EQ(eeprom_by_wire(0), 0x5652);
  EXPECT_EQ(eeprom_by_wire(2), 0x0302);
}
TEST_F(E1000Test, TheEepromsSumIsRight) {
  std::uint16_t sum = 0;
  for (unsigned i = 0; i < 64; ++i) sum = static_cast<std::uint16_t>(sum + eeprom_by_wire(i));
  EXPECT_EQ(sum, 0xbaba);
}
TEST_F(E1000Test, TheEepromByRegister) {
  set(EERD, (1u << 8) | EERD_START);
  EXPECT_EQ(get(EERD), 0x0100'0000u | (1u << 8) | EERD_DONE);
}
/// U-Boot reads the EEPROM only while it has these.
TEST_F(E1000Test, SemaphoresCanBeTaken) {
  set(SWSM, 2);
  EXPECT_EQ(get(SWSM), 2u);
  set(SW_FW_SYNC, 1);
  EXPECT_EQ(get(SW_FW_SYNC), 1u);
}
TEST_F(E1000Test, TheFirstReceiveAddressIsItsOwn) {
  EXPECT_EQ(get(RAL0), 0x01005652u);
  EXPECT_EQ(get(RAL0 + 4), 0x0302u | RAH_AV);
}
TEST_F(E1000Test, ThePhySaysWhoItIs) {
  set(MDIC, MDIC_OP_READ | (1u << 21) | (PHY_ID1 << 16));
  EXPECT_EQ(get(MDIC) & (MDIC_R | MDIC_E | 0xffff), MDIC_R | 0x0141u);
}
TEST_F(E1000Test, ThereIsOnePhy) {
  set(MDIC, MDIC_OP_READ | (2u << 21) | (PHY_ID1 << 16));
  EXPECT_TRUE(get(MDIC) & MDIC_E);
}
TEST_F(E1000Test, TheLinkIsUp) {
  EXPECT_TRUE(get(STATUS) & STATUS_LU);
  set(MDIC, MDIC_OP_READ | (1u << 21) | (PHY_STATUS << 16));
  EXPECT_EQ(get(MDIC) & 0x24u, 0x24u);
}
TEST_F(E1000Test, PullingTheCableInterrupts) {
  start();
  card.set_link(false);
  EXPECT_FALSE(get(STATUS) & STATUS_LU);
  EXPECT_TRUE(lines[3].level);
  EXPECT_TRUE(get(ICR) & CAUSE_LSC);
}
TEST_F(E1000Test, ReadingTheCausesTakesThem) {
  set(IMS, CAUSE_LSC);
  set(ICS, CAUSE_LSC);
  EXPECT_TRUE(lines[3].level);
  EXPECT_EQ(get(ICR), CAUSE_LSC);
  EXPECT_FALSE(lines[3].level);
  EXPECT_EQ(get(ICR), 0u);
}
TEST_F(E1000Test, MaskedCausesDoNotInterrupt) {
  set(ICS, CAUSE_LSC);
  EXPECT_FALSE(lines[3].level);
  set(IMS, CAUSE_LSC);
  EXPECT_TRUE(lines[3].level);
  set(IMC, CAUSE_LSC);
  EXPECT_FALSE(lines[3].level);
}
TEST_F(E1000Test, TheWindowOfPortsReachesTheRegisters) {
  ports.write(ports_at, 4, RAL0);
  EXPECT_EQ(ports.read(ports_at + 4, 4), 0x01005652u);
}
TEST_F(E1000Test, AResetOfTheCard) {
  start();
  set(CTRL, CTRL_RST);
  EXPECT_EQ(get(RCTL), 0u);
  EXPECT_EQ(get(CTRL) & CTRL_RST, 0u);
  EXPECT_EQ(get(RAL0), 0x01005652u);
}

// ---- Sending --------------------------------------------------------------------------------------------------------

TEST_F(E1000Test, SendsALegacyDescriptor) {
  start();
  poke<std::uint8_t>(buffers + 99, 0x42);
  place(buffers, 100 | command(TX_EOP | TX_RS), 0);
  EXPECT_GT(port.wakes, 0u);
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.size(), 100u);
  EXPECT_EQ(frame.bytes()[99], std::byte{0x42});
  EXPECT_EQ(peek<std::uint32_t>(transmit_ring + 12) & TX_DD, TX_DD);
  EXPECT_EQ(get(TDH), 1u);
  EXPECT_TRUE(lines[3].level);
}
TEST_F(E1000Test, GathersDescriptorsAcrossTheRingsEnd) {
  start();
  set(TDH, ring_size - 1);
  set(TDT, ring_size - 1);
  place(buffers, 60 | command(0), 0);
  place(buffers + 0x1000, 40 | command(TX_EOP), 0);
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.size(), 100u);
  EXPECT_EQ(get(TDH), 1u);
}
TEST_F(E1000Test, HalfAPacketWaits) {
  start();
  place(buffers, 60 | command(0), 0);
  EXPECT_FALSE(taken());
  place(buffers, 60 | command(TX_EOP), 0);
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.size(), 120u);
}
TEST_F(E1000Test, InsertsChecksums) {
  start();
  auto packet = net::testing::make_packet({.payload_bytes = 77});
  const auto headers = net::find_headers(packet, net::Lengths::FromHeader);
  net::store_raw16(packet, 14 + net::IPV4_CHECKSUM, 0);
  net::store_raw16(packet, 34 + net::TCP_CHECKSUM,
                   net::fold(net::pseudo_header_sum(packet, *headers, packet.size() - 34)));
  ASSERT_TRUE(ram.write(GuestPhys{buffers}, packet));
  place(14 | (24ull << 8) | (33ull << 16) | (34ull << 32) | (50ull << 40), command(TX_DEXT), 0);
  place(buffers, static_cast<std::uint32_t>(packet.size()) | (1u << 20) | command(TX_EOP | TX_DEXT),
        (POPTS_IXSM | POPTS_TXSM) << 8);
  ASSERT_TRUE(taken());
  EXPECT_TRUE(net::testing::checksums_right(frame.bytes()));
}
TEST_F(E1000Test, SegmentsTcp) {
  start();
  auto packet = net::testing::make_packet({.payload_bytes = 3000});
  net::store_be16(packet, 14 + net::IPV4_TOTAL_LENGTH, 0);  // as drivers leave it
  net::store_raw16(packet, 14 + net::IPV4_CHECKSUM, 0);
  ASSERT_TRUE(ram.write(GuestPhys{buffers}, packet));
  place(14 | (24ull << 8) | (33ull << 16) | (34ull << 32) | (50ull << 40),
        3000 | command(TX_DEXT | TX_TSE | TUCMD_TCP | TUCMD_IP), (54u << 8) | (1460u << 16));
  place(buffers, static_cast<std::uint32_t>(packet.size()) | (1u << 20) | command(TX_EOP | TX_DEXT | TX_TSE),
        (POPTS_IXSM | POPTS_TXSM) << 8);
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.offload.segmentation, net::Segmentation::Tcp4);
  unsigned segments = 0;
  EXPECT_TRUE(net::cut(frame, [&](const net::Frame& segment) {
    EXPECT_TRUE(net::testing::checksums_right(segment.bytes()));
    ++segments;
  }));
  EXPECT_EQ(segments, 3u);
}
TEST_F(E1000Test, InsertsAVlanTag) {
  start();
  set(VET, 0x8100);
  place(buffers, 60 | command(TX_EOP | TX_VLE), 0x0007u << 16);
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.size(), 64u);
  EXPECT_EQ(net::load_be32(frame.bytes(), 12), 0x81000007u);
}
TEST_F(E1000Test, ADisabledTransmitterSendsNothing) {
  start();
  set(TCTL, 0);
  place(buffers, 60 | command(TX_EOP), 0);
  EXPECT_FALSE(taken());
}

// ---- Receiving ------------------------------------------------------------------------------------------------------

TEST_F(E1000Test, ReceivesAFrameWithItsChecksum) {
  start();
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Done);
  EXPECT_EQ(peek<std::uint16_t>(receive_ring + 8), 104u);
  EXPECT_EQ(peek<std::uint8_t>(receive_ring + 12), RX_DD | RX_EOP | RX_IXSM);
  EXPECT_EQ(peek<std::uint8_t>(buffers + 99), 0x77);
  EXPECT_TRUE(lines[3].level);
}
TEST_F(E1000Test, TheChecksumIsThatOfTheStandard) {
  start();
  set(RCTL, RCTL_EN | RCTL_UPE);
  std::vector<std::byte> bytes(60);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i & ~std::size_t{1});
  ASSERT_EQ(give(bytes), net::Given::Done);
  // Frame and its checksum leave the residue 0x2144df1c (IEEE 802.3 3.2.9).
  std::uint32_t crc = ~0u;
  for (unsigned i = 0; i < 64; ++i) {
    crc ^= peek<std::uint8_t>(buffers + i);
    for (int step = 0; step < 8; ++step) crc = (crc >> 1) ^ ((crc & 1) ? 0xedb88320u : 0);
  }
  EXPECT_EQ(~crc, 0x2144df1cu);
}
TEST_F(E1000Test, ShortFramesArePadded) {
  start();
  set(RCTL, RCTL_EN | RCTL_SECRC);
  (void)give(addressed_to(own_mac, 20));
  EXPECT_EQ(peek<std::uint16_t>(receive_ring + 8), 60u);
}
TEST_F(E1000Test, AFullRingMakesTheLinkWait) {
  start();
  for (std::uint32_t i = 0; i < ring_size - 1; ++i) ASSERT_EQ(give(addressed_to(own_mac)), net::Given::Done);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Full);
  port.wakes = 0;
  set(RDT, 0);
  EXPECT_EQ(port.wakes, 1u);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Done);
}
TEST_F(E1000Test, ALongFrameNeedsPermission) {
  start();
  EXPECT_EQ(give(addressed_to(own_mac, 4000)), net::Given::Dropped);
  set(RCTL, RCTL_EN | RCTL_LPE);
  EXPECT_EQ(give(addressed_to(own_mac, 4000)), net::Given::Done);
  EXPECT_EQ(peek<std::uint8_t>(receive_ring + 12), RX_DD);
  EXPECT_TRUE(peek<std::uint8_t>(receive_ring + 28) & RX_EOP);
}
TEST_F(E1000Test, SaysThatChecksumsAreGood) {
  start();
  set(RCTL, RCTL_EN | RCTL_UPE);
  set(RXCSUM, RXCSUM_TUOFL | RXCSUM_IPOFL);
  (void)give(net::testing::make_packet({.payload_bytes = 100}), true);
  EXPECT_EQ(peek<std::uint8_t>(receive_ring + 12), RX_DD | RX_EOP | RX_TCPCS | RX_IPCS);
}
TEST_F(E1000Test, FiltersByAddress) {
  start();
  EXPECT_EQ(give(addressed_to({0x52, 0x56, 9, 9, 9, 9})), net::Given::Dropped);
  EXPECT_EQ(give(addressed_to({0xff, 0xff, 0xff, 0xff, 0xff, 0xff})), net::Given::Done);
  EXPECT_EQ(give(addressed_to({0x33, 0x33, 0, 0, 0, 1})), net::Given::Dropped);
  set(RCTL, RCTL_EN | RCTL_UPE);
  EXPECT_EQ(give(addressed_to({0x52, 0x56, 9, 9, 9, 9})), net::Given::Done);
}
TEST_F(E1000Test, TheMulticastTableLetsIn) {
  start();
  // 33:33:00:00:00:01: the highest 12 of 0x0100 are 0x010: word 0, bit 16
  set(MTA, 1u << 16);
  EXPECT_EQ(give(addressed_to({0x33, 0x33, 0, 0, 0, 1})), net::Given::Done);
}
TEST_F(E1000Test, ADisabledReceiverReceivesNothing) {
  start();
  set(RCTL, 0);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Dropped);
}

// ---- Hostile drivers ------------------------------------------------------------------------------------------------

TEST_F(E1000Test, AHugePacketIsDropped) {
  start();
  for (int i = 0; i < 6; ++i) place(buffers, 0xffff | command(0), 0);
  place(buffers, 60 | command(TX_EOP), 0);
  EXPECT_FALSE(taken());
  EXPECT_EQ(get(TDH), 7u);
  place(buffers, 60 | command(TX_EOP), 0);
  EXPECT_TRUE(taken());
}
TEST_F(E1000Test, APacketOutsideRamIsDropped) {
  start();
  place(ram_bytes - 10, 60 | command(TX_EOP), 0);
  place(registers, 60 | command(TX_EOP), 0);
  EXPECT_FALSE(taken());
  EXPECT_EQ(get(TDH), 2u);
}
TEST_F(E1000Test, ARingOutsideRamIsSurvived) {
  start();
  set(TDBAL, 0xf0000000);
  set(RDBAL, 0xf0000000);
  set(TDT, 5);
  EXPECT_FALSE(taken());
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Dropped);
}
TEST_F(E1000Test, AHeadBeyondTheRingIsSurvived) {
  start();
  set(TDH, 0xffff);
  set(RDH, 0xffff);
  set(TDT, 1);
  EXPECT_FALSE(taken());
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Full);
}
TEST_F(E1000Test, ATailBeyondTheRingEnds) {
  start();
  set(TDT, 0xffff);
  for (int i = 0; i < 20; ++i) (void)taken();
  SUCCEED();
}
TEST_F(E1000Test, ReceiveBuffersOutsideRamLoseTheFrame) {
  start();
  poke<std::uint64_t>(receive_ring, ram_bytes - 10);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Dropped);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Done);
}
TEST_F(E1000Test, RandomAccessesAreSurvived) {
  std::uint32_t random = 5;
  const auto next = [&random] { return (random = random * 1664525 + 1013904223) >> 8; };
  for (int round = 0; round < 20'000; ++round) {
    const std::uint32_t offset = next() % 4 ? (next() % 0x1700) * 4 : next() % 0x20000;
    const unsigned size = 1u << (next() % 4);
    if (next() % 3)
      memory.write(registers + offset, size, next() % 2 ? next() : next() % 0x10000);
    else
      (void)memory.read(registers + offset, size);
    if (round % 50 == 0) start();
    if (round % 7 == 0) poke<std::uint32_t>(transmit_ring + 4 * (next() % 32), next() << (next() % 9));
    if (round % 11 == 0) (void)taken();
    if (round % 13 == 0) (void)give(addressed_to(own_mac, 14 + next() % 3000));
  }
}

// ---- Saving ---------------------------------------------------------------------------------------------------------

std::vector<std::byte> saved(const E1000& card) {
  machine::SnapshotWriter out;
  card.save(out);
  return out.data();
}

TEST_F(E1000Test, GoesOnAfterRestoring) {
  start();
  place(buffers, 60 | command(0), 0);  // half a packet
  EXPECT_FALSE(taken());
  const auto state = saved(card);
  card.reset();
  EXPECT_NE(saved(card), state);
  machine::SnapshotReader in(state);
  card.restore(in);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.left(), 0u);
  EXPECT_EQ(saved(card), state);
  place(buffers, 60 | command(TX_EOP), 0);
  ASSERT_TRUE(taken());
  EXPECT_EQ(frame.size(), 120u);
  EXPECT_EQ(give(addressed_to(own_mac)), net::Given::Done);
}
TEST_F(E1000Test, AnyStateIsSurvived) {
  start();
  const auto state = saved(card);
  std::uint32_t random = 9;
  const auto next = [&random] { return (random = random * 1664525 + 1013904223) >> 8; };
  for (int round = 0; round < 2000; ++round) {
    auto damaged = state;
    for (int i = 0; i < 4; ++i) damaged[next() % damaged.size()] = static_cast<std::byte>(next());
    machine::SnapshotReader in(damaged);
    card.restore(in);
    (void)taken();
    (void)give(addressed_to(own_mac));
  }
}

}  // namespace
}  // namespace veneer::devices
