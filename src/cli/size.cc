// Sizes as people write them: the parser and the printer.
#include "cli/size.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <string>

#include "base/units.h"

namespace veneer::cli {
namespace {

constexpr std::string_view prefixes = "kmgtp";

/// The shift of a unit suffix, or nothing: "" and "b" are 0, "k", "kb" and "kib" are 10, and so on.
Result<unsigned> unit_shift(std::string_view unit) {
  std::string lower;
  for (char c : unit) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (lower.empty() || lower == "b") return 0u;
  const std::size_t prefix = prefixes.find(lower.front());
  const std::string rest = lower.substr(1);
  if (prefix == std::string_view::npos || !(rest.empty() || rest == "b" || rest == "ib"))
    return Error(fmt::format("unknown unit \"{}\" (known: k, M, G, T, each also as MB or MiB)", unit));
  return static_cast<unsigned>(10 * (prefix + 1));
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto fail = [&](std::string_view why) {
    return Error(fmt::format("\"{}\" is not a size: {}", text.substr(0, 64), why));
  };
  constexpr const char* too_large = "it is larger than anything can be";

  std::size_t i = 0;
  std::uint64_t whole = 0;
  for (; i < text.size() && digit(text[i]); ++i) {
    if (__builtin_mul_overflow(whole, std::uint64_t{10}, &whole)) return fail(too_large);
    if (__builtin_add_overflow(whole, static_cast<std::uint64_t>(text[i] - '0'), &whole)) return fail(too_large);
  }
  if (i == 0) return fail("it must begin with a number, like 512M or 4GiB");

  // Up to nine decimal places, kept as an integer so that 1.5G is exact.
  std::uint64_t fraction = 0;
  std::uint64_t fraction_scale = 1;
  if (i < text.size() && text[i] == '.') {
    const std::size_t first = ++i;
    for (; i < text.size() && digit(text[i]); ++i) {
      if (i - first >= 9) return fail("too many decimal places");
      fraction = fraction * 10 + static_cast<std::uint64_t>(text[i] - '0');
      fraction_scale *= 10;
    }
    if (i == first) return fail("digits must follow the decimal point");
  }
  while (i < text.size() && text[i] == ' ') ++i;

  auto shift = unit_shift(text.substr(i));
  if (!shift) return fail(shift.error().message());
  if (whole > (~std::uint64_t{0} >> shift.value())) return fail(too_large);
  const auto fraction_bytes = static_cast<unsigned __int128>(fraction) << shift.value();
  if (fraction_bytes % fraction_scale != 0) return fail("it is not a whole number of bytes");
  std::uint64_t bytes = whole << shift.value();
  if (__builtin_add_overflow(bytes, static_cast<std::uint64_t>(fraction_bytes / fraction_scale), &bytes))
    return fail(too_large);
  return bytes;
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::array<const char*, 6> names = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  std::uint64_t scale = 1;
  while (unit + 1 < names.size() && bytes / scale >= 1024) {
    scale *= 1024;
    ++unit;
  }
  if (bytes % scale == 0) return fmt::format("{} {}", bytes / scale, names[unit]);
  return fmt::format("{:.1f} {}", static_cast<double>(bytes) / static_cast<double>(scale), names[unit]);
}

}  // namespace veneer::cli
