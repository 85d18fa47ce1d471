// GUIDs, as GPT and UEFI store them, and new random ones.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace veneer::image {

/// 16 bytes in the order of the text: "c12a7328-..." begins with c1 2a. On disk the first three fields are
/// little-endian.
struct Guid {
  std::array<std::uint8_t, 16> bytes{};
  bool operator==(const Guid&) const = default;

  /// A new one (RFC 4122 version 4) from the host's random numbers.
  static Guid random();
  /// From 36 characters that are known to be right: for constants.
  static Guid of(std::string_view text);

  std::string text() const;
  /// As in a GPT (UEFI 2.10 appendix A).
  std::array<std::uint8_t, 16> on_disk() const;
};

}  // namespace veneer::image
