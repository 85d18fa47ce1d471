// Vector registers in a test's ArchState, and which tests the host can run.
#pragma once

#include <cpuid.h>

#include <array>
#include <cstring>

#include "machine.h"

namespace veneer::engine_tests {

inline bool host_has_avx512() { return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"); }

#define NEEDS_AVX512 \
  if (!host_has_avx512()) GTEST_SKIP() << "this host has no AVX-512"

/// Offset of an XSAVE component in the standard format.
inline unsigned component_offset(unsigned component) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  __cpuid_count(0xd, component, a, b, c, d);
  return b;
}

template <typename T>
using Lanes = std::array<T, 64 / sizeof(T)>;

namespace xsave_layout {
inline constexpr unsigned xmm = 160, in_use = 512;
inline constexpr unsigned AVX = 2, OPMASK = 5, ZMM_HI256 = 6, HI16_ZMM = 7;
}  // namespace xsave_layout

/// Where the bytes of vector register n are: [0,16), [16,32), [32,64) of registers 0-15; all of 16-31 in one piece.
inline std::uint8_t* vector_piece(cpu::ArchState& state, unsigned n, unsigned piece) {
  namespace x = xsave_layout;
  std::uint8_t* area = state.xsave.data();
  if (n >= 16) return area + component_offset(x::HI16_ZMM) + (n - 16) * 64 + (piece == 0 ? 0 : piece == 1 ? 16 : 32);
  if (piece == 0) return area + x::xmm + n * 16;
  return piece == 1 ? area + component_offset(x::AVX) + n * 16 : area + component_offset(x::ZMM_HI256) + n * 32;
}

inline bool component_in_use(const cpu::ArchState& state, unsigned component) {
  std::uint64_t in_use;
  std::memcpy(&in_use, state.xsave.data() + xsave_layout::in_use, 8);
  return (in_use >> component) & 1;
}

inline void use_all_vectors(cpu::ArchState& state) {
  const std::uint64_t in_use = state.xcr0;
  std::memcpy(state.xsave.data() + xsave_layout::in_use, &in_use, 8);
}

/// Sets all of a register that the host has (call use_all_vectors() once as well).
template <typename T>
void set_vector(cpu::ArchState& state, unsigned n, const Lanes<T>& value) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(value.data());
  std::memcpy(vector_piece(state, n, 0), bytes, 16);
  std::memcpy(vector_piece(state, n, 1), bytes + 16, 16);
  if (state.xcr0 & 0xe0) std::memcpy(vector_piece(state, n, 2), bytes + 32, 32);
}

template <typename T>
Lanes<T> vector(cpu::ArchState& state, unsigned n) {
  namespace x = xsave_layout;
  Lanes<T> value{};
  auto* bytes = reinterpret_cast<std::uint8_t*>(value.data());
  const bool high = n >= 16;
  if (component_in_use(state, high ? x::HI16_ZMM : 1)) std::memcpy(bytes, vector_piece(state, n, 0), 16);
  if (component_in_use(state, high ? x::HI16_ZMM : x::AVX)) std::memcpy(bytes + 16, vector_piece(state, n, 1), 16);
  if (component_in_use(state, high ? x::HI16_ZMM : x::ZMM_HI256))
    std::memcpy(bytes + 32, vector_piece(state, n, 2), 32);
  return value;
}

inline void set_opmask(cpu::ArchState& state, unsigned n, std::uint64_t value) {
  std::memcpy(state.xsave.data() + component_offset(xsave_layout::OPMASK) + 8 * n, &value, 8);
}

inline std::uint64_t opmask(const cpu::ArchState& state, unsigned n) {
  std::uint64_t value = 0;
  if (component_in_use(state, xsave_layout::OPMASK))
    std::memcpy(&value, state.xsave.data() + component_offset(xsave_layout::OPMASK) + 8 * n, 8);
  return value;
}

}  // namespace veneer::engine_tests
