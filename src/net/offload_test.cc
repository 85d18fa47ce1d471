// Segments, fragments and checksums against what a receiver checks.
#include "net/offload.h"

#include <gtest/gtest.h>

#include "net/test_packets.h"

namespace veneer::net {
namespace {

using testing::as_frame;
using testing::checksums_right;
using testing::make_packet;

Frame large(Segmentation kind, std::uint8_t protocol, std::size_t payload_bytes, std::uint16_t segment_bytes) {
  Frame frame =
      as_frame(make_packet({.protocol = protocol, .tcp_flags = 0x19 | TCP_CWR, .payload_bytes = payload_bytes}));
  frame.offload.segmentation = kind;
  frame.offload.segment_bytes = segment_bytes;
  frame.offload.needs_checksum = true;
  frame.offload.checksum_start = 34;
  frame.offload.checksum_offset = protocol == PROTOCOL_TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
  return frame;
}

struct Pieces {
  std::vector<std::vector<std::byte>> frames;
  bool understood = false;
};
Pieces cut_up(const Frame& frame) {
  Pieces pieces;
  pieces.understood =
      cut(frame, [&](const Frame& piece) { pieces.frames.emplace_back(piece.bytes().begin(), piece.bytes().end()); });
  return pieces;
}

TEST(Offload, APartialChecksumIsCompleted) {
  auto bytes = make_packet({.payload_bytes = 333});
  const auto right = load_raw16(bytes, 34 + TCP_CHECKSUM);
  Frame frame = as_frame(bytes);
  const auto packet = find_headers(frame.bytes(), Lengths::FromHeader);
  store_raw16(frame.bytes(), 34 + TCP_CHECKSUM, fold(pseudo_header_sum(frame.bytes(), *packet, packet->end - 34)));
  frame.offload = {.needs_checksum = true, .checksum_start = 34, .checksum_offset = TCP_CHECKSUM};
  complete_checksum(frame);
  EXPECT_EQ(load_raw16(frame.bytes(), 34 + TCP_CHECKSUM), right);
  EXPECT_FALSE(frame.offload.needs_checksum);
}

TEST(Offload, AChecksumBehindTheEndIsNotWritten) {
  Frame frame = as_frame(make_packet({}));
  const std::vector<std::byte> before(frame.bytes().begin(), frame.bytes().end());
  frame.offload = {.needs_checksum = true, .checksum_start = 40, .checksum_offset = 13};
  complete_checksum(frame);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), frame.bytes().begin()));
}

TEST(Offload, AWholePacketHasRightLengthsAndChecksums) {
  Frame frame = large(Segmentation::Tcp4, PROTOCOL_TCP, 30000, 1460);
  store_be16(frame.bytes(), 14 + IPV4_TOTAL_LENGTH, 0);  // some drivers leave it to the card
  ASSERT_TRUE(make_whole(frame));
  EXPECT_TRUE(checksums_right(frame.bytes()));
  EXPECT_EQ(load_be16(frame.bytes(), 14 + IPV4_TOTAL_LENGTH), frame.size() - 14);
}

TEST(Offload, TcpIsCutIntoSegments) {
  const Pieces pieces = cut_up(large(Segmentation::Tcp4, PROTOCOL_TCP, 3000, 1460));
  ASSERT_EQ(pieces.frames.size(), 3u);
  EXPECT_EQ(pieces.frames[0].size(), 54u + 1460);
  EXPECT_EQ(pieces.frames[2].size(), 54u + 80);
  for (const auto& piece : pieces.frames) EXPECT_TRUE(checksums_right(piece));
}

TEST(Offload, SequenceNumbersGoOnAndWrap) {
  const Pieces pieces = cut_up(large(Segmentation::Tcp4, PROTOCOL_TCP, 3000, 1460));
  EXPECT_EQ(load_be32(pieces.frames[1], 34 + TCP_SEQUENCE), 0xffff'fff0u + 1460u);
}

TEST(Offload, IdsGoOn) {
  const Pieces pieces = cut_up(large(Segmentation::Tcp4, PROTOCOL_TCP, 3000, 1460));
  EXPECT_EQ(load_be16(pieces.frames[2], 14 + IPV4_ID), 102u);
}

TEST(Offload, FinAndPushAreOfTheLastAndCwrOfTheFirst) {
  const Pieces pieces = cut_up(large(Segmentation::Tcp4, PROTOCOL_TCP, 3000, 1460));
  const auto flags = [&](std::size_t i) { return std::to_integer<unsigned>(pieces.frames[i][34 + TCP_FLAGS]); };
  EXPECT_EQ(flags(0), 0x10u | TCP_CWR);
  EXPECT_EQ(flags(1), 0x10u);
  EXPECT_EQ(flags(2), 0x19u);
}

TEST(Offload, TheDataIsAllThereInOrder) {
  const Frame frame = large(Segmentation::Tcp4, PROTOCOL_TCP, 3000, 1000);
  std::vector<std::byte> data;
  for (const auto& piece : cut_up(frame).frames) data.insert(data.end(), piece.begin() + 54, piece.end());
  EXPECT_TRUE(std::equal(data.begin(), data.end(), frame.bytes().begin() + 54, frame.bytes().end()));
}

TEST(Offload, ADatagramIsCutIntoFragments) {
  const Pieces pieces = cut_up(large(Segmentation::Udp, PROTOCOL_UDP, 4000, 1480));
  ASSERT_EQ(pieces.frames.size(), 3u);
  std::vector<std::byte> datagram(pieces.frames[0].begin(), pieces.frames[0].begin() + 34);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& piece = pieces.frames[i];
    EXPECT_LE(piece.size(), mtu_bytes + 14);
    EXPECT_EQ(fold(add_bytes(0, std::span(piece).subspan(14, 20))), 0xffff);
    const unsigned field = load_be16(piece, 14 + IPV4_FRAGMENT);
    EXPECT_EQ((field & IPV4_OFFSET_MASK) * 8u, datagram.size() - 34);
    EXPECT_EQ((field & IPV4_MORE_FRAGMENTS) != 0, i != 2);
    datagram.insert(datagram.end(), piece.begin() + 34, piece.end());
  }
  store_be16(datagram, 14 + IPV4_TOTAL_LENGTH, static_cast<std::uint16_t>(datagram.size() - 14));
  store_be16(datagram, 14 + IPV4_FRAGMENT, 0);
  store_be16(datagram, 14 + IPV4_CHECKSUM, 0);
  store_raw16(datagram, 14 + IPV4_CHECKSUM, checksum(add_bytes(0, std::span(datagram).subspan(14, 20))));
  EXPECT_TRUE(checksums_right(datagram));
}

TEST(Offload, WhatIsNoTcpIsNotCutAsTcp) {
  EXPECT_FALSE(cut_up(large(Segmentation::Tcp4, PROTOCOL_UDP, 3000, 1460)).understood);
  EXPECT_FALSE(cut_up(large(Segmentation::Tcp6, PROTOCOL_TCP, 3000, 1460)).understood);
}

TEST(Offload, SegmentsOfNothingAreRefused) {
  EXPECT_FALSE(cut_up(large(Segmentation::Tcp4, PROTOCOL_TCP, 3000, 0)).understood);
}

TEST(Offload, CutHeadersAreRefused) {
  const Frame whole = large(Segmentation::Tcp4, PROTOCOL_TCP, 100, 50);
  for (std::size_t size = 0; size < 54; ++size) {
    Frame frame = as_frame({whole.bytes().begin(), whole.bytes().begin() + static_cast<std::ptrdiff_t>(size)});
    frame.offload = whole.offload;
    EXPECT_FALSE(cut(frame, [](const Frame&) {})) << size;
    EXPECT_FALSE(make_whole(frame)) << size;
  }
}

TEST(Offload, AnyBytesAreSurvived) {
  std::uint32_t random = 7;
  const auto next = [&random] { return (random = random * 1664525 + 1013904223) >> 8; };
  for (int round = 0; round < 3000; ++round) {
    Frame frame = large(static_cast<Segmentation>(1 + next() % 3), next() % 2 ? PROTOCOL_TCP : PROTOCOL_UDP,
                        next() % 5000, static_cast<std::uint16_t>(next() % 3000));
    for (int i = 0; i < 3; ++i) frame.bytes()[next() % 60 % frame.size()] = static_cast<std::byte>(next());
    std::size_t out = 0;
    (void)cut(frame, [&](const Frame& piece) { out += piece.size(); });
    EXPECT_LT(out, 5'000'000u);
    mark_large(frame);
    (void)make_whole(frame);
  }
}

TEST(Offload, ALargeTcpPacketIsMarked) {
  Frame frame = as_frame(make_packet({.payload_bytes = 20000}));
  mark_large(frame);
  EXPECT_EQ(frame.offload.segmentation, Segmentation::Tcp4);
  EXPECT_EQ(frame.offload.segment_bytes, 1460u);
  EXPECT_TRUE(frame.offload.needs_checksum);
  for (const auto& piece : cut_up(frame).frames) EXPECT_TRUE(checksums_right(piece));
}

TEST(Offload, ASmallPacketIsNot) {
  Frame frame = as_frame(make_packet({.payload_bytes = 1460}));
  mark_large(frame);
  EXPECT_EQ(frame.offload.segmentation, Segmentation::None);
}

TEST(Offload, ALargeEchoIsCutIntoFragments) {
  Frame frame = as_frame(make_packet({.protocol = PROTOCOL_ICMP, .payload_bytes = 3000}));
  mark_large(frame);
  EXPECT_EQ(cut_up(frame).frames.size(), 3u);
}

/// An IPv6 packet with that payload behind TCP's or UDP's header.
Frame ipv6_frame(std::uint8_t protocol, std::size_t payload_bytes) {
  const std::size_t transport_bytes = protocol == PROTOCOL_TCP ? tcp_header_bytes : udp_header_bytes;
  std::vector<std::byte> frame(ethernet_header_bytes + ipv6_header_bytes + transport_bytes + payload_bytes);
  store_be16(frame, 12, 0x86dd);
  frame[14] = std::byte{0x60};
  store_be16(frame, 18, static_cast<std::uint16_t>(transport_bytes + payload_bytes));
  frame[20] = std::byte{protocol};
  if (protocol == PROTOCOL_TCP) frame[14 + ipv6_header_bytes + 12] = std::byte{0x50};
  return testing::as_frame(frame);
}

TEST(MarkLarge, Ipv6IsCutIntoSegmentsOfTheWire) {
  Frame frame = ipv6_frame(PROTOCOL_TCP, 5000);
  ASSERT_TRUE(mark_large(frame));
  EXPECT_EQ(frame.offload.segmentation, Segmentation::Tcp6);
  EXPECT_EQ(frame.offload.segment_bytes, mtu_bytes - ipv6_header_bytes - tcp_header_bytes);
  std::size_t pieces = 0;
  EXPECT_TRUE(cut(frame, [&pieces](const Frame& piece) {
    ++pieces;
    EXPECT_TRUE(testing::checksums_right(piece.bytes()));
  }));
  EXPECT_EQ(pieces, 4u);
}
TEST(MarkLarge, DatagramsOfIpv6AreNotCut) {
  Frame large = ipv6_frame(PROTOCOL_UDP, 5000), small = ipv6_frame(PROTOCOL_UDP, 1000);
  EXPECT_FALSE(mark_large(large));
  EXPECT_TRUE(mark_large(small));
}

}  // namespace
}  // namespace veneer::net
