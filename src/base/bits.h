// Bit fields as datasheets print them: Bits<7, 4> is bits 7 down to 4.
#pragma once

#include <concepts>
#include <cstdint>

namespace veneer {

/// The field of bits Hi..Lo (inclusive) of an unsigned register value.
template <unsigned Hi, unsigned Lo>
struct Bits {
  static_assert(Hi >= Lo && Hi < 64);
  static constexpr unsigned width = Hi - Lo + 1;
  static constexpr std::uint64_t mask = (width == 64 ? ~std::uint64_t{0} : ((std::uint64_t{1} << width) - 1)) << Lo;

  static constexpr std::uint64_t get(std::uint64_t value) { return (value & mask) >> Lo; }
  static constexpr std::uint64_t set(std::uint64_t value, std::uint64_t field) {
    return (value & ~mask) | ((field << Lo) & mask);
  }
};

/// Bit n alone.
constexpr std::uint64_t bit(unsigned n) { return std::uint64_t{1} << n; }

/// The lowest `bytes` bytes (1, 2, 4 or 8) set to ones.
constexpr std::uint64_t byte_mask(unsigned bytes) {
  return bytes >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * bytes)) - 1;
}

constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t power_of_two) {
  return value & ~(power_of_two - 1);
}
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t power_of_two) {
  return (value + power_of_two - 1) & ~(power_of_two - 1);
}

}  // namespace veneer
