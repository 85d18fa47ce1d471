// TLB contexts: filling, flushing, switching. Register-only (docs/engine.md): runs while guest vectors are live.
#include "cpu/bt/context.h"

#include <sys/mman.h>

namespace veneer::cpu::bt {
namespace {

unsigned slot_of(std::uint64_t address) { return static_cast<unsigned>(address >> page_shift) & (table_slots - 1); }

/// Zero is the tag of page 0, so slot 0 needs another for "empty"; and in the last slot a zero tag would match the
/// bytes below 2^64 when an operand's size is added (the flag-free check of emit_memory.cc).
std::uint64_t empty_tag(unsigned slot) { return slot == 0 || slot == table_slots - 1 ? invalid_tag : 0; }

void set_empty(TlbTable& table) {
  for (unsigned slot : {0u, table_slots - 1}) {
    table.read_tag[slot] = invalid_tag;
    table.write_tag[slot] = invalid_tag;
    table.addend[slot] = poison_addend;
  }
}

}  // namespace

void Context::fill(Regime regime, std::uint64_t page, HostPtr host, PageKind kind) {
  const unsigned slot = slot_of(page);
  TlbTable& table = tlb(regime);
  const std::uint64_t empty = empty_tag(slot);
  tlb_fills[static_cast<unsigned>(regime)].add(slot, table.read_tag[slot] == empty, kind.global);
  table.read_tag[slot] = -page;
  table.write_tag[slot] = kind.writable ? -page : empty;
  table.addend[slot] = reinterpret_cast<std::uint64_t>(host) - page;
  if (kind.writable) (kind.global ? writes_global : writes_local).add(reinterpret_cast<std::uint64_t>(host));
  if (kind.large) note_large(page, kind.global);
}

void Context::fill_jump(Regime regime, std::uint64_t address, const void* code, bool global) {
  const auto r = static_cast<unsigned>(regime);
  const unsigned slot = jump_slot(address);
  JumpEntry& entry = jumps(regime).entry[slot];
  if (entry.code == 0) jump_log[r].add(slot);
  entry.negated_address = -address;
  entry.code = reinterpret_cast<std::uint64_t>(code);
  jump_pages[r].add(address);
  local_jumps[r] |= !global;
}

void Context::fill_exec(Regime regime, std::uint64_t page, std::uint32_t expectation, bool global) {
  const auto r = static_cast<unsigned>(regime);
  const unsigned slot = slot_of(page);
  std::uint64_t& entry = exec(regime).entry[slot];
  if (entry == 0) exec_log[r].add(slot);
  entry = expectation - page;
  local_exec[r] |= !global;
}

void Context::fill_fetch(Regime regime, std::uint64_t page, std::uint64_t code_page, PageKind kind) {
  const auto r = static_cast<unsigned>(regime);
  const unsigned i = (page >> page_shift) % fetch_entries;
  fetch[r][i] = {page, code_page};
  const std::uint64_t bit = std::uint64_t{1} << (i % 64);
  std::uint64_t& word = fetch_global[r][i / 64];
  word = kind.global ? word | bit : word & ~bit;
  if (kind.large) note_large(page, kind.global);
}

bool Context::fetched_global(Regime regime, std::uint64_t page) const {
  const auto r = static_cast<unsigned>(regime);
  const unsigned i = (page >> page_shift) % fetch_entries;
  return fetch[r][i].page == page && ((fetch_global[r][i / 64] >> (i % 64)) & 1);
}

void Context::drop_slot(Regime regime, unsigned slot) {
  TlbTable& table = tlb(regime);
  const std::uint64_t empty = empty_tag(slot);
  table.read_tag[slot] = empty;
  table.write_tag[slot] = empty;
  table.addend[slot] = poison_addend;
}

void Context::flush_exec(Regime regime) {
  FillLog& log = exec_log[static_cast<unsigned>(regime)];
  ExecTable& table = exec(regime);
  if (log.overflow) {
    ::madvise(&table, sizeof table, MADV_DONTNEED);
  } else {
    for (unsigned i = 0; i < log.count; i++) table.entry[log.slot[i]] = 0;
  }
  log.clear();
  local_exec[static_cast<unsigned>(regime)] = false;
}

void Context::flush_tlb(Scope scope) {
  flushes++;
  for (unsigned r = 0; r < regime_count; r++) {
    const auto regime = static_cast<Regime>(r);
    if (scope == Scope::All || local_exec[r]) flush_exec(regime);
    Fills& fills = tlb_fills[r];
    TlbTable& table = layout->tlb[r];
    // With a log that is no longer complete, what is global cannot be told from what is not.
    const bool keep = scope == Scope::ButGlobal && !fills.local.overflow;
    if (keep) {
      for (unsigned i = 0; i < fills.local.count; i++)
        if (const unsigned slot = fills.local.slot[i]; !fills.holds_global(slot)) drop_slot(regime, slot);
    } else {
      if (fills.overflow())
        ::madvise(&table, sizeof table, MADV_DONTNEED);
      else
        fills.any_slot([&](unsigned slot) { return drop_slot(regime, slot), false; });
      set_empty(table);
    }
    fills.local.clear();
    if (!keep) fills.global.clear();
    for (unsigned i = 0; i < fetch_entries; i++)
      if (scope == Scope::All || !((fetch_global[r][i / 64] >> (i % 64)) & 1)) fetch[r][i].page = ~std::uint64_t{0};
  }
  large_local.clear();
  writes_local.clear();
  if (scope == Scope::All) {
    large_global.clear();
    writes_global.clear();
  }
}

void Context::flush_jumps(Regime regime) {
  const auto r = static_cast<unsigned>(regime);
  FillLog& log = jump_log[r];
  JumpCache& cache = jumps(regime);
  if (log.overflow) {
    ::madvise(&cache, sizeof cache, MADV_DONTNEED);
  } else {
    for (unsigned i = 0; i < log.count; i++) cache.entry[log.slot[i]] = JumpEntry{0, 0};
  }
  cache.entry[jump_slot(0)] = JumpEntry{1, 0};  // all zeros would match address 0; address -1 belongs elsewhere
  log.clear();
  jump_pages[r].clear();
  local_jumps[r] = false;
}

void Context::flush(Scope scope) {
  flush_tlb(scope);
  for (unsigned r = 0; r < regime_count; r++)
    if (scope == Scope::All || local_jumps[r]) flush_jumps(static_cast<Regime>(r));
  released = false;
}

void Context::invalidate_page(std::uint64_t address) {
  const std::uint64_t page = address & ~page_offset_mask;
  const bool sweep = large_local.may_hold(page) || large_global.may_hold(page);
  for (unsigned r = 0; r < regime_count; r++) {
    const auto regime = static_cast<Regime>(r);
    const TlbTable& table = layout->tlb[r];
    if (sweep) {
      const std::uint64_t base = page & ~(2 * MiB - 1);
      for (std::uint64_t offset = 0; offset < 2 * MiB; offset += page_size)
        if (const unsigned slot = slot_of(base + offset); table.read_tag[slot] == -(base + offset))
          drop_slot(regime, slot);
    } else if (const unsigned slot = slot_of(page); table.read_tag[slot] == -page) {
      drop_slot(regime, slot);
    }
    ExecTable& code = exec(regime);
    if (sweep)
      for (unsigned i = 0; i < 2 * MiB / page_size; i++) code.entry[slot_of(page & ~(2 * MiB - 1)) + i] = 0;
    else
      code.entry[slot_of(page)] = 0;  // whoever is there; entries are cheap to get back
    if (sweep) {
      for (auto& entry : fetch[r])
        if ((entry.page ^ page) < 2 * MiB) entry.page = ~std::uint64_t{0};
    } else if (FetchEntry& entry = fetch[r][(page >> page_shift) % fetch_entries]; entry.page == page) {
      entry.page = ~std::uint64_t{0};
    }
  }
  // Jump caches hold code of these pages and of instructions that straddle into the first of them.
  const std::uint64_t first = (sweep ? page & ~(2 * MiB - 1) : page) - page_size;
  const std::uint64_t bytes = (sweep ? 2 * MiB : page_size) + page_size;
  for (unsigned r = 0; r < regime_count; r++) {
    bool held = false;
    for (std::uint64_t offset = 0; offset < bytes; offset += page_size) held |= jump_pages[r].may_hold(first + offset);
    if (held) flush_jumps(static_cast<Regime>(r));
  }
}

void Context::drop_writes_to(HostPtr host_page) {
  const auto host = reinterpret_cast<std::uint64_t>(host_page);
  if (!writes_local.may_hold(host) && !writes_global.may_hold(host)) return;
  for (unsigned r = 0; r < regime_count; r++) {
    TlbTable& table = layout->tlb[r];
    tlb_fills[r].any_slot([&](unsigned slot) {
      const std::uint64_t empty = empty_tag(slot);
      if (table.write_tag[slot] != empty && table.addend[slot] - table.write_tag[slot] == host)
        table.write_tag[slot] = empty;
      return false;
    });
  }
}

Context& ContextSet::select(std::uint64_t tag, std::uint64_t same_rules) {
  Context* oldest = nullptr;
  for (unsigned i = 0; i < count; i++) {
    Context& context = contexts_[i];
    if (context.tag == tag) {
      context.last_use = ++use_counter_;
      current_ = &context;
      return context;
    }
    if (!oldest || context.last_use < oldest->last_use) oldest = &context;
  }
  if (oldest->released)
    oldest->flush(Scope::All);
  else if (oldest->tag != ~std::uint64_t{0})
    oldest->flush(((oldest->tag ^ tag) & same_rules) == 0 ? Scope::ButGlobal : Scope::All);
  oldest->tag = tag;
  oldest->last_use = ++use_counter_;
  current_ = oldest;
  return *oldest;
}

}  // namespace veneer::cpu::bt
