// Random and corner values for registers, vectors and memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "image.h"
#include "random.h"

namespace veneer::fuzz {

/// An integer: corner of some width, small, a single bit, or random.
std::uint64_t random_integer(Random& random);

/// Eight bytes that mean something as floats, doubles, packed integers or packed small numbers.
std::uint64_t random_lane(Random& random);

/// x87, MXCSR, vectors and opmasks: mostly ordinary control words, sometimes unmasked exceptions. `components` are
/// the XSAVE components to fill; each is sometimes left in its initial configuration.
void random_vectors(Random& random, std::uint64_t components, Image& image);

/// A pool of patterns from which data pages are copied, so that a case costs no generation of 20 KiB.
class PatternPool {
 public:
  explicit PatternPool(std::uint64_t seed);
  /// `start` is any number; the pool wraps it.
  void fill(std::uint32_t start, std::span<std::uint8_t> out) const;

 private:
  std::vector<std::uint8_t> bytes_;
};

/// Where the processor puts an XSAVE component in the standard format.
struct ComponentPlace {
  unsigned offset = 0, size = 0;
};
ComponentPlace component_place(unsigned component);

/// Components in their initial configuration may hold anything in memory; gives them their initial values and marks
/// them as in use, so that areas can be compared byte by byte.
void canonicalise(std::uint64_t components, std::array<std::uint8_t, cpu::xsave_area_bytes>& xsave);

}  // namespace veneer::fuzz
