// Addresses of IP, version 4 and 6, as text and in numbers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "net/mac_address.h"

namespace veneer::net {

/// An IPv4 address, the first number in the highest byte.
using Ipv4 = std::uint32_t;
/// As it stands in a packet.
using Ipv6 = std::array<std::uint8_t, 16>;

/// "10.0.2.15"; nothing for anything else, names included.
std::optional<Ipv4> parse_ipv4(const std::string& text);
std::optional<Ipv6> parse_ipv6(const std::string& text);
std::string format_ipv4(Ipv4 address);
std::string format_ipv6(const Ipv6& address);

/// The address that a guest makes of a network's prefix (the first 8 bytes) and its card's address (RFC 4291 appendix
/// A), unless it has been told to choose others.
Ipv6 ipv6_of_card(const Ipv6& prefix, const MacAddress& mac);

}  // namespace veneer::net
