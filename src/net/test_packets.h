// Frames for tests: TCP and UDP over IPv4, with or without right checksums.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "net/checksum.h"
#include "net/frame.h"
#include "net/packet.h"

namespace veneer::net::testing {

struct PacketSpec {
  std::uint8_t protocol = PROTOCOL_TCP;
  std::uint32_t source = 0x0a00020f, destination = 0x0a000202;
  std::uint16_t source_port = 1234, destination_port = 80;
  std::uint8_t tcp_flags = 0x10;
  std::vector<std::uint8_t> tcp_options = {};
  std::size_t payload_bytes = 0;
};

/// True when every checksum of the packet is right.
inline bool checksums_right(std::span<const std::byte> frame) {
  const auto packet = find_headers(frame, Lengths::FromHeader);
  if (!packet) return false;
  if (!packet->ipv6 && fold(add_bytes(0, frame.subspan(packet->ip, packet->transport - packet->ip))) != 0xffff)
    return false;
  const std::size_t bytes = packet->end - packet->transport;
  return fold(add_bytes(pseudo_header_sum(frame, *packet, bytes), frame.subspan(packet->transport, bytes))) == 0xffff;
}

inline std::vector<std::byte> make_packet(const PacketSpec& spec) {
  const bool tcp = spec.protocol == PROTOCOL_TCP;
  const std::size_t transport_bytes = tcp ? tcp_header_bytes + spec.tcp_options.size() : udp_header_bytes;
  std::vector<std::byte> frame(ethernet_header_bytes + 20 + transport_bytes + spec.payload_bytes);
  const std::span<std::byte> bytes(frame);
  const std::size_t ip = ethernet_header_bytes, transport = ip + 20, payload = transport + transport_bytes;
  store_be16(bytes, 12, 0x0800);
  bytes[ip] = std::byte{0x45};
  store_be16(bytes, ip + IPV4_TOTAL_LENGTH, static_cast<std::uint16_t>(frame.size() - ip));
  store_be16(bytes, ip + IPV4_ID, 100);
  bytes[ip + 8] = std::byte{64};
  bytes[ip + IPV4_PROTOCOL] = std::byte{spec.protocol};
  store_be32(bytes, ip + IPV4_SOURCE, spec.source);
  store_be32(bytes, ip + IPV4_DESTINATION, spec.destination);
  store_raw16(bytes, ip + IPV4_CHECKSUM, checksum(add_bytes(0, bytes.subspan(ip, 20))));
  store_be16(bytes, transport, spec.source_port);
  store_be16(bytes, transport + 2, spec.destination_port);
  for (std::size_t i = 0; i < spec.payload_bytes; ++i) bytes[payload + i] = static_cast<std::byte>(i * 7);
  std::size_t field = transport + UDP_CHECKSUM;
  if (tcp) {
    field = transport + TCP_CHECKSUM;
    store_be32(bytes, transport + TCP_SEQUENCE, 0xffff'fff0);
    bytes[transport + 12] = static_cast<std::byte>((transport_bytes / 4) << 4);
    bytes[transport + TCP_FLAGS] = std::byte{spec.tcp_flags};
    for (std::size_t i = 0; i < spec.tcp_options.size(); ++i)
      bytes[transport + tcp_header_bytes + i] = std::byte{spec.tcp_options[i]};
  } else {
    store_be16(bytes, transport + UDP_LENGTH, static_cast<std::uint16_t>(frame.size() - transport));
  }
  const auto packet = find_headers(frame, Lengths::FromHeader);
  store_raw16(
      bytes, field,
      checksum(add_bytes(pseudo_header_sum(bytes, *packet, frame.size() - transport), bytes.subspan(transport))));
  return frame;
}

inline Frame as_frame(const std::vector<std::byte>& bytes) {
  Frame frame;
  frame.assign(bytes);
  return frame;
}

}  // namespace veneer::net::testing
