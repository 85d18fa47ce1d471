// Where the headers of a frame are: Ethernet, VLAN tags, IPv4 or IPv6, TCP or UDP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace veneer::net {

inline constexpr std::uint8_t PROTOCOL_ICMP = 1;
inline constexpr std::uint8_t PROTOCOL_TCP = 6;
inline constexpr std::uint8_t PROTOCOL_UDP = 17;

// IPv4 (RFC 791 3.1), offsets from the header's start
inline constexpr std::size_t IPV4_TOTAL_LENGTH = 2, IPV4_ID = 4, IPV4_FRAGMENT = 6, IPV4_PROTOCOL = 9,
                             IPV4_CHECKSUM = 10, IPV4_SOURCE = 12, IPV4_DESTINATION = 16;
inline constexpr std::uint16_t IPV4_MORE_FRAGMENTS = 0x2000, IPV4_DONT_FRAGMENT = 0x4000, IPV4_OFFSET_MASK = 0x1fff;
// IPv6 (RFC 8200 3)
inline constexpr std::size_t IPV6_PAYLOAD_LENGTH = 4, IPV6_SOURCE = 8, ipv6_header_bytes = 40;
// TCP (RFC 9293 3.1) and UDP (RFC 768)
inline constexpr std::size_t TCP_SEQUENCE = 4, TCP_FLAGS = 13, TCP_CHECKSUM = 16, tcp_header_bytes = 20;
inline constexpr std::uint8_t TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_PSH = 0x08, TCP_CWR = 0x80;
inline constexpr std::size_t UDP_LENGTH = 4, UDP_CHECKSUM = 6, udp_header_bytes = 8;

/// Big-endian fields.
inline std::uint16_t load_be16(std::span<const std::byte> bytes, std::size_t at) {
  return static_cast<std::uint16_t>((std::to_integer<unsigned>(bytes[at]) << 8) |
                                    std::to_integer<unsigned>(bytes[at + 1]));
}
inline std::uint32_t load_be32(std::span<const std::byte> bytes, std::size_t at) {
  return (std::uint32_t{load_be16(bytes, at)} << 16) | load_be16(bytes, at + 2);
}
inline void store_be16(std::span<std::byte> bytes, std::size_t at, std::uint16_t value) {
  bytes[at] = static_cast<std::byte>(value >> 8);
  bytes[at + 1] = static_cast<std::byte>(value & 0xff);
}
inline void store_be32(std::span<std::byte> bytes, std::size_t at, std::uint32_t value) {
  store_be16(bytes, at, static_cast<std::uint16_t>(value >> 16));
  store_be16(bytes, at + 2, static_cast<std::uint16_t>(value & 0xffff));
}
/// Fields as they stand in memory (checksums).
inline std::uint16_t load_raw16(std::span<const std::byte> bytes, std::size_t at) {
  std::uint16_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
inline void store_raw16(std::span<std::byte> bytes, std::size_t at, std::uint16_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// All offsets are inside the frame, and so are the fixed parts of the headers that are there.
struct Packet {
  bool ipv6 = false;
  std::size_t ip = 0;         ///< where the IP header starts
  std::size_t transport = 0;  ///< where the header behind it starts
  std::size_t payload = 0;    ///< where the data of TCP or UDP start; for anything else equal to `transport`
  std::size_t end = 0;        ///< of the packet; what follows is padding
  std::uint8_t protocol = 0;
  bool fragment = false;  ///< no first and only piece: there is no transport header to look at
};

/// Which of the packet's lengths to believe.
enum class Lengths : std::uint8_t {
  FromHeader,  ///< the IP header's total length
  FromFrame,   ///< all of the frame: the header's field is not filled in (segmentation offload)
};

/// Nothing for frames that are not IP, or whose headers are cut or make no sense.
std::optional<Packet> find_headers(std::span<const std::byte> frame, Lengths lengths);

/// The sum of TCP's or UDP's pseudo header (RFC 9293 3.1, RFC 8200 8.1) for a segment of that length.
std::uint64_t pseudo_header_sum(std::span<const std::byte> frame, const Packet& packet, std::size_t segment_bytes);

}  // namespace veneer::net
