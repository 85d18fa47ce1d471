// A small fast generator of random numbers, reproducible from (seed, case).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace veneer::fuzz {

class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream) : state_(seed * 0x9e3779b97f4a7c15u ^ mix(stream + 1)) {}

  std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15u); }
  /// Uniform in [0, bound), bound > 0.
  unsigned below(unsigned bound) {
    return static_cast<unsigned>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  int between(int low, int high) { return low + static_cast<int>(below(static_cast<unsigned>(high - low + 1))); }
  bool percent(unsigned chance) { return below(100) < chance; }
  bool coin() { return next() >> 63; }
  template <typename T, std::size_t N>
  const T& pick(const T (&from)[N]) {
    return from[below(N)];
  }
  template <typename Container>
  const auto& pick(const Container& from) {
    return from[below(static_cast<unsigned>(from.size()))];
  }

 private:
  static std::uint64_t mix(std::uint64_t z) {  // SplitMix64's finaliser
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

}  // namespace veneer::fuzz
