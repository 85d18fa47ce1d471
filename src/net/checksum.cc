// Summing eight bytes at a time: 2^16 = 1 modulo 2^16 - 1, so the width of the words does not matter.
#include "net/checksum.h"

#include <cstring>

namespace veneer::net {

std::uint64_t add_bytes(std::uint64_t sum, std::span<const std::byte> bytes) {
  unsigned __int128 total = sum;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t low = 0, high = 0;  // sums of 32-bit halves: no carries for 2^32 words
  for (; left >= 8; left -= 8, at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    low += word & 0xffff'ffff;
    high += word >> 32;
  }
  total += low;
  total += high;
  if (left > 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, left);
    total += word;
  }
  // Back to 64 bits with some room above.
  const auto upper = static_cast<std::uint64_t>(total >> 48);
  return (static_cast<std::uint64_t>(total) & 0xffff'ffff'ffff) + upper;
}

std::uint16_t fold(std::uint64_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

std::uint16_t checksum_after_change(std::uint16_t field, std::uint16_t before, std::uint16_t after) {
  const std::uint64_t sum =
      std::uint64_t{static_cast<std::uint16_t>(~field)} + static_cast<std::uint16_t>(~before) + after;
  return checksum(sum);
}

}  // namespace veneer::net
