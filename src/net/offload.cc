// TCP segmentation, IP fragmentation and checksums, as a card's hardware does them.
#include "net/offload.h"

#include <algorithm>
#include <cstring>

#include "net/checksum.h"
#include "net/packet.h"

namespace veneer::net {
namespace {

/// The transport's checksum from the start: pseudo header and segment.
void fill_transport_checksum(std::span<std::byte> bytes, const Packet& packet, std::size_t field) {
  if (packet.transport + field + 2 > packet.end) return;
  store_raw16(bytes, packet.transport + field, 0);
  const std::uint64_t sum = add_bytes(pseudo_header_sum(bytes, packet, packet.end - packet.transport),
                                      bytes.subspan(packet.transport, packet.end - packet.transport));
  std::uint16_t value = checksum(sum);
  if (value == 0 && packet.protocol == PROTOCOL_UDP) value = 0xffff;  // zero says that there is none (RFC 768)
  store_raw16(bytes, packet.transport + field, value);
}

void fill_ip_checksum(std::span<std::byte> bytes, const Packet& packet) {
  store_raw16(bytes, packet.ip + IPV4_CHECKSUM, 0);
  store_raw16(bytes, packet.ip + IPV4_CHECKSUM,
              checksum(add_bytes(0, bytes.subspan(packet.ip, packet.transport - packet.ip))));
}

/// Total length and, with IPv4, the header's checksum.
void fill_ip_length(std::span<std::byte> bytes, const Packet& packet) {
  const std::size_t total = packet.end - packet.ip;
  if (packet.ipv6) {
    store_be16(bytes, packet.ip + IPV6_PAYLOAD_LENGTH, static_cast<std::uint16_t>(total - ipv6_header_bytes));
  } else {
    store_be16(bytes, packet.ip + IPV4_TOTAL_LENGTH, static_cast<std::uint16_t>(total));
    fill_ip_checksum(bytes, packet);
  }
}

/// Leaves the transport's checksum to be completed: its field has the pseudo header's sum.
void leave_checksum(Frame& frame, const Packet& packet, std::size_t field) {
  frame.offload.needs_checksum = true;
  frame.offload.checksum_good = false;
  frame.offload.checksum_start = static_cast<std::uint16_t>(packet.transport);
  frame.offload.checksum_offset = static_cast<std::uint16_t>(field);
  store_raw16(frame.bytes(), packet.transport + field,
              fold(pseudo_header_sum(frame.bytes(), packet, packet.end - packet.transport)));
}

/// The headers, when the frame is what its segmentation says.
std::optional<Packet> fitting_headers(const Frame& frame) {
  const Segmentation kind = frame.offload.segmentation;
  const auto packet = find_headers(frame.bytes(), Lengths::FromFrame);
  if (!packet || packet->fragment || packet->end - packet->ip > 65535 || frame.offload.segment_bytes == 0)
    return std::nullopt;
  const bool tcp = kind == Segmentation::Tcp4 || kind == Segmentation::Tcp6;
  if (packet->ipv6 != (kind == Segmentation::Tcp6)) return std::nullopt;
  if (tcp && packet->protocol != PROTOCOL_TCP) return std::nullopt;
  return packet;
}

void cut_tcp(const Frame& frame, const Packet& packet, const std::function<void(const Frame&)>& sink) {
  const std::span<const std::byte> whole = frame.bytes();
  const std::size_t step = frame.offload.segment_bytes;
  const std::uint32_t sequence = load_be32(whole, packet.transport + TCP_SEQUENCE);
  const auto flags = std::to_integer<std::uint8_t>(whole[packet.transport + TCP_FLAGS]);
  Frame segment;
  std::uint16_t index = 0;
  for (std::size_t at = packet.payload; at < packet.end; at += step, ++index) {
    const std::size_t piece = std::min(step, packet.end - at);
    const std::span<std::byte> bytes = segment.resize(packet.payload + piece);
    std::memcpy(bytes.data(), whole.data(), packet.payload);
    std::memcpy(bytes.data() + packet.payload, whole.data() + at, piece);
    Packet part = packet;
    part.end = bytes.size();
    if (!part.ipv6)
      store_be16(bytes, part.ip + IPV4_ID, static_cast<std::uint16_t>(load_be16(whole, part.ip + IPV4_ID) + index));
    fill_ip_length(bytes, part);
    store_be32(bytes, part.transport + TCP_SEQUENCE, sequence + static_cast<std::uint32_t>(at - packet.payload));
    std::uint8_t part_flags = flags;
    if (at != packet.payload) part_flags &= static_cast<std::uint8_t>(~TCP_CWR);  // RFC 3168 6.1.2: once
    if (at + piece != packet.end) part_flags &= static_cast<std::uint8_t>(~(TCP_FIN | TCP_PSH));  // of the last byte
    bytes[part.transport + TCP_FLAGS] = std::byte{part_flags};
    fill_transport_checksum(bytes, part, TCP_CHECKSUM);
    segment.offload = {.checksum_good = true};
    sink(segment);
  }
}

/// RFC 791 3.2: all fragments but the last carry a multiple of eight bytes.
void cut_fragments(const Frame& frame, const Packet& packet, const std::function<void(const Frame&)>& sink) {
  const std::span<const std::byte> whole = frame.bytes();
  const std::size_t headers = packet.transport;
  const std::size_t room =
      std::min<std::size_t>(mtu_bytes, frame.offload.segment_bytes + (packet.transport - packet.ip)) -
      (packet.transport - packet.ip);
  const std::size_t step = std::max<std::size_t>(room / 8 * 8, 8);
  Frame fragment;
  for (std::size_t at = packet.transport; at < packet.end; at += step) {
    const std::size_t piece = std::min(step, packet.end - at);
    const std::span<std::byte> bytes = fragment.resize(headers + piece);
    std::memcpy(bytes.data(), whole.data(), headers);
    std::memcpy(bytes.data() + headers, whole.data() + at, piece);
    Packet part = packet;
    part.end = bytes.size();
    const auto offset = static_cast<std::uint16_t>((at - packet.transport) / 8);
    const std::uint16_t more = at + piece < packet.end ? IPV4_MORE_FRAGMENTS : std::uint16_t{0};
    store_be16(bytes, part.ip + IPV4_FRAGMENT, static_cast<std::uint16_t>(offset | more));
    fill_ip_length(bytes, part);
    fragment.offload = {};
    sink(fragment);
  }
}

}  // namespace

void complete_checksum(Frame& frame) {
  const std::span<std::byte> bytes = frame.bytes();
  const Offload offload = frame.offload;
  frame.offload.needs_checksum = false;
  const std::size_t field = std::size_t{offload.checksum_start} + offload.checksum_offset;
  if (!offload.needs_checksum || field + 2 > bytes.size()) return;
  // The field has the pseudo header's sum already.
  std::uint16_t value = checksum(add_bytes(0, bytes.subspan(offload.checksum_start)));
  if (value == 0 && offload.checksum_offset == UDP_CHECKSUM) value = 0xffff;
  store_raw16(bytes, field, value);
}

bool make_whole(Frame& frame) {
  const auto packet = fitting_headers(frame);
  if (!packet) return false;
  const std::span<std::byte> bytes = frame.bytes();
  fill_ip_length(bytes, *packet);
  if (packet->protocol == PROTOCOL_TCP) {
    fill_transport_checksum(bytes, *packet, TCP_CHECKSUM);
  } else if (packet->protocol == PROTOCOL_UDP) {
    store_be16(bytes, packet->transport + UDP_LENGTH, static_cast<std::uint16_t>(packet->end - packet->transport));
    fill_transport_checksum(bytes, *packet, UDP_CHECKSUM);
  }
  frame.offload = {.checksum_good = true};
  return true;
}

bool complete_segmentation(Frame& frame) {
  const auto packet = fitting_headers(frame);
  if (!packet || packet->protocol != PROTOCOL_TCP) return false;
  fill_ip_length(frame.bytes(), *packet);
  leave_checksum(frame, *packet, TCP_CHECKSUM);
  return true;
}

bool cut(const Frame& frame, const std::function<void(const Frame&)>& sink) {
  const auto packet = fitting_headers(frame);
  if (!packet) return false;
  if (frame.offload.segmentation != Segmentation::Udp) {
    cut_tcp(frame, *packet, sink);
    return true;
  }
  if (packet->protocol != PROTOCOL_UDP || !frame.offload.needs_checksum) {
    cut_fragments(frame, *packet, sink);
    return true;
  }
  Frame whole;  // the datagram's checksum covers all fragments
  whole.assign(frame.bytes());
  whole.offload = frame.offload;
  if (!make_whole(whole)) return false;
  whole.offload.segment_bytes = frame.offload.segment_bytes;
  cut_fragments(whole, *packet, sink);
  return true;
}

bool mark_large(Frame& frame) {
  const auto packet = find_headers(frame.bytes(), Lengths::FromHeader);
  if (!packet || packet->fragment || packet->end - packet->ip <= mtu_bytes) return true;
  if (packet->ipv6 && packet->protocol != PROTOCOL_TCP) return false;
  frame.shrink(packet->end);
  const std::span<std::byte> bytes = frame.bytes();
  const bool tcp = packet->protocol == PROTOCOL_TCP;
  Offload& offload = frame.offload;
  offload.segmentation = packet->ipv6 ? Segmentation::Tcp6 : tcp ? Segmentation::Tcp4 : Segmentation::Udp;
  // A TCP segment has its own headers; every fragment of a datagram has an IP header only.
  const std::size_t headers = (tcp ? packet->payload : packet->transport) - packet->ip;
  offload.segment_bytes = static_cast<std::uint16_t>(tcp ? mtu_bytes - headers : (mtu_bytes - headers) / 8 * 8);
  if (!tcp && packet->protocol != PROTOCOL_UDP) return true;
  const std::size_t field = tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
  if (!tcp && load_raw16(bytes, packet->transport + field) == 0) return true;  // a datagram without a checksum
  leave_checksum(frame, *packet, field);
  return true;
}

}  // namespace veneer::net
