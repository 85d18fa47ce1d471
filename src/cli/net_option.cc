// Parsing --net.
#include "cli/net_option.h"

#include <fmt/format.h>
#include <net/if.h>

#include <charconv>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/comma_list.h"
#include "devices/virtio/virtio_net.h"

namespace veneer::cli {
namespace {

using vm::NetConfig;
using vm::NetKind;

template <typename T>
std::optional<T> number(std::string_view text, T low, T high) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < low || value > high) return std::nullopt;
  return value;
}

Result<void> set_switch(bool& target, const std::string& key, const std::string& value) {
  if (value != "on" && value != "off") return Error(fmt::format("{}= is on or off, not \"{}\"", key, value));
  target = value == "on";
  return {};
}

/// "10.0.2.15:", "[fec0::15]:" or ":" from the front of `text`; what stands there without its brackets.
std::optional<std::string> take_address(std::string_view& text) {
  const bool bracket = text.starts_with('[');
  const std::size_t end = text.find(bracket ? "]:" : ":");
  if (end == std::string_view::npos) return std::nullopt;
  std::string word(bracket ? text.substr(1, end - 1) : text.substr(0, end));
  text.remove_prefix(end + (bracket ? 2 : 1));
  if (bracket && word.empty()) return std::nullopt;
  return word;
}

/// What somebody may have meant who named two ports in another order of words: "2222:22", "tcp:2222-:22".
std::string forward_hint(const std::string& text) {
  std::vector<std::string> numbers;
  bool inside = false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !inside) numbers.emplace_back();
    if (digit) numbers.back() += c;
    inside = digit;
  }
  if (numbers.size() != 2 || text.find('[') != std::string::npos) return "";
  for (const std::string& word : numbers)
    if (!number<std::uint16_t>(word, 1, 65535)) return "";
  return fmt::format("; did you mean hostfwd={}:127.0.0.1:{}-:{}?", text.starts_with("udp") ? "udp" : "tcp", numbers[0],
                     numbers[1]);
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

/// Keys of `user`; nothing for others.
std::optional<Result<void>> apply_to_user(NetConfig& net, const std::string& word, const std::string& key,
                                          const std::string& value) {
  net::UserOptions& user = net.user;
  if (key == "hostfwd") {
    auto forward = parse_forward(value);
    if (!forward) return std::move(forward).error();
    user.forwards.push_back(forward.value());
    return Result<void>();
  }
  if (word == "isolated") {
    user.isolated = true;
    return Result<void>();
  }
  if (key == "restrict") return set_switch(user.isolated, key, value);
  if (key == "ipv6") return set_switch(user.ipv6, key, value);
  if (key != "tftp" && key != "bootfile") return std::nullopt;
  if (value.empty()) return Error(fmt::format("{}= lacks a {}", key, key == "tftp" ? "directory" : "name"));
  if (key == "bootfile")
    user.bootfile = value;
  else
    user.tftp_directory = std::filesystem::absolute(value).string();
  return Result<void>();
}

/// What only this kind of network understands.
const char* words_of(NetKind kind) {
  switch (kind) {
    case NetKind::User:
      return "hostfwd=, isolated, restrict=, ipv6=, tftp=, bootfile=";
    case NetKind::Passt:
      return "socket=, hostfwd=, ipv6=";
    case NetKind::Tap:
      break;
  }
  return "ifname=";
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
  if (key == "rom") {
    if (value.empty()) return Error("rom= lacks a file, or none");
    net.boot_rom = value;
    return {};
  }
  if (net.kind == NetKind::Passt && key == "socket") {
    if (value.empty()) return Error("socket= lacks a path");
    net.passt_socket = std::filesystem::absolute(value).string();
    return {};
  }
  if (net.kind == NetKind::User || (net.kind == NetKind::Passt && (key == "hostfwd" || key == "ipv6"))) {
    if (const auto done = apply_to_user(net, word, key, value)) return *done;
  }
  if (net.kind == NetKind::Tap && key == "ifname") return set_interface(net, value);
  return Error(
      fmt::format("\"{}\" is not known here (known: {}, model=, mac=, queues=, rom=)", word, words_of(net.kind)));
}

}  // namespace

const char* const net_option_help =
    R"(A network card (may be given several times): none, user, passt or tap, and behind it, with commas between:
user: hostfwd=tcp|udp:ADDR:PORT-ADDR:PORT (several; without ADDR from loopback to the guest; IPv6 in brackets),
isolated (or restrict=on), ipv6=off, tftp=DIR (read-only, for the guest), bootfile=NAME (to boot from the network);
passt: socket=PATH of one that runs (else one is started, then hostfwd= and ipv6= as above); tap: ifname=NAME;
all: model=virtio|e1000, mac=52:56:00:12:34:56, queues=N, rom=FILE|none (what firmware boots with: iPXE)";

Result<net::PortForward> parse_forward(const std::string& text) {
  const auto wrong = [&] {
    return Error(fmt::format("\"{}\" is no forward such as tcp:127.0.0.1:2222-:22 or tcp:[::1]:2222-:22{}", text,
                             forward_hint(text)));
  };
  net::PortForward forward;
  const std::size_t dash = text.find('-');
  if (dash == std::string::npos || (!text.starts_with("tcp:") && !text.starts_with("udp:"))) return wrong();
  forward.udp = text.starts_with("udp:");
  std::string_view from = std::string_view(text).substr(4, dash - 4), to = std::string_view(text).substr(dash + 1);
  const auto host = take_address(from), guest = take_address(to);
  const auto host_port = number<std::uint16_t>(from, 1, 65535), guest_port = number<std::uint16_t>(to, 1, 65535);
  if (!host || !guest || !host_port || !guest_port) return wrong();
  forward.host_port = *host_port;
  forward.guest_port = *guest_port;

  const auto is_ipv6 = [](const std::string& word) { return word.find(':') != std::string::npos; };
  forward.ipv6 = is_ipv6(*host) || is_ipv6(*guest);
  if (forward.ipv6) forward.host_address6[15] = 1;  // loopback
  for (const std::string* word : {&*host, &*guest}) {
    if (word->empty()) continue;
    const bool of_host = word == &*host;
    const auto ipv4 = net::parse_ipv4(*word);
    const auto ipv6 = net::parse_ipv6(*word);
    if (!ipv4 && !ipv6) return Error(fmt::format("\"{}\" is no IP address in numbers", *word));
    if (forward.ipv6 != ipv6.has_value())
      return Error(fmt::format("\"{}\": a forward leads from IPv4 to IPv4, or from IPv6 to IPv6", text));
    if (forward.ipv6)
      (of_host ? forward.host_address6 : forward.guest_address6) = *ipv6;
    else
      (of_host ? forward.host_address : forward.guest_address) = *ipv4;
  }
  return forward;
}

Result<std::optional<NetConfig>> parse_net(const std::string& text) {
  const std::vector<std::string> words = split_at_commas(text);
  if (text == "none") return std::optional<NetConfig>();
  NetConfig net;
  if (words[0] == "tap")
    net.kind = NetKind::Tap;
  else if (words[0] == "passt")
    net.kind = NetKind::Passt;
  else if (words[0] != "user")
    return Error(fmt::format("\"{}\" is not a network (known: user, passt, tap, none)", words[0]));
  for (std::size_t i = 1; i < words.size(); ++i) {
    Result<void> applied = apply(net, words[i]);
    if (!applied) return std::move(applied).error();
  }
  for (const net::PortForward& forward : net.user.forwards)
    if (forward.ipv6 && !net.user.ipv6) return Error("a forward from an IPv6 address needs ipv6=on");
  if (net.kind == NetKind::Passt) {
    if (!net.passt_socket.empty() && (!net.user.forwards.empty() || !net.user.ipv6))
      return Error(
          "a passt that runs already has its forwards from its own command line: leave out hostfwd= and ipv6=");
    for (const net::PortForward& forward : net.user.forwards)
      if (forward.guest_address != 0 || forward.guest_address6 != net::Ipv6{})
        return Error("passt forwards to its one guest: leave out the address behind the dash in hostfwd=");
  }
  if (net.kind == NetKind::Tap && net.interface.empty())
    return Error("tap needs the name of its interface: tap,ifname=tap0");
  if (net.model == vm::CardModel::E1000 && net.queues > 1)
    return Error("an e1000 card has one queue: leave out queues=");
  return std::optional<NetConfig>(std::move(net));
}

}  // namespace veneer::cli
