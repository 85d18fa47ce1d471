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
};

/// A small cache for instruction fetch: guest page to (slot, page) for the look-up of translations.
struct FetchEntry {
  std::uint64_t page = ~std::uint64_t{0};  ///< guest-virtual page address, or all ones
  std::uint64_t code_page = 0;             ///< CodePageId of it
};

class Context {
 public:
  ContextLayout* layout = nullptr;
  std::uint64_t tag = ~std::uint64_t{0};  ///< what this context holds: CR3 and paging mode (ContextSet::select)
  std::uint64_t last_use = 0;
  std::uint64_t flushes = 0;                   ///< of the TLB, since the start
  std::uint32_t jump_mode[regime_count] = {};  ///< the block mode that each jump cache was filled under
  FillLog tlb_log[regime_count];
  FillLog jump_log[regime_count];
  FillLog exec_log[regime_count];
  /// Bit h(2 MiB region) set: a fragment of a large page was filled there, so INVLPG must sweep the region.
  std::uint64_t large_regions[16] = {};
  /// Bit h(page) set: the jump caches may hold addresses of that page.
  std::uint64_t jump_pages[64] = {};
  static constexpr unsigned fetch_entries = 256;
  FetchEntry fetch[regime_count][fetch_entries];

  TlbTable& tlb(Regime r) const { return layout->tlb[static_cast<unsigned>(r)]; }
  JumpCache& jumps(Regime r) const { return layout->jumps[static_cast<unsigned>(r)]; }
  ExecTable& exec(Regime r) const { return layout->exec[static_cast<unsigned>(r)]; }

  void fill(Regime regime, std::uint64_t page, HostPtr host, bool writable, bool large);
  void fill_jump(Regime regime, std::uint64_t address, const void* code);
  /// Code of the page with this expectation may be fetched at `page`.
  void fill_exec(Regime regime, std::uint64_t page, std::uint32_t expectation);
  /// A fragment of a large page is in use in this 2 MiB region.
  void note_large(std::uint64_t page);
  void flush_tlb();
  void flush_jumps(Regime regime);
  void flush_exec(Regime regime);
  /// Everything: translations, jump caches, fetch cache.
  void flush();
  /// INVLPG: drops what concerns the page of `address`.
  void invalidate_page(std::uint64_t address);
  /// Takes write permission from every slot that leads to this host page.
  void drop_writes_to(HostPtr host_page);

 private:
  void drop_slot(Regime regime, unsigned slot);
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
  /// The context tagged `tag`, else the least recently used one, flushed and tagged. Becomes current; the caller
  /// loads gs with it.
  Context& select(std::uint64_t tag);
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
