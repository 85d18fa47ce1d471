// VectorSet: a 256-bit register of the local APIC (IRR, ISR, TMR), 32 bits at a time.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace veneer::devices {

class VectorSet {
 public:
  bool test(std::uint8_t vector) const { return (words_[vector / 32u] >> (vector % 32u)) & 1u; }
  void set(std::uint8_t vector) { words_[vector / 32u] |= 1u << (vector % 32u); }
  void clear(std::uint8_t vector) { words_[vector / 32u] &= ~(1u << (vector % 32u)); }
  void assign(std::uint8_t vector, bool value) { value ? set(vector) : clear(vector); }
  std::uint32_t word(unsigned index) const { return words_[index]; }

  /// The highest vector in the set, or -1.
  int highest() const {
    for (int i = 7; i >= 0; --i)
      if (const std::uint32_t word = words_[static_cast<unsigned>(i)]) return i * 32 + 31 - std::countl_zero(word);
    return -1;
  }

 private:
  std::array<std::uint32_t, 8> words_{};
};

}  // namespace veneer::devices
