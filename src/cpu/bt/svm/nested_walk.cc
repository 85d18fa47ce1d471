// Nested page tables: guest-physical to physical addresses, and #VMEXIT(NPF) (APM 2 15.25). Register-only.
//
// The tables have the format of the host's paging mode at VMRUN. Every access is a user's to them, one to a guest's
// page table a write, since it may set accessed and dirty bits (APM 2 15.25.5).
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/page_entry.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

// EXITINFO1 beside the page-fault bits (APM 2 15.25.6).
constexpr std::uint64_t NPF_FINAL_ADDRESS = std::uint64_t{1} << 32, NPF_PAGE_TABLE = std::uint64_t{1} << 33;

}  // namespace

bool BtVcpu::nested_walk(std::uint64_t address, Access access, NestedUse use, NestedTranslation& out) {
  for (;;) {
    bool changed = false;
    const bool ok = nested_walk_once(address, access, use, out, changed);
    if (!changed) return ok;
  }
}

bool BtVcpu::nested_walk_once(std::uint64_t address, Access access, NestedUse use, NestedTranslation& out,
                              bool& changed) {
  const SvmState::Host& host = s.svm.host;
  const bool pae = host.cr4 & CR4_PAE;
  const bool lma = host.efer & EFER_LMA;
  const bool nxe = host.efer & EFER_NXE;
  const bool write = access == Access::Write, fetch = access == Access::Fetch;
  auto fault = [&](std::uint64_t extra) {
    const std::uint64_t error = PF_USER | (write ? PF_WRITE : 0) | (fetch && nxe ? PF_FETCH : 0) | extra |
                                (use == NestedUse::PageTable ? NPF_PAGE_TABLE : NPF_FINAL_ADDRESS);
    return raise_exit(ExitCode::NPF, error, address);
  };
  auto& memory = engine_.memory();
  const std::uint64_t physical_mask = byte_mask(8) >> (64 - engine_.cpuid().physical_bits());
  const std::uint64_t frame_mask = pae ? physical_mask & ~page_offset_mask : 0xfffff000u;
  std::uint64_t reserved = pae ? ~physical_mask & 0x000fffffffffffffu : 0;
  if (pae && !nxe) reserved |= PTE_NX;
  if (pae && !lma) reserved |= std::uint64_t{0x7ff} << 52;
  const unsigned top = lma ? 4 : pae ? 3 : 2;
  const unsigned bits = pae ? 9 : 10, entry_bytes = pae ? 8 : 4;
  const unsigned reach = lma ? 48 : 32;
  if (address >> reach) return fault(0);
  std::uint64_t table = s.svm.nested_cr3 & (lma ? frame_mask : pae ? 0xffffffe0u : 0xfffff000u);
  bool can_write = true, can_user = true, no_execute = false;
  PageEntry entries[5];
  std::uint64_t page_mask = page_offset_mask;
  unsigned level = top;
  for (;; level--) {
    const unsigned shift = page_shift + bits * (level - 1);
    const std::uint64_t index = (address >> shift) & ((1u << bits) - 1);
    PageEntry& entry = entries[level];
    entry = PageEntry::read(memory, GuestPhys{table + index * entry_bytes}, entry_bytes);
    const bool pdpte = level == 3 && !lma;  // has no permissions, and no accessed bit
    if (!(entry.value & PTE_P)) return fault(0);
    if (entry.value & (pdpte ? PDPTE_RESERVED | ~physical_mask : reserved)) return fault(PF_PRESENT | PF_RESERVED);
    if (!pdpte) {
      can_write &= (entry.value & PTE_W) != 0;
      can_user &= (entry.value & PTE_U) != 0;
      no_execute |= pae && (entry.value & PTE_NX);
    }
    const bool large = level > 1 && !pdpte && (entry.value & PTE_PS) && (pae || (host.cr4 & CR4_PSE));
    if (large) {
      if (level > (engine_.page_1gb() ? 3u : 2u)) return fault(PF_PRESENT | PF_RESERVED);
      page_mask = (std::uint64_t{1} << shift) - 1;
      const std::uint64_t low_reserved = pae               ? page_mask & ~std::uint64_t{0x1fff}
                                         : engine_.pse36() ? 0x200000
                                                           : 0x3fe000;
      if (entry.value & low_reserved) return fault(PF_PRESENT | PF_RESERVED);
    }
    if (level == 1 || large) break;
    table = entry.value & frame_mask;
  }
  if (!can_user || (write && !can_write) || (fetch && no_execute)) return fault(PF_PRESENT);
  for (unsigned l = top; l >= level; l--) {
    if (l == 3 && !lma) continue;
    const std::uint64_t want = PTE_A | (l == level && write ? PTE_D : 0);
    if ((entries[l].value & want) == want) continue;
    if (!entries[l].set(want, entry_bytes)) {
      changed = true;
      return false;
    }
    page_table_written(entries[l].place, entry_bytes);
  }
  const std::uint64_t leaf = entries[level].value;
  std::uint64_t frame = leaf & frame_mask;
  if (!pae && level == 2) frame = large_frame_32bit(leaf);
  out.address = GuestPhys{(frame & ~page_mask) | (address & page_mask)};
  out.writable = can_write && (leaf & PTE_D);
  return true;
}

bool BtVcpu::nested_page(Access access, Translation& out) {
  NestedTranslation t;
  if (!nested_walk(out.address.value, access, NestedUse::FinalAddress, t)) return false;
  out.address = t.address;
  out.writable = out.writable && t.writable;
  return true;
}

}  // namespace veneer::cpu::bt
