// Page walks: guest-virtual to guest-physical, permissions, accessed and dirty bits. Register-only.
//
// SDM 3A chapter 4. Permissions, SMEP, SMAP, WP, NX are all settled here, before the TLB is filled.
#include "base/bits.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100;
constexpr std::uint64_t PTE_NX = std::uint64_t{1} << 63;

}  // namespace

bool BtVcpu::walk(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out) {
  for (;;) {
    bool changed = false;
    const bool ok = walk_once(address, access, user, smap_override, out, changed);
    if (!changed) return ok;
  }
}

/// `changed`: an entry changed under the walk, which counts for nothing then.
bool BtVcpu::walk_once(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out,
                       bool& changed) {
  if (!(s.cr0 & CR0_PG)) {
    out = {GuestPhys{address & 0xffffffffu}, true, true, false};
    return true;
  }
  const bool pae = s.cr4 & CR4_PAE;
  const bool lma = s.long_mode();
  const bool nxe = s.efer & EFER_NXE;
  const bool write = access == Access::Write;
  const bool fetch = access == Access::Fetch;
  std::uint32_t error =
      (write ? PF_WRITE : 0) | (user ? PF_USER : 0) | (fetch && ((nxe && pae) || (s.cr4 & CR4_SMEP)) ? PF_FETCH : 0);
  auto page_fault = [&](std::uint32_t extra) {
    fault_ = Fault{VECTOR_PF, true, error | extra, lma ? address : address & 0xffffffffu};
    return false;
  };

  // PS is reserved where no page is that large.
  const unsigned largest_page = engine_.page_1gb() ? 4 : 3;
  auto& memory = engine_.memory();
  const std::uint64_t physical_mask = byte_mask(8) >> (64 - engine_.cpuid().physical_bits());
  const std::uint64_t frame_mask = pae ? physical_mask & ~page_offset_mask : 0xfffff000u;
  std::uint64_t reserved = pae ? (~physical_mask & 0x000fffffffffffffu) : 0;
  if (pae && !nxe) reserved |= PTE_NX;
  if (pae && !lma) reserved |= std::uint64_t{0x7ff} << 52;

  unsigned level = lma ? 4 : pae ? 3 : 2;
  std::uint64_t table = s.cr3 & (pae ? (lma ? frame_mask : 0xffffffe0u) : 0xfffff000u);
  bool can_write = true, can_user = true, no_execute = false;
  std::uint64_t* entries[5] = {};
  std::uint64_t values[5] = {};
  GuestPhys places[5];
  std::uint64_t page_mask = page_offset_mask;
  if (level == 3) {  // PAE: the four entries were loaded, and checked, with CR3
    const std::uint64_t pdpte = pdptes_[(address >> 30) & 3];
    if (!(pdpte & PTE_P)) return page_fault(0);
    table = pdpte & frame_mask;
    level = 2;
  }
  const unsigned top = level;

  for (;; level--) {
    const unsigned bits = pae ? 9 : 10;
    const unsigned shift = page_shift + bits * (level - 1);
    const std::uint64_t index = (address >> shift) & ((1u << bits) - 1);
    const GuestPhys place{table + index * (pae ? 8 : 4)};
    places[level] = place;
    HostPtr host = memory.at(place, pae ? 8 : 4);
    std::uint64_t entry = 0;
    if (host && pae)
      entry = __atomic_load_n(reinterpret_cast<std::uint64_t*>(host), __ATOMIC_RELAXED);
    else if (host)
      entry = __atomic_load_n(reinterpret_cast<std::uint32_t*>(host), __ATOMIC_RELAXED);
    else
      entry = byte_mask(pae ? 8 : 4);  // nobody answers: all ones, a reserved-bit fault
    entries[level] = reinterpret_cast<std::uint64_t*>(host);
    values[level] = entry;
    if (!(entry & PTE_P)) return page_fault(0);
    if (entry & reserved) return page_fault(PF_PRESENT | PF_RESERVED);
    if (level >= largest_page && (entry & PTE_PS)) return page_fault(PF_PRESENT | PF_RESERVED);
    can_write &= (entry & PTE_W) != 0;
    can_user &= (entry & PTE_U) != 0;
    no_execute |= pae && (entry & PTE_NX);
    const bool large = level > 1 && (entry & PTE_PS) && (pae || (s.cr4 & CR4_PSE));
    if (level == 1 || large) {
      if (large) {
        page_mask = (std::uint64_t{1} << shift) - 1;
        const std::uint64_t low_reserved = pae               ? page_mask & ~std::uint64_t{0x1fff}
                                           : engine_.pse36() ? 0x200000
                                                             : 0x3fe000;
        if (entry & low_reserved) return page_fault(PF_PRESENT | PF_RESERVED);
      }
      break;
    }
    table = entry & frame_mask;
  }

  // Permissions (SDM 3A 4.6.1)
  const bool wp = s.cr0 & CR0_WP;
  if (user) {
    if (!can_user || (write && !can_write) || (fetch && no_execute)) return page_fault(PF_PRESENT);
  } else {
    if (fetch && no_execute) return page_fault(PF_PRESENT);
    if (fetch && can_user && (s.cr4 & CR4_SMEP)) return page_fault(PF_PRESENT);
    if (!fetch && can_user && (s.cr4 & CR4_SMAP) && !smap_override) return page_fault(PF_PRESENT);
    if (write && !can_write && wp) return page_fault(PF_PRESENT);
  }

  // Accessed and dirty bits, atomically, top down.
  for (unsigned l = top; l >= level; l--) {
    const std::uint64_t want = PTE_A | (l == level && write ? PTE_D : 0);
    if ((values[l] & want) == want) continue;
    // Only in the entry that was checked: another processor may be taking it away (SDM 3A 8.1.2.1).
    bool same;
    if (pae) {
      same = __atomic_compare_exchange_n(entries[l], &values[l], values[l] | want, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST);
    } else {
      auto expected = static_cast<std::uint32_t>(values[l]);
      same = __atomic_compare_exchange_n(reinterpret_cast<std::uint32_t*>(entries[l]), &expected,
                                         expected | static_cast<std::uint32_t>(want), false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST);
    }
    if (!same) {
      changed = true;
      return false;
    }
    values[l] |= want;
    if (auto* slot = memory.find(places[l]); slot && slot->code_pages[(places[l] - slot->base) >> page_shift])
      code_written(*slot, places[l] - slot->base, pae ? 8 : 4);
  }

  std::uint64_t frame = values[level] & frame_mask;
  if (!pae && level == 2) frame = (values[level] & 0xffc00000u) | ((values[level] & 0x1fe000u) << 19);  // PSE-36
  out.address = GuestPhys{(frame & ~page_mask) | (address & page_mask)};
  out.large = level > 1;
  out.global = (values[level] & PTE_G) && (s.cr4 & CR4_PGE);
  const bool write_allowed = can_write || (!user && !wp);
  out.writable = write_allowed && (values[level] & PTE_D);
  return true;
}

}  // namespace veneer::cpu::bt
