// The network "user": a private network behind address translation, made of the host's ordinary sockets by libslirp.
//
// 10.0.2.0/24: gateway and host's loopback 10.0.2.2, name server 10.0.2.3, DHCP gives 10.0.2.15 to the guest.
// fec0::/64: router and host's loopback fec0::2; guests make their addresses themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/host_end.h"
#include "net/name_server.h"

namespace veneer::net {

/// A port of the host that leads into the guest.
struct PortForward {
  bool udp = false;
  Ipv4 host_address = 0x7f00'0001;
  std::uint16_t host_port = 0;
  Ipv4 guest_address = 0;  ///< 0: the one that DHCP gives
  std::uint16_t guest_port = 0;
  bool ipv6 = false;  ///< then these are meant:
  Ipv6 host_address6{};
  Ipv6 guest_address6{};  ///< all zero: the one that guests make of their card's address
  bool operator==(const PortForward&) const = default;
};

struct UserOptions {
  std::vector<PortForward> forwards = {};
  bool isolated = false;  ///< only forwards: the guest reaches nobody
  bool ipv6 = true;
  std::string tftp_directory = {};  ///< what the guest can read by TFTP from the gateway; empty: there is no server
  std::string bootfile = {};        ///< what DHCP tells guests to boot
};

inline constexpr Ipv4 user_network = 0x0a00'0200, user_gateway = 0x0a00'0202, user_name_server = 0x0a00'0203,
                      user_guest = 0x0a00'020f;
inline constexpr Ipv6 user_network6 = {0xfe, 0xc0},
                      user_router6 = {0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
                      user_name_server6 = {0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3};

/// "tcp:127.0.0.1:2222".
std::string format_forward_source(const PortForward& forward);

/// Binds the forwarded ports, so an error says which one cannot be had. `name` is what DHCP calls the guest, `mac` its
/// card.
Result<std::unique_ptr<HostEnd>> make_user_end(const UserOptions& options, const std::string& name,
                                               const MacAddress& mac);

}  // namespace veneer::net
