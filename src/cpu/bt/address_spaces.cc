// Which context answers: loads of CR3, changes of the paging mode, invalidations. Register-only.
//
// SDM 3A 4.10.
#include "base/flight_recorder.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr unsigned first_asid_bit = 40;
constexpr std::uint64_t in_guest_tag = std::uint64_t{1} << 54;

}  // namespace

void BtVcpu::select_context() {
  // What a context is valid for: the table root (with PCID when enabled) and the bits that change permissions.
  const bool paging = s.cr0 & CR0_PG;
  std::uint64_t tag = paging ? (s.cr4 & CR4_PCIDE ? s.cr3 : s.cr3 & ~std::uint64_t{0xfff}) : 1;
  tag |= std::uint64_t{(s.cr0 & CR0_WP) != 0} << 63;
  tag |= std::uint64_t{(s.cr4 & CR4_SMAP) != 0} << 62;
  tag |= std::uint64_t{(s.cr4 & CR4_SMEP) != 0} << 61;
  tag |= std::uint64_t{(s.efer & EFER_NXE) != 0} << 60;
  tag |= std::uint64_t{(s.efer & EFER_LMA) != 0} << 59;
  tag |= std::uint64_t{(s.cr4 & CR4_PAE) != 0} << 58;
  tag |= std::uint64_t{(s.cr4 & CR4_PCIDE) != 0} << 57;
  tag |= std::uint64_t{(s.cr4 & CR4_PSE) != 0} << 56;
  tag |= std::uint64_t{paging} << 55;
  // A guest's are tagged by its ASID, which is not zero; physical addresses are shorter.
  static_assert(first_asid_bit + asid_bits == 54);
  if (s.svm.guest) tag |= (s.svm.asid & ((std::uint64_t{1} << asid_bits) - 1)) << first_asid_bit | in_guest_tag;
  constexpr std::uint64_t rules = ~std::uint64_t{0} << first_asid_bit;
  contexts_.select(tag, rules);
  drop_returns();
  count.context_switches++;
  load_gs();
}

bool BtVcpu::load_pdptes(std::uint64_t cr3, std::uint64_t cr0, std::uint64_t cr4) {
  if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || s.long_mode()) return true;
  if (s.svm.nested_paging) return true;  // walks read them
  constexpr std::uint64_t reserved = 0x1e6;
  const std::uint64_t beyond = ~std::uint64_t{0} << engine_.cpuid().physical_bits();
  std::uint64_t entries[4] = {};
  for (unsigned i = 0; i < 4; i++) {
    physical_read(GuestPhys{(cr3 & 0xffffffe0u) + i * 8}, &entries[i], 8);
    if ((entries[i] & 1) && (entries[i] & (reserved | beyond))) return false;
  }
  for (unsigned i = 0; i < 4; i++) pdptes_[i] = entries[i];
  return true;
}

void BtVcpu::load_cr3(std::uint64_t value, bool keep) {
  s.cr3 = value;
  if (!keep && (s.cr4 & CR4_PCIDE)) {
    // All of this PCID goes, whatever root it was used with: a later load with bit 63 would revive it (SDM
    // 3A 4.10.4.1).
    contexts_.for_each([&](Context& c) {
      if ((c.tag & 0xfff) == (value & 0xfff)) c.flush(Scope::ButGlobal);
    });
    return select_context();
  }
  select_context();
  if (!keep) contexts_.current().flush(Scope::ButGlobal);
}

/// APM 2 15.16: of what is tagged by this guest's ASID.
void BtVcpu::flush_asid(Scope scope) {
  const std::uint64_t asid = s.svm.asid & ((std::uint64_t{1} << asid_bits) - 1);
  drop_returns();
  contexts_.for_each([&](Context& c) {
    const bool guest = c.tag & in_guest_tag;
    if (guest && ((c.tag & ~in_guest_tag) << (64 - first_asid_bit - asid_bits)) >> (64 - asid_bits) == asid)
      c.flush(scope);
  });
}

void BtVcpu::paging_mode_changed() {
  flush_all_contexts();
  select_context();
}

void BtVcpu::flush_all_contexts() {
  drop_returns();
  contexts_.for_each([](Context& c) { c.flush(Scope::All); });
}

void BtVcpu::invalidate_page(std::uint64_t address) {
  note(flight::Event::TlbFlush, address);
  drop_returns();
  // Global entries may live in any context, so all of them drop the page.
  contexts_.for_each([&](Context& c) { c.invalidate_page(address); });
}

}  // namespace veneer::cpu::bt
