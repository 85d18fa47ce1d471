// MAC addresses.
#include "net/mac_address.h"

#include <fmt/format.h>

#include <charconv>

namespace veneer::net {

Result<MacAddress> parse_mac(std::string_view text) {
  const Error wrong(fmt::format("\"{}\" is no MAC address such as 52:56:00:12:34:56", text));
  if (text.size() != 17) return wrong;
  MacAddress mac{};
  bool all_zero = true;
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* first = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(first, first + 2, mac[i], 16);
    if (error != std::errc{} || end != first + 2 || (i < 5 && first[2] != ':')) return wrong;
    all_zero = all_zero && mac[i] == 0;
  }
  if (all_zero || (mac[0] & 1) != 0)
    return Error(fmt::format("{} is a group address or none: a card has one of its own", text));
  return mac;
}

std::string format_mac(const MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

MacAddress mac_for(std::string_view machine_name, unsigned card) {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a
  for (const char c : machine_name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  hash ^= hash >> 29;
  return {0x52,
          0x56,
          static_cast<std::uint8_t>(hash >> 16),
          static_cast<std::uint8_t>(hash >> 24),
          static_cast<std::uint8_t>(hash >> 32),
          static_cast<std::uint8_t>((hash & 0xf0) + card)};
}

}  // namespace veneer::net
