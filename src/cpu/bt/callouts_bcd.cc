// Callouts for what 64-bit mode lacks: AAA, AAS, AAD, AAM, DAA, DAS, SALC, BOUND, ARPL. Register-only.
//
// SDM 2A and 2B leave some flags of the BCD adjustments undefined. They are here what AMD's processors give: those of
// the addition or subtraction the adjustment consists of.
#include "cpu/bt/callouts.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t SUM_FLAGS = RFLAGS_SF | RFLAGS_ZF | RFLAGS_PF | RFLAGS_OF;

/// Sums and differences with the flags that the processor gives them.
template <typename T>
struct Sum {
  T value;
  std::uint64_t flags;
};

template <typename T>
Sum<T> add(T left, T right) {
  Sum<T> s{left, 0};
  asm("add %2, %0; pushfq; popq %1" : "+q"(s.value), "=r"(s.flags) : "q"(right) : "cc", "memory");
  return s;
}

template <typename T>
Sum<T> subtract(T left, T right) {
  Sum<T> s{left, 0};
  asm("sub %2, %0; pushfq; popq %1" : "+q"(s.value), "=r"(s.flags) : "q"(right) : "cc", "memory");
  return s;
}

std::uint8_t al(const BtVcpu& v) { return static_cast<std::uint8_t>(v.reg(RAX)); }
std::uint8_t ah(const BtVcpu& v) { return static_cast<std::uint8_t>(v.reg(RAX) >> 8); }
std::uint16_t ax(const BtVcpu& v) { return static_cast<std::uint16_t>(v.reg(RAX)); }
bool flag(const BtVcpu& v, std::uint64_t mask) { return v.b->arith_flags & mask; }

/// Flags of a result alone, the others clear.
std::uint64_t result_flags(std::uint8_t value) {
  std::uint64_t flags;
  asm("test %1, %1; pushfq; popq %0" : "=r"(flags) : "q"(value) : "cc", "memory");
  return flags & (RFLAGS_SF | RFLAGS_ZF | RFLAGS_PF);
}

/// AAA and AAS: one decimal digit in AL, its carry into AH.
Outcome ascii_adjust(BtVcpu& v, bool after_add) {
  const bool adjust = (al(v) & 15) > 9 || flag(v, RFLAGS_AF);
  const auto by = static_cast<std::uint16_t>(adjust ? 0x106 : 0);
  const auto sum = after_add ? add(ax(v), by) : subtract(ax(v), by);
  v.set_reg(RAX, sum.value & 0xff0f, 2);
  v.set_arith((sum.flags & SUM_FLAGS) | (adjust ? RFLAGS_CF | RFLAGS_AF : 0));
  return Outcome::Continue;
}

/// DAA and DAS: two decimal digits in AL.
Outcome decimal_adjust(BtVcpu& v, bool after_add) {
  const std::uint8_t old = al(v);
  const bool low = (old & 15) > 9 || flag(v, RFLAGS_AF);
  const bool high = old > 0x99 || flag(v, RFLAGS_CF);
  const auto by = static_cast<std::uint8_t>((low ? 6 : 0) + (high ? 0x60 : 0));
  const auto sum = after_add ? add(old, by) : subtract(old, by);
  // The borrow of DAS' lower half carries on its own.
  const bool carry = high || (!after_add && low && old < 6);
  v.set_reg(RAX, sum.value, 1);
  v.set_arith((sum.flags & SUM_FLAGS) | (low ? RFLAGS_AF : 0) | (carry ? RFLAGS_CF : 0));
  return Outcome::Continue;
}

bool protected_mode(const BtVcpu& v) { return (v.s.cr0 & CR0_PE) && !(v.s.rflags & RFLAGS_VM); }

}  // namespace

Outcome callout_aaa(BtVcpu& v, const CalloutRecord&) { return ascii_adjust(v, true); }
Outcome callout_aas(BtVcpu& v, const CalloutRecord&) { return ascii_adjust(v, false); }
Outcome callout_daa(BtVcpu& v, const CalloutRecord&) { return decimal_adjust(v, true); }
Outcome callout_das(BtVcpu& v, const CalloutRecord&) { return decimal_adjust(v, false); }

Outcome callout_aam(BtVcpu& v, const CalloutRecord& r) {
  const auto base = static_cast<std::uint8_t>(r.immediate);
  if (base == 0) return v.fault(VECTOR_DE);
  const auto low = static_cast<std::uint8_t>(al(v) % base);
  v.set_reg(RAX, static_cast<unsigned>(al(v) / base) << 8 | low, 2);
  v.set_arith(result_flags(low));
  return Outcome::Continue;
}

Outcome callout_aad(BtVcpu& v, const CalloutRecord& r) {
  const auto sum = add(al(v), static_cast<std::uint8_t>(ah(v) * (r.immediate & 0xff)));
  v.set_reg(RAX, sum.value, 2);
  v.set_arith(sum.flags);
  return Outcome::Continue;
}

Outcome callout_salc(BtVcpu& v, const CalloutRecord&) {
  v.set_reg(RAX, flag(v, RFLAGS_CF) ? 0xff : 0, 1);
  return Outcome::Continue;
}

/// BOUND (SDM 2A): the register is a signed index, in memory stand the lowest and the highest allowed.
Outcome callout_bound(BtVcpu& v, const CalloutRecord& r) {
  const unsigned bytes = r.operand_bytes;
  std::uint64_t address;
  std::uint8_t image[8] = {};
  if (!v.linear_address(r.memory, address, 2 * bytes, Access::Read) || !v.read_memory(address, image, 2 * bytes))
    return Outcome::Fault;
  std::int64_t index, lower, upper;
  if (bytes == 2) {
    std::int16_t bounds[2];
    __builtin_memcpy(bounds, image, sizeof bounds);
    index = static_cast<std::int16_t>(v.reg(r.reg)), lower = bounds[0], upper = bounds[1];
  } else {
    std::int32_t bounds[2];
    __builtin_memcpy(bounds, image, sizeof bounds);
    index = static_cast<std::int32_t>(v.reg(r.reg)), lower = bounds[0], upper = bounds[1];
  }
  return index < lower || index > upper ? v.fault(VECTOR_BR) : Outcome::Continue;
}

/// ARPL (SDM 2A): raises the destination selector's RPL to the source's.
Outcome callout_arpl(BtVcpu& v, const CalloutRecord& r) {
  if (!protected_mode(v)) return v.fault(VECTOR_UD);
  std::uint64_t address = 0;
  auto selector = static_cast<std::uint16_t>(v.reg(r.rm));
  if (r.has_memory && (!v.linear_address(r.memory, address, 2, Access::Read) || !v.read_value(address, selector)))
    return Outcome::Fault;
  const unsigned rpl = v.reg(r.reg) & 3u;
  const bool raised = (selector & 3u) < rpl;
  if (raised) {
    selector = static_cast<std::uint16_t>((selector & ~3u) | rpl);
    if (!r.has_memory)
      v.set_reg(r.rm, selector, 2);
    else if (!v.linear_address(r.memory, address, 2, Access::Write) || !v.write_value(address, selector))
      return Outcome::Fault;
  }
  v.set_arith((v.b->arith_flags & ~RFLAGS_ZF) | (raised ? RFLAGS_ZF : 0));
  return Outcome::Continue;
}

}  // namespace veneer::cpu::bt
