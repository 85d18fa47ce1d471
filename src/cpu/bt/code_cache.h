// The code cache: executable memory (W^X by double mapping), the blocks in it, and which guest bytes they came from.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "base/result.h"
#include "cpu/bt/block.h"
#include "cpu/bt/code_lock.h"
#include "machine/guest_memory.h"

#ifdef VENEER_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace veneer::cpu::bt {

/// Blocks of one guest page and the bytes of it that they cover.
struct CodePage {
  struct Node {
    Block* block;
    Node* next;
  };
  Node* blocks = nullptr;
  std::uint32_t expectation = 0;   ///< what stands for this page in a context's ExecTable
  std::uint64_t covered[64] = {};  ///< a bit per byte

  bool covers(std::uint64_t offset, std::uint64_t size) const;
  void cover(std::uint64_t offset, std::uint64_t size);
};

/// What MemorySlot::code_pages says of a page.
enum class PageWatch : std::uint8_t {
  Open,     ///< no translations: vCPUs may have write tags for it
  Closing,  ///< no new write tags; the old ones are being taken away
  Closed,   ///< no write tags anywhere: its bytes may be translated
};

/// Shared by the vCPUs of a machine. All but find(), find_by_code(), may_write() and the counters is called with lock()
/// held; flush_all() with all vCPUs stopped besides (docs/smp.md).
class CodeCache {
 public:
  CodeCache() = default;
  ~CodeCache();
  CodeCache(const CodeCache&) = delete;
  CodeCache& operator=(const CodeCache&) = delete;

  /// Reserves `bytes` of code space for the slots of `memory` (which all exist by now). `anonymous` does it without a
  /// memfd: perf takes code for generated, and looks into its map for names, only where no file is mapped.
  Result<void> create(machine::GuestMemory& memory, std::uint64_t bytes, bool anonymous);

  CodeLock& lock() { return lock_; }

  /// Without the lock too: what it finds may be dead by the time it is used, and leads back to the look-up then.
  Block* find(CodePageId page, unsigned offset, Mode mode) const;
  /// The same for places where mostly there is nothing: the page knows that without a look into the large table.
  Block* find_covered(CodePageId page, unsigned offset, Mode mode) const;

  /// Writable windows at the allocation points: hot code and slow paths have a region each, so that the code that
  /// runs is dense in the instruction cache.
  std::uint8_t* hot_begin() const { return write_base_ + part_->hot + part_->hot_used; }
  std::uint8_t* hot_end() const { return write_base_ + part_->hot + hot_part_bytes_; }
  std::uint8_t* cold_begin() const { return write_base_ + part_->cold + part_->cold_used; }
  std::uint8_t* cold_end() const { return write_base_ + part_->cold + cold_part_bytes_; }
  std::uint8_t* to_write(const std::uint8_t* executable) const { return write_base_ + (executable - exec_base_); }
  const std::uint8_t* to_exec(const std::uint8_t* writable) const { return exec_base_ + (writable - write_base_); }
  bool contains(const void* executable) const {
    return static_cast<std::uint64_t>(static_cast<const std::uint8_t*>(executable) - exec_base_) < capacity_;
  }
  /// True when less than the largest block's worth of room is left: make_room() before translating.
  bool nearly_full() const;

  /// Zeroed memory that lives as long as the blocks made next to it (side tables, callout records, links).
  void* arena(std::size_t bytes);
  template <typename T>
  T* arena_array(std::size_t n) {
    return static_cast<T*>(arena(n * sizeof(T)));
  }

  /// How emitted code names something in the arena, and back.
  std::uint32_t arena_name(const void* p) const {
    return static_cast<std::uint32_t>((static_cast<const std::uint8_t*>(p) - arena_base_) / 8);
  }
  void* arena_at(std::uint32_t name) const { return arena_base_ + std::uint64_t{name} * 8; }

  /// Takes over a finished block whose code was written at hot_begin() and cold_begin().
  void commit(Block* block);
  /// This thread comes from translated code, which led it to records of blocks that others have committed. The thread
  /// sanitizer does not see jumps between blocks and the stores that patch them, and has to be told.
  void code_has_run() {
#ifdef VENEER_TSAN
    __tsan_acquire(this);
#endif
  }
  /// The executable address with this low half, or null.
  const std::uint8_t* executable_at(std::uint32_t low_half) const {
    const std::uint32_t offset = low_half - static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(exec_base_));
    return offset < capacity_ ? exec_base_ + offset : nullptr;
  }
  /// Calls f for every block that was made from bytes of this page and is alive.
  template <typename F>
  void for_each_block(CodePageId page, F f) const {
    if (const CodePage* at = page_slot(page))
      for (const CodePage::Node* n = at->blocks; n; n = n->next) f(*n->block);
  }
  /// Finds the block that holds this executable address.
  const Block* find_by_code(const void* pc) const;
  /// What links into this page expect in the ExecTable: odd, below 2^28, and no other page's. The page was marked.
  std::uint32_t expectation(CodePageId page) const { return page_slot(page)->expectation; }
  /// The displacement of a far link's comparison that no ExecTable entry satisfies.
  static constexpr std::int32_t never_expected(std::int32_t target) {
    return -static_cast<std::int32_t>((static_cast<std::uint64_t>(target) & page_offset_mask) + 2);
  }
  /// The link whose name stands at this executable address (Translator::ask_for_link).
  LinkSite* link_asked_for(const void* name_at) const {
    std::uint32_t name;
    __builtin_memcpy(&name, name_at, sizeof name);
    return static_cast<LinkSite*>(arena_at(name));
  }
  /// Points a patchable jump at `to`. With `others` running, a far link stays with the page it was first made for.
  void link(LinkSite& site, Block* to, bool others);

  /// A vCPU asks, without the lock, before it makes a write tag for this page: false when it must not. What it was
  /// told once it keeps at the latest until its next safe point.
  bool may_write(CodePageId page, unsigned vcpu);
  /// Begins to watch a page: from now on nobody is told may_write(). Returns which vCPUs may have write tags for it, as
  /// a mask; when these are gone call page_closed().
  std::uint64_t close_page(CodePageId page);
  void page_closed(CodePageId page);
  /// Its bytes may be translated.
  bool is_closed(CodePageId page) const;
  /// Kills the blocks that came from these bytes. True when there were any.
  bool invalidate(CodePageId page, std::uint64_t offset, std::uint64_t size);
  /// Forgets the oldest blocks, and their memory is used again; all of them when tables of pages are full. No vCPU is
  /// in translated code or keeps a Block or a LinkSite, and all empty their jump caches and return stacks.
  void make_room();

  /// Forgets all blocks, and the memory of the cache and its tables goes back to the host. As make_room().
  void give_back();

  struct Counters {
    std::uint64_t blocks = 0, instructions = 0, invalidated = 0, flushes = 0, links = 0, evicted = 0;
    std::uint64_t guest_bytes = 0, hot_bytes = 0, cold_bytes = 0;  ///< of all blocks ever translated
  };
  const Counters& counters() const { return counters_; }
  std::uint64_t used_bytes() const;
  std::uint64_t capacity_bytes() const { return capacity_; }
  std::uint64_t arena_used_bytes() const;
  std::uint64_t arena_capacity_bytes() const { return arena_capacity_; }

 private:
  /// The cache is a ring of parts: when the one in use is full, the oldest is emptied and used next. So what was
  /// translated lately stays, and no single pause is long.
  struct Part {
    std::uint64_t hot = 0, cold = 0, arena = 0;  ///< where its regions begin
    std::uint64_t hot_used = 0, cold_used = 0, arena_used = 0;
    Block** ordered = nullptr;  ///< by code address
    std::uint64_t count = 0;
  };
  static constexpr unsigned max_parts = 8;

  Result<void> map_file();
  Result<void> map_anonymous();
  CodePage*& page_slot(CodePageId page) const;
  void kill(Block* block);
  void unlink(LinkSite& site);
  void patch(const LinkSite& site, std::uint32_t offset, std::int32_t value);
  static void forget_incoming(LinkSite& site);
  std::atomic<std::uint8_t>& code_flag(CodePageId page) const;
  std::atomic<std::uint8_t>& writers(CodePageId page) const;
  void make_dead_end();
  void divide();
  bool pages_full() const;
  void evict(Part& part);
  void drop_dead_blocks(CodePageId id, CodePage& page);
  void open_if_empty(CodePageId id, const CodePage& page);
  void flush_all();

  static constexpr unsigned bucket_count = 1u << 18;
  static constexpr unsigned max_slots = 32;

  CodeLock lock_;
  machine::GuestMemory* memory_ = nullptr;
  Fd memfd_;
  std::uint8_t* write_base_ = nullptr;
  std::uint8_t* exec_base_ = nullptr;
  std::uint64_t capacity_ = 0, hot_capacity_ = 0;
  std::uint8_t* arena_base_ = nullptr;
  std::uint64_t arena_capacity_ = 0;
  Part parts_[max_parts];
  Part* part_ = parts_;  ///< where blocks are made now
  unsigned part_count_ = 1;
  std::uint64_t hot_part_bytes_ = 0, cold_part_bytes_ = 0, arena_part_bytes_ = 0;
  Block** buckets_ = nullptr;
  Block** ordered_ = nullptr;       ///< the parts' lists of blocks
  std::uint64_t ordered_part_ = 0;  ///< room in each
  CodePage* page_records_ = nullptr;
  std::uint64_t page_record_count_ = 0, page_record_capacity_ = 0;
  CodePage** pages_[max_slots] = {};
  std::uint64_t page_counts_[max_slots] = {};
  std::uint32_t expectations_ = 0;  ///< given out since the last flush
  /// A byte per page: bit n is set when vCPU n, n + 8, ... may have a write tag for it.
  std::atomic<std::uint8_t>* writers_[max_slots] = {};
  Counters counters_;
};

}  // namespace veneer::cpu::bt
