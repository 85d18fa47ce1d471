// GUIDs, as GPT and UEFI store them, and new random ones.
#include "image/guid.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>

#include "base/assert.h"

namespace veneer::image {
namespace {

std::uint8_t digit(char c) { return static_cast<std::uint8_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10); }

}  // namespace

Guid Guid::random() {
  Guid guid;
  VENEER_ASSERT(::getrandom(guid.bytes.data(), guid.bytes.size(), 0) == 16);
  guid.bytes[6] = static_cast<std::uint8_t>((guid.bytes[6] & 0x0f) | 0x40);  // version 4
  guid.bytes[8] = static_cast<std::uint8_t>((guid.bytes[8] & 0x3f) | 0x80);  // RFC 4122's variant
  return guid;
}

Guid Guid::of(std::string_view text) {
  Guid guid;
  std::size_t nibble = 0;
  for (const char c : text) {
    if (c == '-') continue;
    VENEER_ASSERT(nibble < 32);
    std::uint8_t& byte = guid.bytes[nibble++ / 2];
    byte = static_cast<std::uint8_t>(byte << 4 | digit(c));
  }
  VENEER_ASSERT(nibble == 32);
  return guid;
}

std::string Guid::text() const {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", bytes[i]);
  }
  return out;
}

std::array<std::uint8_t, 16> Guid::on_disk() const {
  auto out = bytes;
  std::reverse(out.begin(), out.begin() + 4);
  std::reverse(out.begin() + 4, out.begin() + 6);
  std::reverse(out.begin() + 6, out.begin() + 8);
  return out;
}

}  // namespace veneer::image
