// Names of files on FAT: short ones (8.3), and long ones in entries of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>

namespace veneer::image {

constexpr char capital(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 0x20) : c; }

/// ASCII, 1 to 255 characters, none that FAT forbids; neither "." nor "..".
bool is_fat_name(std::string_view name);

/// How many entries the long name takes in front of the short one: 0 if the name is 8.3 in capitals.
std::size_t long_name_entries(std::string_view name);

/// Fills entry `ordinal` (1 holds the name's first 13 characters) of those that precede `short_name`.
void put_long_name_entry(std::span<std::uint8_t> entry, std::string_view name, std::size_t ordinal,
                         std::string_view short_name);

/// The short names of one folder: 11 characters each, padded, all different.
class ShortNames {
 public:
  /// Every name that is a short one has to be reserved before the first make().
  void reserve(std::string_view name);
  std::string make(std::string_view name);

 private:
  std::set<std::string> taken_;
};

}  // namespace veneer::image
