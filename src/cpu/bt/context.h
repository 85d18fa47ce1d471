// TLB contexts: several address spaces' software TLBs and jump caches kept alive at once, as a real TLB tags them.
//
// State: one ContextLayout of address space each (9 MiB, populated as it fills) and logs of the filled slots, so
// that a flush costs what was used. Owned and used by one vCPU thread.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "base/result.h"
#include "base/units.h"
#include "cpu/bt/vcpu_block.h"

namespace veneer::cpu::bt {

/// Slots filled since the last flush; beyond the capacity the whole table is dropped by the host's madvise.
struct FillLog {
  static constexpr unsigned capacity = 8192;
  unsigned count = 0;
  bool overflow = false;
  std::uint16_t slot[capacity];

  void add(unsigned index) {
    if (count < capacity)
      slot[count++] = static_cast<std::uint16_t>(index);
    else
      overflow = true;
  }
  void clear() {
    count = 0;
    overflow = false;
  }
};

/// What an invalidation takes: loads of CR3 leave the translations of global pages alone (SDM 3A 4.10.2.4).
enum class Scope { All, ButGlobal };

/// What is in one of the tables. Entries of global pages are told apart, since they stay at most flushes: a kernel's,
/// that is, which would otherwise be found anew in every new process.
struct Fills {
  FillLog local, global;
  std::uint64_t is_global[table_slots / 64] = {};  ///< a bit for each slot: what stands there now

  void add(unsigned slot, bool was_empty, bool now_global) {
    std::uint64_t& word = is_global[slot / 64];
    const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
    if (was_empty || ((word & bit) != 0) != now_global) (now_global ? global : local).add(slot);
    word = now_global ? word | bit : word & ~bit;
  }
  bool overflow() const { return local.overflow || global.overflow; }
  unsigned count() const { return local.count + global.count; }
  bool holds_global(unsigned slot) const { return (is_global[slot / 64] >> (slot % 64)) & 1; }
  /// Calls f for every slot that may be filled (some twice) until it returns true; returns what f did last.
  template <typename F>
  bool any_slot(F f) const {
    if (overflow()) {
      for (unsigned slot = 0; slot < table_slots; slot++)
        if (f(slot)) return true;
      return false;
    }
    for (const FillLog* log : {&local, &global})
      for (unsigned i = 0; i < log->count; i++)
        if (f(log->slot[i])) return true;
    return false;
  }
};

/// A set of pages or regions by hash, apart for the two halves of the address space: what a kernel holds for long
/// must not make invalidations of a program's pages expensive.
template <unsigned bits, unsigned shift>
struct AddressFilter {
  std::uint64_t word[2][bits / 64] = {};

  static unsigned hash(std::uint64_t address) {
    const std::uint64_t n = address >> shift;
    return static_cast<unsigned>((n ^ (n / bits)) % bits);
  }
  void add(std::uint64_t address) {
    word[address >> 63][hash(address) / 64] |= std::uint64_t{1} << (hash(address) % 64);
  }
  bool may_hold(std::uint64_t address) const {
    return (word[address >> 63][hash(address) / 64] >> (hash(address) % 64)) & 1;
  }
  void clear() {
    for (auto& half : word)
      for (auto& w : half) w = 0;
  }
};

/// A small cache for instruction fetch: guest page to (slot, page) for the look-up of translations.
struct FetchEntry {
  std::uint64_t page = ~std::uint64_t{0};  ///< guest-virtual page address, or all ones
  std::uint64_t code_page = 0;             ///< CodePageId of it
};

/// What a page walk found out about a page, as far as a TLB keeps it.
struct PageKind {
  bool writable = false;  ///< and dirty, and free of translations
  bool large = false;     ///< a fragment of a large page
  bool global = false;
};

class Context {
 public:
  ContextLayout* layout = nullptr;
  std::uint64_t tag = ~std::uint64_t{0};  ///< what this context holds: CR3 and paging mode (ContextSet::select)
  std::uint64_t last_use = 0;
  bool released = true;                        ///< its tables are all zeros, not yet empty ones
  std::uint64_t flushes = 0;                   ///< of the TLB, since the start
  std::uint32_t jump_mode[regime_count] = {};  ///< the block mode that each jump cache was filled under
  Fills tlb_fills[regime_count];
  FillLog jump_log[regime_count];
  FillLog exec_log[regime_count];
  /// Something in the jump cache, or the table of code pages, is not on a global page.
  bool local_jumps[regime_count] = {}, local_exec[regime_count] = {};
  /// 2 MiB regions where a fragment of a large page was filled, so INVLPG must sweep them: of local and global pages.
  AddressFilter<1024, 21> large_local, large_global;
  /// Host pages that write tags may lead to: of local and global pages. Most pages that turn out to hold code are in no
  /// context, or in one of twelve, and then the others' logs need not be gone through.
  AddressFilter<8192, page_shift> writes_local, writes_global;
  /// Pages whose addresses the jump caches may hold.
  AddressFilter<4096, page_shift> jump_pages[regime_count];
  static constexpr unsigned fetch_entries = 256;
  FetchEntry fetch[regime_count][fetch_entries];
  std::uint64_t fetch_global[regime_count][fetch_entries / 64] = {};  ///< a bit for each: on a global page

  TlbTable& tlb(Regime r) const { return layout->tlb[static_cast<unsigned>(r)]; }
  JumpCache& jumps(Regime r) const { return layout->jumps[static_cast<unsigned>(r)]; }
  ExecTable& exec(Regime r) const { return layout->exec[static_cast<unsigned>(r)]; }

  void fill(Regime regime, std::uint64_t page, HostPtr host, PageKind kind);
  /// `global`: the code lies on global pages.
  void fill_jump(Regime regime, std::uint64_t address, const void* code, bool global);
  /// Code of the page with this expectation may be fetched at `page`.
  void fill_exec(Regime regime, std::uint64_t page, std::uint32_t expectation, bool global);
  void fill_fetch(Regime regime, std::uint64_t page, std::uint64_t code_page, PageKind kind);
  /// Whether the fetch cache knows this page as a global one.
  bool fetched_global(Regime regime, std::uint64_t page) const;
  void flush_tlb(Scope scope);
  void flush_jumps(Regime regime);
  void flush_exec(Regime regime);
  /// Translations, jump caches, fetch cache.
  void flush(Scope scope);
  /// Gives the memory of all that back to the host: not to be used before the next flush(Scope::All).
  void release();
  /// INVLPG: drops what concerns the page of `address`.
  void invalidate_page(std::uint64_t address);
  /// Takes write permission from every slot that leads to this host page.
  void drop_writes_to(HostPtr host_page);

 private:
  void drop_slot(Regime regime, unsigned slot);
  void note_large(std::uint64_t page, bool global) { (global ? large_global : large_local).add(page); }
};

/// The contexts of one vCPU and the block that all of them share.
class ContextSet {
 public:
  static constexpr unsigned count = 12;

  ContextSet() = default;
  ~ContextSet();
  ContextSet(const ContextSet&) = delete;
  ContextSet& operator=(const ContextSet&) = delete;

  Result<void> create();

  VcpuBlock& block() const { return contexts_[0].layout->block; }
  std::uint8_t* bounce_area() const { return contexts_[0].layout->front + bounce_offset; }
  Context& current() const { return *current_; }
  /// The context tagged `tag`, else the least recently used one, flushed and tagged; translations of global pages stay
  /// where the bits of `same_rules` (what decides permissions) are the same. Becomes current; the caller loads gs with
  /// it.
  Context& select(std::uint64_t tag, std::uint64_t same_rules);
  /// Gives the memory of all contexts back; only the current one, empty, keeps its tag.
  void release();
  /// TLB flushes of all contexts since the start.
  std::uint64_t flushes() const {
    std::uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++) sum += contexts_[i].flushes;
    return sum;
  }
  /// Calls f for every context that holds something.
  template <typename F>
  void for_each(F f) {
    for (unsigned i = 0; i < count; i++)
      if (contexts_[i].tag != ~std::uint64_t{0}) f(contexts_[i]);
  }

 private:
  Fd memfd_;
  Context* contexts_ = nullptr;  // an anonymous mapping of `count` of them
  Context* current_ = nullptr;
  std::uint64_t use_counter_ = 0;
};

}  // namespace veneer::cpu::bt
