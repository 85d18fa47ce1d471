// Callouts for the x87/SSE/AVX save areas: FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR. Register-only.
//
// The processor itself makes and reads the image, in a buffer of ours, with the guest's registers loaded; then it is
// copied through checked memory. Everything the processor would fault on is checked before (SDM 1 13.7 to 13.12).
#include <Zydis/Zydis.h>

#include "cpu/bt/callouts.h"
#include "cpu/bt/copy_bytes.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr unsigned legacy_bytes = 512;
constexpr unsigned header_offset = 512;
constexpr unsigned header_end = 576;
constexpr unsigned largest_area = 4096;
constexpr std::uint64_t XSTATE_SSE = 1u << 1, XSTATE_AVX = 1u << 2, XSTATE_ZMM_HIGH = 1u << 6,
                        XSTATE_HIGH_ZMM = 1u << 7;
constexpr std::uint64_t compacted_bit = std::uint64_t{1} << 63;

std::uint64_t load64(const std::uint8_t* p) {
  std::uint64_t v;
  __builtin_memcpy(&v, p, 8);
  return v;
}

bool mxcsr_valid(BtVcpu& v, const std::uint8_t* image) {
  std::uint32_t mxcsr;
  __builtin_memcpy(&mxcsr, image + 24, 4);
  return (mxcsr & ~v.engine().mxcsr_mask()) == 0;
}

/// Checks that belong to every instruction of the XSAVE family; false after noting the fault.
bool xsave_enabled(BtVcpu& v) {
  if (!(v.s.cr4 & CR4_OSXSAVE)) return v.raise(VECTOR_UD);
  if (v.s.cr0 & CR0_TS) return v.raise(VECTOR_NM);
  return true;
}

bool area(BtVcpu& v, const CalloutRecord& r, unsigned alignment, std::uint64_t& address) {
  if (!v.linear_address(r.memory, address, 1, Access::Read)) {
    // Alignment comes before #SS here, in the XSAVE family (Zen 4).
    if (alignment == 64 && (v.effective_address(r.memory) & (alignment - 1))) v.raise(VECTOR_GP, 0);
    return false;
  }
  // FXSAVE and FXRSTOR prefer #AC, for addresses that are not even a multiple of 4 (Zen 4).
  if (alignment == 16 && v.must_be_aligned() && (address & 3)) return v.raise(VECTOR_AC, 0);
  if (address & (alignment - 1)) return v.raise(VECTOR_GP, 0);
  return true;
}

/// #PF when a byte of the area cannot be accessed. The effective address wraps with the address size.
bool probe(BtVcpu& v, const CalloutRecord& r, unsigned offset, Access access) {
  MemoryOperand m = r.memory;
  m.displacement += offset;
  std::uint64_t address;
  return v.linear_address(m, address, 1, access) && v.probe(address, access);
}

/// Both ends of an area that is to be written, first the one that processors look at first (Zen 4). Areas are smaller
/// than a page, so nothing is between.
bool writable(BtVcpu& v, const CalloutRecord& r, unsigned first, unsigned then) {
  return probe(v, r, first, Access::Write) && probe(v, r, then, Access::Write);
}

/// Outside 64-bit code vector registers 8 to 31 are neither stored nor loaded (SDM 1 10.5.1.2, 13.4, 13.5): keeps what
/// `from` has of them in an image. `layout` is XCOMP_BV of a compacted image, else 0; `present` the components in it.
void keep_upper_registers(BtVcpu& v, std::uint8_t* image, const std::uint8_t* from, std::uint64_t present,
                          std::uint64_t layout) {
  const auto keep = [&](unsigned offset, unsigned size) {
    for (unsigned i = 0; i < size; i++) image[offset + i] = from[offset + i];
  };
  constexpr unsigned xmm8_at = 288, xmm_bytes = 128;
  if (present & XSTATE_SSE) keep(xmm8_at, xmm_bytes);
  constexpr unsigned ymm_high_bytes = 128, zmm_high_bytes = 256, high_zmm_bytes = 1024;
  if (present & XSTATE_AVX) keep(v.engine().component_offset(2, layout) + ymm_high_bytes, ymm_high_bytes);
  if (present & XSTATE_ZMM_HIGH) keep(v.engine().component_offset(6, layout) + zmm_high_bytes, zmm_high_bytes);
  if (present & XSTATE_HIGH_ZMM) keep(v.engine().component_offset(7, layout), high_zmm_bytes);
}

/// Where these registers exist, but are out of reach. In legacy mode nobody can tell.
bool compatibility_mode(const BtVcpu& v) { return v.s.long_mode() && !v.code64(); }

/// The processor's own components of `mask`, in the standard format.
void save(std::uint8_t (&area)[largest_area], std::uint64_t mask) {
  for (unsigned i = header_offset; i < header_end; i++) area[i] = 0;
  asm volatile("xsave64 %0"
               : "+m"(area)
               : "a"(static_cast<std::uint32_t>(mask)), "d"(static_cast<std::uint32_t>(mask >> 32)));
}

bool wide(const CalloutRecord& r) {
  switch (r.mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XRSTOR64:
      return true;
    default:
      return false;
  }
}

}  // namespace

Outcome callout_fxsave(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t address;
  if (!area(v, r, 16, address)) return Outcome::Fault;
  std::uint8_t* buffer = v.vector_buffer();
  if (!writable(v, r, legacy_bytes - 1, 0)) return Outcome::Fault;
  // Bytes 464-511 are the program's own.
  if (!v.read_memory(address, buffer, legacy_bytes)) return Outcome::Fault;
  v.load_vectors();
  std::uint8_t before[legacy_bytes];
  if (!v.code64()) copy_bytes(before, buffer, legacy_bytes);
  if (wide(r))
    asm volatile("fxsave64 %0" : "+m"(*reinterpret_cast<char(*)[legacy_bytes]>(buffer)));
  else
    asm volatile("fxsave %0" : "+m"(*reinterpret_cast<char(*)[legacy_bytes]>(buffer)));
  v.export_x87_pointers(buffer, wide(r));
  if (!v.code64()) keep_upper_registers(v, buffer, before, XSTATE_SSE, 0);
  return v.write_memory(address, buffer, legacy_bytes) ? Outcome::Continue : Outcome::Fault;
}

Outcome callout_fxrstor(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t address;
  if (!area(v, r, 16, address)) return Outcome::Fault;
  std::uint8_t* buffer = v.vector_buffer();
  if (!probe(v, r, legacy_bytes - 1, Access::Read)) return Outcome::Fault;
  if (!v.read_memory(address, buffer, legacy_bytes)) return Outcome::Fault;
  if (!mxcsr_valid(v, buffer)) return v.fault(VECTOR_GP, 0);
  v.load_vectors();
  v.import_x87_pointers(buffer, wide(r));
  if (compatibility_mode(v)) {
    alignas(16) std::uint8_t current[legacy_bytes];
    asm volatile("fxsave64 %0" : "=m"(current));
    keep_upper_registers(v, buffer, current, XSTATE_SSE, 0);
  }
  if (wide(r))
    asm volatile("fxrstor64 %0" : : "m"(*reinterpret_cast<char(*)[legacy_bytes]>(buffer)));
  else
    asm volatile("fxrstor %0" : : "m"(*reinterpret_cast<char(*)[legacy_bytes]>(buffer)));
  return Outcome::Continue;
}

Outcome callout_xsave(BtVcpu& v, const CalloutRecord& r) {
  if (!xsave_enabled(v)) return Outcome::Fault;
  std::uint64_t address;
  if (!area(v, r, 64, address)) return Outcome::Fault;
  const std::uint64_t mask = ((v.reg(RAX) & 0xffffffffu) | (v.reg(RDX) << 32)) & v.s.xcr0;
  const bool compact = r.mnemonic == ZYDIS_MNEMONIC_XSAVEC || r.mnemonic == ZYDIS_MNEMONIC_XSAVEC64;
  const bool optimised = r.mnemonic == ZYDIS_MNEMONIC_XSAVEOPT || r.mnemonic == ZYDIS_MNEMONIC_XSAVEOPT64;
  const unsigned size = v.engine().xsave_bytes(mask, compact);
  // XSAVEOPT remembers where XRSTOR last read from: no area of the guest's is that, so neither may its buffer be.
  std::uint8_t* buffer = optimised ? v.optimised_buffer() : v.vector_buffer();
  if (!writable(v, r, 0, size - 1)) return Outcome::Fault;
  if (!v.read_memory(address, buffer, size)) return Outcome::Fault;
  v.load_vectors();
  const auto low = static_cast<std::uint32_t>(mask), high = static_cast<std::uint32_t>(mask >> 32);
  std::uint8_t before[largest_area];
  if (!v.code64()) copy_bytes(before, buffer, size);
  if (compact)
    asm volatile("xsavec64 %0" : "+m"(*reinterpret_cast<char(*)[4096]>(buffer)) : "a"(low), "d"(high));
  else if (optimised && wide(r))
    asm volatile("xsaveopt64 %0" : "+m"(*reinterpret_cast<char(*)[4096]>(buffer)) : "a"(low), "d"(high));
  else if (optimised)
    asm volatile("xsaveopt %0" : "+m"(*reinterpret_cast<char(*)[4096]>(buffer)) : "a"(low), "d"(high));
  else if (wide(r))
    asm volatile("xsave64 %0" : "+m"(*reinterpret_cast<char(*)[4096]>(buffer)) : "a"(low), "d"(high));
  else
    asm volatile("xsave %0" : "+m"(*reinterpret_cast<char(*)[4096]>(buffer)) : "a"(low), "d"(high));
  // XSAVEC and XSAVEOPT leave out what is in its initial configuration.
  if (mask & load64(buffer + header_offset) & 1) v.export_x87_pointers(buffer, wide(r));
  if (!v.code64()) keep_upper_registers(v, buffer, before, mask, compact ? mask : 0);
  return v.write_memory(address, buffer, size) ? Outcome::Continue : Outcome::Fault;
}

Outcome callout_xrstor(BtVcpu& v, const CalloutRecord& r) {
  if (!xsave_enabled(v)) return Outcome::Fault;
  std::uint64_t address;
  if (!area(v, r, 64, address)) return Outcome::Fault;
  const std::uint64_t mask = ((v.reg(RAX) & 0xffffffffu) | (v.reg(RDX) << 32)) & v.s.xcr0;
  std::uint8_t* buffer = v.vector_buffer();
  if (!probe(v, r, 0, Access::Read) || !probe(v, r, header_offset, Access::Read)) return Outcome::Fault;
  if (!v.read_memory(address, buffer, header_end)) return Outcome::Fault;
  const std::uint64_t in_use = load64(buffer + header_offset), layout = load64(buffer + header_offset + 8);
  const bool compact = layout & compacted_bit;
  for (unsigned i = 16; i < 64; i += 8)
    if (load64(buffer + header_offset + i) && (compact || i < 24)) return v.fault(VECTOR_GP, 0);
  if (in_use & ~v.s.xcr0) return v.fault(VECTOR_GP, 0);
  if (compact) {
    if ((layout & ~(v.s.xcr0 | compacted_bit)) || (in_use & ~layout)) return v.fault(VECTOR_GP, 0);
  } else if (layout) {
    return v.fault(VECTOR_GP, 0);
  }
  const unsigned size =
      compact ? v.engine().xsave_bytes(layout & ~compacted_bit, true) : v.engine().xsave_bytes(in_use & mask, false);
  if (!v.code64() && !probe(v, r, size - 1, Access::Read)) return Outcome::Fault;
  if (size > header_end && !v.read_memory(address + header_end, buffer + header_end, size - header_end))
    return Outcome::Fault;
  const bool loads_mxcsr = compact ? (mask & in_use & 2) != 0 : (mask & 6) != 0;
  if (loads_mxcsr && !mxcsr_valid(v, buffer)) return v.fault(VECTOR_GP, 0);
  v.load_vectors();
  if (mask & in_use & 1) v.import_x87_pointers(buffer, wide(r));
  const auto low = static_cast<std::uint32_t>(mask), high = static_cast<std::uint32_t>(mask >> 32);
  const std::uint64_t kept = mask & (XSTATE_SSE | XSTATE_AVX | XSTATE_ZMM_HIGH | XSTATE_HIGH_ZMM);
  const bool keeps = compatibility_mode(v) && kept;
  alignas(64) std::uint8_t current[largest_area];
  if (keeps) save(current, kept);
  if (wide(r))
    asm volatile("xrstor64 %0" : : "m"(*reinterpret_cast<char(*)[4096]>(buffer)), "a"(low), "d"(high));
  else
    asm volatile("xrstor %0" : : "m"(*reinterpret_cast<char(*)[4096]>(buffer)), "a"(low), "d"(high));
  if (keeps) {
    alignas(64) std::uint8_t merged[largest_area];
    save(merged, kept);
    keep_upper_registers(v, merged, current, kept, 0);
    const std::uint64_t used = load64(merged + header_offset) | (load64(current + header_offset) & kept);
    __builtin_memcpy(merged + header_offset, &used, sizeof used);
    asm volatile("xrstor64 %0"
                 :
                 : "m"(merged), "a"(static_cast<std::uint32_t>(kept)), "d"(static_cast<std::uint32_t>(kept >> 32)));
  }
  return Outcome::Continue;
}

}  // namespace veneer::cpu::bt
