// Pushing and popping from C++, with the stack's width and base applied.
#pragma once

#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

inline std::uint64_t stack_mask(const BtVcpu& v) {
  return v.code64() ? ~std::uint64_t{0} : v.mode.has(Mode::STACK32) ? 0xffffffffu : 0xffffu;
}

inline std::uint64_t stack_linear(BtVcpu& v, std::uint64_t sp) {
  return v.code64() ? sp : (v.s.segments[SS].base + sp) & 0xffffffffu;
}

/// #SS unless SS lets an access at the linear address `address` through.
inline bool stack_reachable(BtVcpu& v, std::uint64_t address, unsigned bytes, Access access) {
  if (!v.code64()) return v.check_segment(SS, (address - v.s.segments[SS].base) & 0xffffffffu, bytes, access);
  if (v.canonical(address) && v.canonical(address + bytes - 1)) return true;
  return v.raise(VECTOR_SS, 0);
}

/// Pushes `bytes` bytes; false after noting a fault, with nothing changed.
inline bool push(BtVcpu& v, std::uint64_t value, unsigned bytes) {
  const std::uint64_t mask = stack_mask(v);
  const std::uint64_t sp = (v.reg(RSP) - bytes) & mask;
  const std::uint64_t at = stack_linear(v, sp);
  if (!stack_reachable(v, at, bytes, Access::Write) || !v.write_memory(at, &value, bytes)) return false;
  v.b->gpr[RSP] = (v.reg(RSP) & ~mask) | sp;
  return true;
}

/// Pops `bytes` bytes, zero-extended.
inline bool pop(BtVcpu& v, std::uint64_t& value, unsigned bytes) {
  const std::uint64_t mask = stack_mask(v);
  const std::uint64_t at = stack_linear(v, v.reg(RSP) & mask);
  value = 0;
  if (!stack_reachable(v, at, bytes, Access::Read) || !v.read_memory(at, &value, bytes)) return false;
  v.b->gpr[RSP] = (v.reg(RSP) & ~mask) | ((v.reg(RSP) + bytes) & mask);
  return true;
}

}  // namespace veneer::cpu::bt
