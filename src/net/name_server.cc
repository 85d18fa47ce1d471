// Exchanging one address in IPv4 headers, and what the checksums cover of it.
#include "net/name_server.h"

#include <arpa/inet.h>

#include <fstream>
#include <sstream>

#include "net/checksum.h"
#include "net/packet.h"

namespace veneer::net {
namespace {

constexpr std::uint16_t DNS_PORT = 53;

void change_word(std::span<std::byte> frame, std::size_t checksum_at, std::uint16_t before, std::uint16_t after) {
  store_raw16(frame, checksum_at, checksum_after_change(load_raw16(frame, checksum_at), before, after));
}

/// Writes an address field and mends both checksums, which are complete.
void change_address(std::span<std::byte> frame, const Packet& packet, std::size_t field, Ipv4 address) {
  const std::size_t at = packet.ip + field;
  const std::size_t transport_checksum =
      packet.transport + (packet.protocol == PROTOCOL_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
  const bool has_checksum = packet.protocol == PROTOCOL_TCP || load_raw16(frame, transport_checksum) != 0;
  const std::uint16_t before[2] = {load_raw16(frame, at), load_raw16(frame, at + 2)};
  store_be32(frame, at, address);
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint16_t after = load_raw16(frame, at + 2 * half);
    change_word(frame, packet.ip + IPV4_CHECKSUM, before[half], after);
    if (has_checksum) change_word(frame, transport_checksum, before[half], after);
  }
}

std::optional<Packet> dns_headers(std::span<const std::byte> frame) {
  const auto packet = find_headers(frame, Lengths::FromHeader);
  if (!packet || packet->ipv6 || packet->fragment) return std::nullopt;
  if (packet->protocol != PROTOCOL_TCP && packet->protocol != PROTOCOL_UDP) return std::nullopt;
  return packet;
}

}  // namespace

std::optional<Ipv4> first_name_server(const std::string& resolv_conf) {
  std::istringstream lines(resolv_conf);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key, address;
    in_addr parsed{};
    if (words >> key >> address && key == "nameserver" && ::inet_pton(AF_INET, address.c_str(), &parsed) == 1)
      return ntohl(parsed.s_addr);
  }
  return std::nullopt;
}

std::optional<Ipv4> host_name_server() {
  std::ifstream file("/etc/resolv.conf");
  std::ostringstream text;
  text << file.rdbuf();
  return first_name_server(text.str());
}

void NameServer::outward(std::span<std::byte> frame) {
  const auto packet = real_ ? dns_headers(frame) : std::nullopt;
  if (!packet || load_be32(frame, packet->ip + IPV4_DESTINATION) != shown_ ||
      load_be16(frame, packet->transport + 2) != DNS_PORT)
    return;
  asked(packet->protocol).set(load_be16(frame, packet->transport));
  change_address(frame, *packet, IPV4_DESTINATION, *real_);
}

void NameServer::inward(std::span<std::byte> frame) {
  const auto packet = real_ ? dns_headers(frame) : std::nullopt;
  if (!packet || load_be32(frame, packet->ip + IPV4_SOURCE) != *real_ ||
      load_be16(frame, packet->transport) != DNS_PORT ||
      !asked(packet->protocol).test(load_be16(frame, packet->transport + 2)))
    return;
  change_address(frame, *packet, IPV4_SOURCE, shown_);
}

}  // namespace veneer::net
