// The value of --net: a kind of network, then what is to be different from usual.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "vm/config.h"

namespace veneer::cli {

/// "user,hostfwd=tcp:127.0.0.1:2222-:22", "tap,ifname=tap0", or nothing for "none".
Result<std::optional<vm::NetConfig>> parse_net(const std::string& text);

/// "tcp:127.0.0.1:2222-:22", "udp::5353-10.0.2.15:53". Without an address the host listens on loopback.
Result<net::PortForward> parse_forward(const std::string& text);

/// For --help: every key with its values.
extern const char* const net_option_help;

}  // namespace veneer::cli
