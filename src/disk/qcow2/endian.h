// Big-endian fields: all numbers of qcow2.
#pragma once

#include <cstddef>
#include <cstdint>

namespace veneer::disk::qcow2 {

template <typename T>
T load_be(const std::byte* from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>((std::uint64_t{value} << 8) | std::to_integer<std::uint64_t>(from[i]));
  return value;
}

template <typename T>
void store_be(std::byte* to, T value) {
  for (std::size_t i = sizeof(T); i-- > 0;) {
    to[i] = static_cast<std::byte>(value & 0xff);
    value = static_cast<T>(std::uint64_t{value} >> 8);
  }
}

}  // namespace veneer::disk::qcow2
