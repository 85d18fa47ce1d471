// Masks of vector instructions: their value, and the memory bytes they leave active. Register-only.
#pragma once

#include <cstdint>

#include "cpu/bt/callout.h"

namespace veneer::cpu::bt {

constexpr std::uint64_t low_bits(unsigned n) { return n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1; }

/// The opmask, or a bit for each element whose sign bit is set; of registers that are live now.
std::uint64_t mask_value(const VectorOperands& operands);

/// The bytes of the memory operand that are touched under this mask, a bit each.
std::uint64_t active_bytes(const VectorOperands& operands, std::uint64_t mask);

/// Calls f(first, count) for each run of ones, low to high.
template <typename F>
void for_each_run(std::uint64_t bits, F f) {
  while (bits) {
    const auto first = static_cast<unsigned>(__builtin_ctzll(bits));
    const std::uint64_t rest = ~(bits >> first);
    const unsigned n = rest ? static_cast<unsigned>(__builtin_ctzll(rest)) : 64;
    f(first, n);
    bits &= ~(low_bits(n) << first);
  }
}

}  // namespace veneer::cpu::bt
