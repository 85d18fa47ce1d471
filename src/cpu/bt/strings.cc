// String instructions: MOVS, STOS, LODS, CMPS, SCAS with every prefix, page by page. Register-only.
//
// A round of at most one page is done at host speed; between rounds interrupts are looked at with RIP in place, and
// a fault leaves the registers as after the last finished element (SDM 2B REP).
#include <algorithm>

#include "cpu/bt/callouts.h"
#include "cpu/bt/string_order.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

struct StringState {
  std::uint64_t mask;  ///< of the address size
  unsigned address_bytes;
  bool backward;
  std::uint64_t count;  ///< elements left, or 1 without a prefix
};

StringState start(BtVcpu& v, const CalloutRecord& r) {
  StringState s;
  s.address_bytes = r.memory.address_bytes;
  s.mask = s.address_bytes == 8 ? ~std::uint64_t{0} : s.address_bytes == 4 ? 0xffffffffu : 0xffffu;
  s.backward = v.b->direction != 0;
  s.count = r.rep ? v.reg(RCX) & s.mask : 1;
  return s;
}

SegReg segment_of(const CalloutRecord& r, unsigned reg) {
  return reg == RDI ? ES : static_cast<SegReg>(r.memory.segment);
}

template <unsigned Size>
bool linear(BtVcpu& v, const CalloutRecord& r, unsigned reg, const StringState& s, Access access, std::uint64_t& out) {
  MemoryOperand m;
  m.address_bytes = static_cast<std::uint8_t>(s.address_bytes);
  m.segment = static_cast<std::uint8_t>(segment_of(r, reg));
  m.displacement = static_cast<std::int64_t>(v.reg(reg) & s.mask);
  if (!v.linear_address(m, out, Size, access)) return false;
  if (!v.code64() || v.canonical(out + Size - 1)) return true;
  return v.raise(m.segment == SS ? VECTOR_SS : VECTOR_GP, 0);
}

template <unsigned Size>
bool crosses_page(std::uint64_t address) {
  return (address & page_offset_mask) > page_size - Size;
}

std::uint64_t next_page(const BtVcpu& v, std::uint64_t address) {
  const std::uint64_t next = (address | page_offset_mask) + 1;
  return v.code64() ? next : next & 0xffffffffu;
}

void advance(BtVcpu& v, unsigned reg, const StringState& s, std::uint64_t bytes) {
  const std::uint64_t value = s.backward ? v.reg(reg) - bytes : v.reg(reg) + bytes;
  if (s.address_bytes == 2)
    v.set_reg(reg, value, 2);
  else
    v.b->gpr[reg] = value & s.mask;
}

/// Elements from `address` to the end of its page in the direction of travel; 0 when the first one crosses.
std::uint64_t in_page(std::uint64_t address, unsigned size, bool backward) {
  const std::uint64_t offset = address & page_offset_mask;
  if (!backward) return (page_size - offset) / size;
  return offset + size > page_size ? 0 : offset / size + 1;
}

/// Elements from `reg` on that need no further look at the segment, and before the index wraps round; `linear` has
/// let the first one through.
std::uint64_t in_segment(const BtVcpu& v, const CalloutRecord& r, unsigned reg, const StringState& s, unsigned size) {
  const std::uint64_t offset = v.reg(reg) & s.mask;
  if (s.backward) return v.code64() ? ~std::uint64_t{0} : offset / size + 1;
  if (v.code64()) return ~std::uint64_t{0};
  const Segment& g = v.s.segments[segment_of(r, reg)];
  const std::uint64_t last = std::min<std::uint64_t>(g.limit, s.mask);
  const bool plain = (g.attributes & 0xc) != 4;  // expand-down segments are looked at one by one
  return plain && last >= offset ? std::max<std::uint64_t>((last - offset + 1) / size, 1) : 1;
}

/// After a round: done, or again with RIP in place.
Outcome finish(BtVcpu& v, const CalloutRecord& r, StringState& s, std::uint64_t done) {
  if (!r.rep) return Outcome::Continue;
  s.count -= done;
  if (s.address_bytes == 2)
    v.set_reg(RCX, s.count, 2);
  else
    v.b->gpr[RCX] = s.count;
  return Outcome::Continue;
}

Outcome again(BtVcpu& v, const CalloutRecord& r) {
  v.b->rip = v.rip_of(r.offset);
  return Outcome::Leave;
}

/// A single step is one element (SDM 3B 17.3.1.4), and alignment is looked at one by one.
bool one_by_one(const BtVcpu& v) { return (v.s.rflags & RFLAGS_TF) || v.must_be_aligned(); }

/// Leave between rounds: a kick is waiting, a single step is done, or a data breakpoint was met.
bool interrupted(const BtVcpu& v) { return v.kicked() || (v.s.rflags & RFLAGS_TF) || v.debug_hit(); }

template <unsigned Size>
Outcome movs(BtVcpu& v, const CalloutRecord& r) {
  StringState s = start(v, r);
  while (s.count) {
    std::uint64_t from, to;
    // The source's faults come first.
    if (!linear<Size>(v, r, RSI, s, Access::Read, from) || !v.check_alignment(from, Size) ||
        !v.probe(from, Access::Read))
      return Outcome::Fault;
    if (crosses_page<Size>(from) && !v.probe(next_page(v, from), Access::Read)) return Outcome::Fault;
    if (!linear<Size>(v, r, RDI, s, Access::Write, to)) return Outcome::Fault;
    std::uint64_t n = std::min({s.count, in_page(from, Size, s.backward), in_page(to, Size, s.backward),
                                in_segment(v, r, RSI, s, Size), in_segment(v, r, RDI, s, Size)});
    if (one_by_one(v)) n = 1;
    GuestPhys physical;
    bool faulted;
    HostPtr source = nullptr, target = nullptr;
    if (n > 1) {
      source = v.page_pointer(from, Access::Read, false, physical, faulted);
      if (faulted) return Outcome::Fault;
      target = v.page_pointer(to, Access::Write, false, physical, faulted);
      if (faulted) return Outcome::Fault;
    }
    if (source && target) {
      void* d = target;
      const void* f = source;
      std::uint64_t c = n;
      if (!s.backward) {
        if constexpr (Size == 1) asm volatile("rep movsb" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
        if constexpr (Size == 2) asm volatile("rep movsw" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
        if constexpr (Size == 4) asm volatile("rep movsl" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
        if constexpr (Size == 8) asm volatile("rep movsq" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
      } else {
        if constexpr (Size == 1) asm volatile("std; rep movsb; cld" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
        if constexpr (Size == 2) asm volatile("std; rep movsw; cld" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
        if constexpr (Size == 4) asm volatile("std; rep movsl; cld" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
        if constexpr (Size == 8) asm volatile("std; rep movsq; cld" : "+D"(d), "+S"(f), "+c"(c) : : "memory");
      }
    } else {
      n = 1;
      std::uint64_t value = 0;
      if (!v.read_memory(from, &value, Size) || !v.write_memory(to, &value, Size)) return Outcome::Fault;
    }
    advance(v, RSI, s, n * Size);
    advance(v, RDI, s, n * Size);
    finish(v, r, s, n);
    if (!r.rep) return Outcome::Continue;
    if (s.count && interrupted(v)) return again(v, r);
  }
  return Outcome::Continue;
}

template <unsigned Size>
Outcome stos(BtVcpu& v, const CalloutRecord& r) {
  StringState s = start(v, r);
  while (s.count) {
    std::uint64_t to;
    if (!linear<Size>(v, r, RDI, s, Access::Write, to)) return Outcome::Fault;
    std::uint64_t n = std::min({s.count, in_page(to, Size, s.backward), in_segment(v, r, RDI, s, Size)});
    if (one_by_one(v)) n = 1;
    GuestPhys physical;
    bool faulted;
    HostPtr target = nullptr;
    if (n > 1 && !s.backward) {
      target = v.page_pointer(to, Access::Write, false, physical, faulted);
      if (faulted) return Outcome::Fault;
    }
    const std::uint64_t value = v.reg(RAX);
    if (target) {
      void* d = target;
      std::uint64_t c = n;
      if constexpr (Size == 1) asm volatile("rep stosb" : "+D"(d), "+c"(c) : "a"(value) : "memory");
      if constexpr (Size == 2) asm volatile("rep stosw" : "+D"(d), "+c"(c) : "a"(value) : "memory");
      if constexpr (Size == 4) asm volatile("rep stosl" : "+D"(d), "+c"(c) : "a"(value) : "memory");
      if constexpr (Size == 8) asm volatile("rep stosq" : "+D"(d), "+c"(c) : "a"(value) : "memory");
    } else {
      n = 1;
      if (!v.write_memory(to, &value, Size)) return Outcome::Fault;
    }
    advance(v, RDI, s, n * Size);
    finish(v, r, s, n);
    if (!r.rep) return Outcome::Continue;
    if (s.count && interrupted(v)) return again(v, r);
  }
  return Outcome::Continue;
}

template <unsigned Size>
Outcome lods(BtVcpu& v, const CalloutRecord& r) {
  StringState s = start(v, r);
  while (s.count) {
    std::uint64_t from, value = 0;
    if (!linear<Size>(v, r, RSI, s, Access::Read, from) || !v.read_memory(from, &value, Size)) return Outcome::Fault;
    v.set_reg(RAX, value, Size);
    advance(v, RSI, s, Size);
    finish(v, r, s, 1);
    if (!r.rep) return Outcome::Continue;
    if (s.count && interrupted(v)) return again(v, r);
  }
  return Outcome::Continue;
}

/// Flags of `left - right`, made by the processor itself.
template <unsigned Size>
std::uint64_t compare(std::uint64_t left, std::uint64_t right) {
  std::uint64_t flags;
  if constexpr (Size == 1) asm("cmpb %b2, %b1; pushfq; popq %0" : "=r"(flags) : "q"(left), "q"(right) : "cc", "memory");
  if constexpr (Size == 2) asm("cmpw %w2, %w1; pushfq; popq %0" : "=r"(flags) : "r"(left), "r"(right) : "cc", "memory");
  if constexpr (Size == 4) asm("cmpl %k2, %k1; pushfq; popq %0" : "=r"(flags) : "r"(left), "r"(right) : "cc", "memory");
  if constexpr (Size == 8) asm("cmpq %2, %1; pushfq; popq %0" : "=r"(flags) : "r"(left), "r"(right) : "cc", "memory");
  return flags;
}

template <unsigned Size, bool Scan>
Outcome compare_string(BtVcpu& v, const CalloutRecord& r) {
  StringState s = start(v, r);
  while (s.count) {
    std::uint64_t address, left = v.reg(RAX), right = 0;
    auto fetch = [&](unsigned pointer, std::uint64_t& value) {
      value = 0;
      return linear<Size>(v, r, pointer, s, Access::Read, address) && v.read_memory(address, &value, Size);
    };
    // If both operands fault, it is ES:[rDI] that does; but on some processors [rSI] in REPE CMPSB.
    const bool source_first = !Scan && Size == 1 && r.rep == 0xf3 && repe_cmpsb_reads_source_first;
    if (source_first && !fetch(RSI, left)) return Outcome::Fault;
    if (!fetch(RDI, right)) return Outcome::Fault;
    if (!Scan && !source_first && !fetch(RSI, left)) return Outcome::Fault;
    const std::uint64_t flags = compare<Size>(left, right);
    if (!Scan) advance(v, RSI, s, Size);
    advance(v, RDI, s, Size);
    finish(v, r, s, 1);
    v.set_arith(flags);
    if (!r.rep) return Outcome::Continue;
    const bool equal = flags & RFLAGS_ZF;
    if (equal == (r.rep == 0xf2)) return Outcome::Continue;
    if (s.count && interrupted(v)) return again(v, r);
  }
  return Outcome::Continue;
}

}  // namespace

CalloutFunction string_callout(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
      return movs<1>;
    case ZYDIS_MNEMONIC_MOVSW:
      return movs<2>;
    case ZYDIS_MNEMONIC_MOVSD:
      return movs<4>;
    case ZYDIS_MNEMONIC_MOVSQ:
      return movs<8>;
    case ZYDIS_MNEMONIC_STOSB:
      return stos<1>;
    case ZYDIS_MNEMONIC_STOSW:
      return stos<2>;
    case ZYDIS_MNEMONIC_STOSD:
      return stos<4>;
    case ZYDIS_MNEMONIC_STOSQ:
      return stos<8>;
    case ZYDIS_MNEMONIC_LODSB:
      return lods<1>;
    case ZYDIS_MNEMONIC_LODSW:
      return lods<2>;
    case ZYDIS_MNEMONIC_LODSD:
      return lods<4>;
    case ZYDIS_MNEMONIC_LODSQ:
      return lods<8>;
    case ZYDIS_MNEMONIC_CMPSB:
      return compare_string<1, false>;
    case ZYDIS_MNEMONIC_CMPSW:
      return compare_string<2, false>;
    case ZYDIS_MNEMONIC_CMPSD:
      return compare_string<4, false>;
    case ZYDIS_MNEMONIC_CMPSQ:
      return compare_string<8, false>;
    case ZYDIS_MNEMONIC_SCASB:
      return compare_string<1, true>;
    case ZYDIS_MNEMONIC_SCASW:
      return compare_string<2, true>;
    case ZYDIS_MNEMONIC_SCASD:
      return compare_string<4, true>;
    case ZYDIS_MNEMONIC_SCASQ:
      return compare_string<8, true>;
    default:
      return nullptr;
  }
}

}  // namespace veneer::cpu::bt
