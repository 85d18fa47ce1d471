// Copies for register-only code: inline, since the library's may use vector registers.
#pragma once

#include <cstdint>

namespace veneer::cpu::bt {

inline void copy_bytes(void* to, const void* from, std::uint64_t n) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/// The same for operands: sizes that a register has are moved in one access, as another processor may be looking.
inline void copy_operand(void* to, const void* from, unsigned size) {
  switch (size) {
    case 1:
      return static_cast<void>(__builtin_memcpy(to, from, 1));
    case 2:
      return static_cast<void>(__builtin_memcpy(to, from, 2));
    case 4:
      return static_cast<void>(__builtin_memcpy(to, from, 4));
    case 8:
      return static_cast<void>(__builtin_memcpy(to, from, 8));
    default:
      return copy_bytes(to, from, size);
  }
}

}  // namespace veneer::cpu::bt
