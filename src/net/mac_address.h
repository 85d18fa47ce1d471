// MAC addresses: as text, and made from a machine's name.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace veneer::net {

using MacAddress = std::array<std::uint8_t, 6>;

/// "52:56:00:12:34:56". Refuses multicast addresses and the zero address.
Result<MacAddress> parse_mac(std::string_view text);
std::string format_mac(const MacAddress& mac);

/// The same for the same name and card in every run. Locally administered (IEEE 802 8.2).
MacAddress mac_for(std::string_view machine_name, unsigned card);

}  // namespace veneer::net
