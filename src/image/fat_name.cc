// Names of files on FAT: short ones (8.3), and long ones in entries of their own.
#include "image/fat_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "image/le.h"

namespace veneer::image {
namespace {

constexpr std::size_t characters_per_entry = 13;
constexpr std::uint8_t LAST_LONG_ENTRY = 0x40;
constexpr std::uint8_t ATTR_LONG_NAME = 0x0f;
/// Where a long name's characters (UTF-16) stand in its entry.
constexpr std::array<std::uint8_t, characters_per_entry> character_offsets = {1,  3,  5,  7,  9,  14, 16,
                                                                              18, 20, 22, 24, 28, 30};

/// What a short name may have besides capitals and digits ("Limits and Restrictions"); long names allow more.
constexpr std::string_view short_punctuation = "$%'-_@~`!(){}^#&";
constexpr std::string_view long_punctuation = " .+,;=[]";

bool is_short_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || short_punctuation.find(c) != std::string_view::npos;
}

std::string eleven(std::string_view base, std::string_view extension) {
  return fmt::format("{:8}{:3}", base, extension);
}

/// The name itself as a short one, if it is.
std::optional<std::string> as_short(std::string_view name) {
  const std::size_t dot = std::min(name.find('.'), name.size());
  const std::string_view base = name.substr(0, dot);
  const std::string_view extension = name.substr(std::min(dot + 1, name.size()));
  const auto fine = [](std::string_view text) { return std::ranges::all_of(text, is_short_character); };
  if (base.empty() || base.size() > 8 || extension.size() > 3 || !fine(base) || !fine(extension)) return std::nullopt;
  if (dot < name.size() && extension.empty()) return std::nullopt;
  return eleven(base, extension);
}

std::string in_short_characters(std::string_view text, std::size_t at_most) {
  std::string out;
  for (const char c : text) {
    if (c == ' ' || c == '.') continue;
    out += is_short_character(capital(c)) ? capital(c) : '_';
    if (out.size() == at_most) break;
  }
  return out;
}

/// The checksum that ties a long name to its short one.
std::uint8_t checksum(std::string_view short_name) {
  std::uint8_t sum = 0;
  for (const char c : short_name)
    sum = static_cast<std::uint8_t>(((sum & 1) << 7) + (sum >> 1) + static_cast<std::uint8_t>(c));
  return sum;
}

}  // namespace

bool is_fat_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || name.back() == '.' || name.back() == ' ') return false;
  return std::ranges::all_of(name, [](char c) {
    return is_short_character(capital(c)) || long_punctuation.find(c) != std::string_view::npos;
  });
}

std::size_t long_name_entries(std::string_view name) {
  return as_short(name) ? 0 : (name.size() + characters_per_entry - 1) / characters_per_entry;
}

void put_long_name_entry(std::span<std::uint8_t> entry, std::string_view name, std::size_t ordinal,
                         std::string_view short_name) {
  const bool last = ordinal == long_name_entries(name);
  put_le(entry, 0, ordinal | (last ? LAST_LONG_ENTRY : 0), 1);
  put_le(entry, 11, ATTR_LONG_NAME, 1);
  put_le(entry, 13, checksum(short_name), 1);
  for (std::size_t i = 0; i < characters_per_entry; ++i) {
    const std::size_t at = (ordinal - 1) * characters_per_entry + i;
    // A zero ends a name that does not fill its last entry, all ones pad.
    const std::uint64_t value = at < name.size() ? static_cast<std::uint8_t>(name[at]) : at == name.size() ? 0 : 0xffff;
    put_le(entry, character_offsets[i], value, 2);
  }
}

void ShortNames::reserve(std::string_view name) {
  if (auto short_name = as_short(name)) taken_.insert(std::move(*short_name));
}

std::string ShortNames::make(std::string_view name) {
  if (const auto short_name = as_short(name)) return *short_name;
  const std::size_t dot = name.rfind('.');
  const bool has_extension = dot != std::string_view::npos && dot > 0;
  const std::string extension = has_extension ? in_short_characters(name.substr(dot + 1), 3) : "";
  const std::string base = in_short_characters(has_extension ? name.substr(0, dot) : name, 8);
  for (unsigned number = 1;; ++number) {
    const std::string tail = fmt::format("~{}", number);
    const std::string candidate = eleven(base.substr(0, 8 - tail.size()) + tail, extension);
    if (taken_.insert(candidate).second) return candidate;
  }
}

}  // namespace veneer::image
