// inet_pton(3) and inet_ntop(3), and modified EUI-64.
#include "net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace veneer::net {

std::optional<Ipv4> parse_ipv4(const std::string& text) {
  in_addr parsed{};
  if (::inet_pton(AF_INET, text.c_str(), &parsed) != 1) return std::nullopt;
  return ntohl(parsed.s_addr);
}

std::optional<Ipv6> parse_ipv6(const std::string& text) {
  Ipv6 parsed{};
  if (::inet_pton(AF_INET6, text.c_str(), parsed.data()) != 1) return std::nullopt;
  return parsed;
}

std::string format_ipv4(Ipv4 value) {
  return fmt::format("{}.{}.{}.{}", value >> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255);
}

std::string format_ipv6(const Ipv6& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, address.data(), text.data(), text.size());
  return text.data();
}

Ipv6 ipv6_of_card(const Ipv6& prefix, const MacAddress& mac) {
  Ipv6 address = prefix;
  std::copy_n(mac.begin(), 3, address.begin() + 8);
  address[8] ^= 2;  // the universal/local bit
  address[11] = 0xff;
  address[12] = 0xfe;
  std::copy_n(mac.begin() + 3, 3, address.begin() + 13);
  return address;
}

}  // namespace veneer::net
