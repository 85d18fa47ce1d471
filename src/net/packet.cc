// Finding headers; everything in a frame may be hostile.
#include "net/packet.h"

#include "net/checksum.h"
#include "net/frame.h"

namespace veneer::net {
namespace {

constexpr std::uint16_t ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, ETHERTYPE_VLAN = 0x8100;
constexpr std::size_t ipv4_header_bytes_min = 20;

/// Sets what is behind the IP header; false when a header is cut off.
bool find_transport(std::span<const std::byte> frame, Packet& packet) {
  packet.payload = packet.transport;
  if (packet.fragment) return true;
  if (packet.protocol == PROTOCOL_UDP) {
    packet.payload = packet.transport + udp_header_bytes;
  } else if (packet.protocol == PROTOCOL_TCP) {
    if (packet.transport + tcp_header_bytes > packet.end) return false;
    const std::size_t words = std::to_integer<std::size_t>(frame[packet.transport + 12]) >> 4;
    if (4 * words < tcp_header_bytes) return false;
    packet.payload = packet.transport + 4 * words;
  }
  return packet.payload <= packet.end;
}

}  // namespace

std::optional<Packet> find_headers(std::span<const std::byte> frame, Lengths lengths) {
  std::size_t at = ethernet_header_bytes - 2;
  if (frame.size() < at + 2) return std::nullopt;
  std::uint16_t type = load_be16(frame, at);
  if (type == ETHERTYPE_VLAN) {
    at += 4;
    if (frame.size() < at + 2) return std::nullopt;
    type = load_be16(frame, at);
  }
  Packet packet;
  packet.ip = at + 2;
  const std::size_t room = frame.size() - packet.ip;
  if (type == ETHERTYPE_IPV4) {
    if (room < ipv4_header_bytes_min) return std::nullopt;
    const auto first = std::to_integer<unsigned>(frame[packet.ip]);
    const std::size_t header = 4 * (first & 15);
    const std::size_t total = lengths == Lengths::FromHeader ? load_be16(frame, packet.ip + IPV4_TOTAL_LENGTH) : room;
    if (first >> 4 != 4 || header < ipv4_header_bytes_min || total < header || total > room) return std::nullopt;
    packet.transport = packet.ip + header;
    packet.end = packet.ip + total;
    packet.protocol = std::to_integer<std::uint8_t>(frame[packet.ip + IPV4_PROTOCOL]);
    packet.fragment = (load_be16(frame, packet.ip + IPV4_FRAGMENT) & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK)) != 0;
  } else if (type == ETHERTYPE_IPV6) {
    if (room < ipv6_header_bytes || std::to_integer<unsigned>(frame[packet.ip]) >> 4 != 6) return std::nullopt;
    const std::size_t total =
        lengths == Lengths::FromHeader ? ipv6_header_bytes + load_be16(frame, packet.ip + IPV6_PAYLOAD_LENGTH) : room;
    if (total > room) return std::nullopt;
    packet.ipv6 = true;
    packet.transport = packet.ip + ipv6_header_bytes;
    packet.end = packet.ip + total;
    packet.protocol = std::to_integer<std::uint8_t>(frame[packet.ip + 6]);  // extension headers are not looked behind
  } else {
    return std::nullopt;
  }
  if (!find_transport(frame, packet)) return std::nullopt;
  return packet;
}

std::uint64_t pseudo_header_sum(std::span<const std::byte> frame, const Packet& packet, std::size_t segment_bytes) {
  const std::uint64_t sum = packet.ipv6 ? add_bytes(0, frame.subspan(packet.ip + IPV6_SOURCE, 32))
                                        : add_bytes(0, frame.subspan(packet.ip + IPV4_SOURCE, 8));
  // The length is less than 2^16 and the protocol one byte: as big-endian words.
  std::byte words[4] = {};
  store_be16(words, 0, packet.protocol);
  store_be16(words, 2, static_cast<std::uint16_t>(segment_bytes));
  return add_bytes(sum, words);
}

}  // namespace veneer::net
