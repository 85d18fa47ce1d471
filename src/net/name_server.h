// NameServer: the name server that guests see, 10.0.2.3, and the host's, whose address stands in /etc/resolv.conf.
//
// libslirp does that by reading the file whenever it needs it, which the sandbox does not allow. So the addresses are
// exchanged here, in the frames, before libslirp sees them.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "net/address.h"

namespace veneer::net {

/// The first IPv4 name server of a resolv.conf(5), or nothing.
std::optional<Ipv4> first_name_server(const std::string& resolv_conf);
/// Of this host. Reads a file.
std::optional<Ipv4> host_name_server();

class NameServer {
 public:
  /// `shown` is what the guest sees; without `real` nothing is exchanged.
  NameServer(Ipv4 shown, std::optional<Ipv4> real) : shown_(shown), real_(real) {}

  /// A frame from the guest: questions go to the real one.
  void outward(std::span<std::byte> frame);
  /// A frame for the guest: answers come from the shown one.
  void inward(std::span<std::byte> frame);

 private:
  std::bitset<65536>& asked(std::uint8_t protocol) { return asked_[protocol == 6 ? 1 : 0]; }
  Ipv4 shown_;
  std::optional<Ipv4> real_;
  std::bitset<65536> asked_[2];  // ports of the guest that asked the shown one, by UDP and by TCP
};

}  // namespace veneer::net
