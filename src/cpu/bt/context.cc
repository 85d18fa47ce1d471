// TLB contexts: filling, flushing, switching. Register-only (docs/engine.md): runs while guest vectors are live.
#include "cpu/bt/context.h"

#include <sys/mman.h>

namespace veneer::cpu::bt {
namespace {

unsigned slot_of(std::uint64_t address) { return static_cast<unsigned>(address >> page_shift) & (table_slots - 1); }

/// Zero is the tag of page 0, so slot 0 needs another for "empty"; and in the last slot a zero tag would match the
/// bytes below 2^64 when an operand's size is added (the flag-free check of emit_memory.cc).
std::uint64_t empty_tag(unsigned slot) { return slot == 0 || slot == table_slots - 1 ? invalid_tag : 0; }

unsigned region_hash(std::uint64_t address) {
  const std::uint64_t region = address >> 21;
  return static_cast<unsigned>((region ^ (region >> 10)) & 1023);
}

unsigned page_hash(std::uint64_t address) {
  const std::uint64_t page = address >> page_shift;
  return static_cast<unsigned>((page ^ (page >> 12)) & 4095);
}

void set_empty(TlbTable& table) {
  for (unsigned slot : {0u, table_slots - 1}) {
    table.read_tag[slot] = invalid_tag;
    table.write_tag[slot] = invalid_tag;
    table.addend[slot] = poison_addend;
  }
}

}  // namespace

void Context::fill(Regime regime, std::uint64_t page, HostPtr host, bool writable, bool large) {
  const unsigned slot = slot_of(page);
  TlbTable& table = tlb(regime);
  FillLog& log = tlb_log[static_cast<unsigned>(regime)];
  const std::uint64_t empty = empty_tag(slot);
  if (table.read_tag[slot] == empty) log.add(slot);
  table.read_tag[slot] = -page;
  table.write_tag[slot] = writable ? -page : empty;
  table.addend[slot] = reinterpret_cast<std::uint64_t>(host) - page;
  if (large) note_large(page);
}

void Context::note_large(std::uint64_t page) {
  const unsigned h = region_hash(page);
  large_regions[h / 64] |= std::uint64_t{1} << (h % 64);
}

void Context::fill_jump(Regime regime, std::uint64_t address, const void* code) {
  const unsigned slot = jump_slot(address);
  JumpEntry& entry = jumps(regime).entry[slot];
  FillLog& log = jump_log[static_cast<unsigned>(regime)];
  if (entry.code == 0) log.add(slot);
  entry.negated_address = -address;
  entry.code = reinterpret_cast<std::uint64_t>(code);
  const unsigned h = page_hash(address);
  jump_pages[h / 64] |= std::uint64_t{1} << (h % 64);
}

void Context::fill_exec(Regime regime, std::uint64_t page, std::uint32_t expectation) {
  const unsigned slot = slot_of(page);
  std::uint64_t& entry = exec(regime).entry[slot];
  if (entry == 0) exec_log[static_cast<unsigned>(regime)].add(slot);
  entry = expectation - page;
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
  log.count = 0;
  log.overflow = false;
}

void Context::flush_tlb() {
  flushes++;
  for (unsigned r = 0; r < regime_count; r++) {
    flush_exec(static_cast<Regime>(r));
    FillLog& log = tlb_log[r];
    TlbTable& table = layout->tlb[r];
    if (log.overflow) {
      ::madvise(&table, sizeof table, MADV_DONTNEED);
    } else {
      for (unsigned i = 0; i < log.count; i++) drop_slot(static_cast<Regime>(r), log.slot[i]);
    }
    set_empty(table);
    log.count = 0;
    log.overflow = false;
    for (auto& entry : fetch[r]) entry.page = ~std::uint64_t{0};
  }
  for (auto& word : large_regions) word = 0;
}

void Context::flush_jumps(Regime regime) {
  FillLog& log = jump_log[static_cast<unsigned>(regime)];
  JumpCache& cache = jumps(regime);
  if (log.overflow) {
    ::madvise(&cache, sizeof cache, MADV_DONTNEED);
  } else {
    for (unsigned i = 0; i < log.count; i++) cache.entry[log.slot[i]] = JumpEntry{0, 0};
  }
  cache.entry[jump_slot(0)] = JumpEntry{1, 0};  // all zeros would match address 0; address -1 belongs elsewhere
  log.count = 0;
  log.overflow = false;
}

void Context::flush() {
  flush_tlb();
  for (unsigned r = 0; r < regime_count; r++) flush_jumps(static_cast<Regime>(r));
  for (auto& word : jump_pages) word = 0;
}

void Context::invalidate_page(std::uint64_t address) {
  const std::uint64_t page = address & ~page_offset_mask;
  const unsigned h = region_hash(page);
  const bool sweep = (large_regions[h / 64] >> (h % 64)) & 1;
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
    for (auto& entry : fetch[r])
      if (sweep ? (entry.page ^ page) < 2 * MiB : entry.page == page) entry.page = ~std::uint64_t{0};
  }
  // Jump caches hold code of this page and of instructions that straddle into it.
  auto held = [&](std::uint64_t p) { return (jump_pages[page_hash(p) / 64] >> (page_hash(p) % 64)) & 1; };
  if (sweep || held(page) || held(page - page_size)) {
    for (unsigned r = 0; r < regime_count; r++) flush_jumps(static_cast<Regime>(r));
    for (auto& word : jump_pages) word = 0;
  }
}

void Context::drop_writes_to(HostPtr host_page) {
  const auto host = reinterpret_cast<std::uint64_t>(host_page);
  for (unsigned r = 0; r < regime_count; r++) {
    TlbTable& table = layout->tlb[r];
    const FillLog& log = tlb_log[r];
    auto drop = [&](unsigned slot) {
      const std::uint64_t empty = empty_tag(slot);
      if (table.write_tag[slot] != empty && table.addend[slot] - table.write_tag[slot] == host)
        table.write_tag[slot] = empty;
    };
    if (log.overflow)
      for (unsigned slot = 0; slot < table_slots; slot++) drop(slot);
    else
      for (unsigned i = 0; i < log.count; i++) drop(log.slot[i]);
  }
}

Context& ContextSet::select(std::uint64_t tag) {
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
  if (oldest->tag != ~std::uint64_t{0}) oldest->flush();
  oldest->tag = tag;
  oldest->last_use = ++use_counter_;
  current_ = oldest;
  return *oldest;
}

}  // namespace veneer::cpu::bt
