// Choices: where a case's decisions come from, which is a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <random>

namespace veneer::devices_fuzz {

/// The same seed makes the same decisions, with the same build.
class Choices {
 public:
  explicit Choices(std::uint64_t seed) : random_(seed) {}

  std::uint64_t bits(unsigned count) { return count >= 64 ? random_() : random_() & ((std::uint64_t{1} << count) - 1); }
  /// 0 to count - 1.
  std::uint64_t below(std::uint64_t count) {
    if (count <= 1) return 0;
    return random_() % count;
  }
  bool one_in(std::uint64_t count) { return below(count) == count - 1; }
  /// As one_in(), for what breaks a driver's work: rarer in cases that are to get somewhere.
  bool wrong(std::uint64_t count) { return one_in(count * tameness_); }
  void set_tameness(std::uint64_t tameness) { tameness_ = tameness; }
  template <typename T>
  T pick(std::initializer_list<T> of) {
    return *std::next(of.begin(), static_cast<std::ptrdiff_t>(below(of.size())));
  }
  template <typename T>
  const T& of(const T* items, std::size_t count) {
    return items[below(count)];
  }

  /// Numbers that are interesting as lengths, indices and flags.
  std::uint64_t value() {
    switch (below(8)) {
      case 0:
        return 0;
      case 1:
        return below(16);
      case 2:
        return std::uint64_t{1} << below(64);
      case 3:
        return (std::uint64_t{1} << below(64)) - 1;
      case 4:
        return ~std::uint64_t{0} >> below(64);
      case 5:
        return bits(16);
      case 6:
        return bits(32);
      default:
        return bits(64);
    }
  }
  /// 1, 2 or 4; sometimes 8.
  unsigned memory_size() { return 1u << below(4); }
  unsigned port_size() { return 1u << below(3); }

 private:
  std::mt19937_64 random_;
  std::uint64_t tameness_ = 1;
};

}  // namespace veneer::devices_fuzz
