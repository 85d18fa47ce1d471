// Single vector registers of the guest, while they are live in the host's registers.
//
// Each routine of vector_registers.S is a store or load of one register; it touches nothing else, so that files built
// register-only can look at one operand without saving the whole vector state.
#pragma once

#include <cstdint>

extern "C" {
extern const std::uint8_t veneer_bt_store_ymm[], veneer_bt_load_ymm[];        ///< 0-15
extern const std::uint8_t veneer_bt_store_zmm[], veneer_bt_load_zmm[];        ///< 0-31; AVX-512 hosts
extern const std::uint8_t veneer_bt_store_opmask[], veneer_bt_load_opmask[];  ///< 0-7; AVX-512BW hosts
extern const std::uint8_t veneer_bt_store_mmx[];                              ///< 0-7
}

namespace veneer::cpu::bt {

/// A vector register as the host has it; a narrow store leaves the upper half alone.
struct alignas(64) VectorValue {
  std::uint8_t byte[64];
};

namespace vector_registers {

inline constexpr unsigned routine_bytes = 16;
inline void call(const std::uint8_t* table, unsigned n, void* memory) {
  const auto routine = reinterpret_cast<void (*)(void*)>(reinterpret_cast<std::uint64_t>(table + n * routine_bytes));
  routine(memory);
}

/// `wide`: the host has 32 registers of 64 bytes, else 16 of 32 bytes.
inline void store(unsigned n, bool wide, VectorValue& to) {
  call(wide ? veneer_bt_store_zmm : veneer_bt_store_ymm, n, &to);
}
/// Loads 64 or 32 bytes; a narrow load clears what a wider register has above them.
inline void load(unsigned n, bool wide, VectorValue& from) {
  call(wide ? veneer_bt_load_zmm : veneer_bt_load_ymm, n, &from);
}
inline std::uint64_t opmask(unsigned n) {
  std::uint64_t value;
  call(veneer_bt_store_opmask, n, &value);
  return value;
}
inline void set_opmask(unsigned n, std::uint64_t value) { call(veneer_bt_load_opmask, n, &value); }
/// Enters MMX mode as MMX instructions do (SDM 1 9.5.1); no x87 exception may be pending.
inline std::uint64_t mmx(unsigned n) {
  std::uint64_t value;
  call(veneer_bt_store_mmx, n, &value);
  return value;
}

}  // namespace vector_registers
}  // namespace veneer::cpu::bt
