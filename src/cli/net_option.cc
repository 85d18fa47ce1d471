// Parsing --net.
#include "cli/net_option.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>

#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/virtio/virtio_net.h"

namespace veneer::cli {
namespace {

using vm::NetConfig;
using vm::NetKind;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == separator)
      words.emplace_back();
    else
      words.back() += c;
  }
  return words;
}

template <typename T>
std::optional<T> number(std::string_view text, T low, T high) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < low || value > high) return std::nullopt;
  return value;
}

std::optional<net::Ipv4> ipv4(const std::string& text) {
  in_addr parsed{};
  if (::inet_pton(AF_INET, text.c_str(), &parsed) != 1) return std::nullopt;
  return ntohl(parsed.s_addr);
}

Result<void> set_queues(NetConfig& net, const std::string& value) {
  const auto queues = number<unsigned>(value, 1, devices::VirtioNet::pairs_max);
  if (!queues) return Error(fmt::format("\"{}\" is not a number from 1 to {}", value, devices::VirtioNet::pairs_max));
  net.queues = *queues;
  return {};
}

Result<void> set_interface(NetConfig& net, const std::string& value) {
  if (value.empty() || value.size() >= IFNAMSIZ)
    return Error(fmt::format("\"{}\" is no name of an interface (1 to {} characters)", value, IFNAMSIZ - 1));
  net.interface = value;
  return {};
}

Result<void> apply(NetConfig& net, const std::string& word) {
  const std::size_t equals = word.find('=');
  const std::string key = word.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
  if (key == "mac") {
    TRY(net.mac, net::parse_mac(value));
    return {};
  }
  if (key == "queues") return set_queues(net, value);
  if (key == "model") {
    if (value != "virtio" && value != "e1000")
      return Error(fmt::format("\"{}\" is no card (known: virtio, e1000)", value));
    net.model = value == "virtio" ? vm::CardModel::Virtio : vm::CardModel::E1000;
    return {};
  }
  if (net.kind == NetKind::User && key == "hostfwd") {
    TRY(auto forward, parse_forward(value));
    net.user.forwards.push_back(forward);
    return {};
  }
  if (net.kind == NetKind::User && word == "isolated") {
    net.user.isolated = true;
    return {};
  }
  if (net.kind == NetKind::Tap && key == "ifname") return set_interface(net, value);
  return Error(fmt::format("\"{}\" is not known here (known: {}, model=, mac=, queues=)", word,
                           net.kind == NetKind::User ? "hostfwd=, isolated" : "ifname="));
}

}  // namespace

const char* const net_option_help =
    R"(A network card (may be given several times): none, user or tap, and behind it, with commas between:
user: hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT (several; without ADDR on loopback), isolated; tap: ifname=NAME;
both: model=virtio|e1000, mac=52:56:00:12:34:56, queues=N)";

Result<net::PortForward> parse_forward(const std::string& text) {
  const Error wrong(fmt::format("\"{}\" is no forward such as tcp:127.0.0.1:2222-:22", text));
  const std::size_t dash = text.find('-');
  if (dash == std::string::npos) return wrong;
  const std::vector<std::string> from = split(text.substr(0, dash), ':'), to = split(text.substr(dash + 1), ':');
  if (from.size() != 3 || to.size() != 2 || (from[0] != "tcp" && from[0] != "udp")) return wrong;
  const auto host_port = number<std::uint16_t>(from[2], 1, 65535), guest_port = number<std::uint16_t>(to[1], 1, 65535);
  if (!host_port || !guest_port) return wrong;
  net::PortForward forward;
  forward.udp = from[0] == "udp";
  forward.host_port = *host_port;
  forward.guest_port = *guest_port;
  const std::pair<const std::string&, net::Ipv4&> addresses[] = {{from[1], forward.host_address},
                                                                 {to[0], forward.guest_address}};
  for (const auto& [word, target] : addresses) {
    if (word.empty()) continue;
    const auto parsed = ipv4(word);
    if (!parsed) return Error(fmt::format("\"{}\" is no IPv4 address in numbers", word));
    target = *parsed;
  }
  return forward;
}

Result<std::optional<NetConfig>> parse_net(const std::string& text) {
  const std::vector<std::string> words = split(text, ',');
  if (text == "none") return std::optional<NetConfig>();
  NetConfig net;
  if (words[0] == "tap")
    net.kind = NetKind::Tap;
  else if (words[0] != "user")
    return Error(fmt::format("\"{}\" is not a network (known: user, tap, none)", words[0]));
  for (std::size_t i = 1; i < words.size(); ++i) {
    Result<void> applied = apply(net, words[i]);
    if (!applied) return std::move(applied).error();
  }
  if (net.kind == NetKind::Tap && net.interface.empty())
    return Error("tap needs the name of its interface: tap,ifname=tap0");
  if (net.model == vm::CardModel::E1000 && net.queues > 1)
    return Error("an e1000 card has one queue: leave out queues=");
  return std::optional<NetConfig>(std::move(net));
}

}  // namespace veneer::cli
