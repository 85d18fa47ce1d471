// Page walks: guest-virtual to guest-physical, permissions, accessed and dirty bits. Register-only.
//
// SDM 3A chapter 4. Permissions, SMEP, SMAP, WP, NX are all settled here, before the TLB is filled.
#include "base/bits.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/page_entry.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

bool BtVcpu::walk(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out) {
  for (;;) {
    bool changed = false;
    const bool ok = s.svm.nested_paging ? walk_once<true>(address, access, user, smap_override, out, changed)
                                        : walk_once<false>(address, access, user, smap_override, out, changed);
    if (!changed) return ok;
  }
}

/// `changed`: an entry changed under the walk, which counts for nothing then. `nested`: what the guest takes for
/// physical addresses goes through its hypervisor's tables.
template <bool nested>
bool BtVcpu::walk_once(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out,
                       bool& changed) {
  if (!(s.cr0 & CR0_PG)) {
    out = {GuestPhys{address & 0xffffffffu}, true, true, false};
    if constexpr (nested) return nested_page(access, out);
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
  PageEntry entries[5];
  const unsigned entry_bytes = pae ? 8 : 4;
  auto read_entry = [&](GuestPhys place, PageEntry& entry) {
    if constexpr (nested) {
      NestedTranslation t;
      if (!nested_walk(place.value, Access::Write, NestedUse::PageTable, t)) return false;
      place = t.address;
    }
    entry = PageEntry::read(memory, place, entry_bytes);
    return true;
  };
  std::uint64_t page_mask = page_offset_mask;
  if (level == 3) {
    std::uint64_t pdpte = pdptes_[(address >> 30) & 3];  // the four were loaded, and checked, with CR3
    if constexpr (nested) {
      // AMD's processors read them as any other entry then (APM 2 15.25.10).
      PageEntry entry;
      if (!read_entry(GuestPhys{table + ((address >> 30) & 3) * 8}, entry)) return false;
      pdpte = entry.value;
      if ((pdpte & PTE_P) && (pdpte & (PDPTE_RESERVED | ~physical_mask))) return page_fault(PF_PRESENT | PF_RESERVED);
    }
    if (!(pdpte & PTE_P)) return page_fault(0);
    table = pdpte & frame_mask;
    level = 2;
  }
  const unsigned top = level;

  for (;; level--) {
    const unsigned bits = pae ? 9 : 10;
    const unsigned shift = page_shift + bits * (level - 1);
    const std::uint64_t index = (address >> shift) & ((1u << bits) - 1);
    if (!read_entry(GuestPhys{table + index * entry_bytes}, entries[level])) return false;
    const std::uint64_t entry = entries[level].value;
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
    if ((entries[l].value & want) == want) continue;
    if (!entries[l].set(want, entry_bytes)) {
      changed = true;
      return false;
    }
    page_table_written(entries[l].place, entry_bytes);
  }

  std::uint64_t frame = entries[level].value & frame_mask;
  if (!pae && level == 2) frame = large_frame_32bit(entries[level].value);
  out.address = GuestPhys{(frame & ~page_mask) | (address & page_mask)};
  out.large = level > 1;
  out.global = (entries[level].value & PTE_G) && (s.cr4 & CR4_PGE);
  const bool write_allowed = can_write || (!user && !wp);
  out.writable = write_allowed && (entries[level].value & PTE_D);
  if constexpr (nested) return nested_page(access, out);
  return true;
}

void BtVcpu::page_table_written(GuestPhys place, unsigned bytes) {
  if (auto* slot = engine_.memory().find(place); slot && slot->code_pages[(place - slot->base) >> page_shift])
    code_written(*slot, place - slot->base, bytes);
}

}  // namespace veneer::cpu::bt
