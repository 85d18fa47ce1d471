// The Internet checksum (RFC 1071).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace veneer::net {

/// The ones' complement sum of `bytes`, not folded, added to `sum`. Words are taken in the host's byte order, so that
/// the folded result can be stored as it is (RFC 1071 2 (B)). An odd last byte counts as followed by zero.
std::uint64_t add_bytes(std::uint64_t sum, std::span<const std::byte> bytes);

/// 16 bits from the sum; not yet complemented.
std::uint16_t fold(std::uint64_t sum);

/// The checksum field: the complement of the folded sum.
inline std::uint16_t checksum(std::uint64_t sum) { return static_cast<std::uint16_t>(~fold(sum)); }

/// A checksum field after a 16-bit word that it covers was changed (RFC 1624, equation 3). All as they stand in memory.
std::uint16_t checksum_after_change(std::uint16_t field, std::uint16_t before, std::uint16_t after);

}  // namespace veneer::net
