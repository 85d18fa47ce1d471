// The values of command line options: serial targets, TCP addresses, memory sizes.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/units.h"
#include "cli/options.h"
#include "cli/size.h"

namespace veneer::cli {
namespace {

constexpr std::uint64_t smallest_memory = 4 * MiB;
/// Guests see 40 physical address bits (CpuidPolicy::physical_bits), and PCI windows need a part of that.
constexpr std::uint64_t largest_memory = 960 * GiB;

bool all_digits(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

Result<SerialTarget> parse_serial(const std::string& text) {
  using Kind = SerialTarget::Kind;
  if (text == "stdio") return SerialTarget{Kind::Stdio, {}};
  if (text == "null" || text == "none") return SerialTarget{Kind::Null, {}};
  for (const auto& [prefix, kind] : {std::pair{"file:", Kind::File}, std::pair{"unix:", Kind::Unix}}) {
    if (!text.starts_with(prefix)) continue;
    const std::string path = text.substr(5);
    if (path.empty()) return Error(fmt::format("\"{}\" lacks the path behind the colon", text));
    if (kind == Kind::Unix && path.size() > 107)  // sockaddr_un::sun_path
      return Error(fmt::format("the socket path has {} bytes, the limit of the system is 107", path.size()));
    return SerialTarget{kind, path};
  }
  return Error(fmt::format("\"{}\" is not a serial target (known: stdio, file:PATH, unix:PATH, null)", text));
}

Result<TcpAddress> parse_tcp_address(const std::string& text) {
  const auto fail = [&](std::string_view why) {
    return Error(fmt::format("\"{}\" is not an address like tcp:127.0.0.1:1234: {}", text, why));
  };
  const std::string rest = text.starts_with("tcp:") ? text.substr(4) : text;
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string::npos) return fail("the port is missing");

  TcpAddress address;
  std::string host = rest.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (!host.empty() && host != "localhost") address.host = host;
  in6_addr unused{};
  if (inet_pton(AF_INET, address.host.c_str(), &unused) != 1 && inet_pton(AF_INET6, address.host.c_str(), &unused) != 1)
    return fail("the host must be an address in numbers");

  const std::string port = rest.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc{} || end != port.data() + port.size()) return fail("the port must be a number up to 65535");
  return address;
}

bool is_loopback(const TcpAddress& address) { return address.host.starts_with("127.") || address.host == "::1"; }

Result<std::uint64_t> parse_memory(const std::string& text) {
  TRY(const std::uint64_t bytes, parse_size(all_digits(text) ? text + "M" : text));
  if (bytes < smallest_memory)
    return Error(fmt::format("{} is too little memory: no guest starts with less than {}", format_size(bytes),
                             format_size(smallest_memory)));
  if (bytes > largest_memory)
    return Error(fmt::format("{} is more memory than a guest can address: the limit is {}", format_size(bytes),
                             format_size(largest_memory)));
  if (bytes % page_size != 0) return Error(fmt::format("{} bytes is not a multiple of 4 KiB pages", bytes));
  return bytes;
}

}  // namespace veneer::cli
