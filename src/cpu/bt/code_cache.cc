// The code cache. Register-only, except create(): look-ups and invalidations run while guest vectors are live.
#include "cpu/bt/code_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "base/assert.h"
#include "base/bits.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t block_room = 96 * KiB;   // no block's code is longer
constexpr std::uint64_t arena_room = 128 * KiB;  // a block's tables, and a CodePage or two for each vCPU
// Two pages in one ExecTable slot are 2^28 bytes apart or more. Expectations differ by less than that, so the sums that
// a far link compares are equal only for the page it was made for (docs/engine.md, "Links across pages").
constexpr std::uint32_t max_expectations = 1u << 27;

unsigned bucket_of(CodePageId page, unsigned offset, Mode mode) {
  std::uint64_t h = (page << 12 | offset) * 0x9e3779b97f4a7c15u;
  h ^= mode.bits * 0x85ebca6bu;
  return static_cast<unsigned>((h >> 40) & 0x3ffff);
}

void* reserve(std::uint64_t bytes) {
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

/// The bits of coverage word `word` that stand for bytes [offset, end).
std::uint64_t byte_range(std::uint64_t word, std::uint64_t offset, std::uint64_t end) {
  const std::uint64_t first = word * 64;
  const std::uint64_t from = offset > first ? offset - first : 0;
  const std::uint64_t to = end - first < 64 ? end - first : 64;
  return (to == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << to) - 1) & (~std::uint64_t{0} << from);
}

/// The start of the hot region: where entries of dead blocks lead.
constexpr std::uint64_t dead_end_bytes = 64;
constexpr std::uint64_t least_part_bytes = MiB;

}  // namespace

bool CodePage::covers(std::uint64_t offset, std::uint64_t size) const {
  const std::uint64_t end = std::min(offset + size, page_size);
  for (std::uint64_t word = offset / 64; word * 64 < end; word++)
    if (covered[word] & byte_range(word, offset, end)) return true;
  return false;
}

void CodePage::cover(std::uint64_t offset, std::uint64_t size) {
  const std::uint64_t end = std::min(offset + size, page_size);
  for (std::uint64_t word = offset / 64; word * 64 < end; word++) covered[word] |= byte_range(word, offset, end);
}

Result<void> CodeCache::map_file() {
  memfd_ = Fd(::memfd_create("veneer-code", MFD_CLOEXEC));
  if (!memfd_.valid() || ::ftruncate(memfd_.get(), static_cast<off_t>(capacity_)) != 0)
    return Error::from_errno("making the code cache (memfd)", errno);
  void* w = ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memfd_.get(), 0);
  if (w == MAP_FAILED) return Error::from_errno("mapping the code cache for writing", errno);
  write_base_ = static_cast<std::uint8_t*>(w);
  void* x = ::mmap(nullptr, capacity_, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, memfd_.get(), 0);
  if (x == MAP_FAILED)
    return Error::from_errno(
        "mapping the code cache for execution (a security policy may forbid executable shared memory)", errno);
  exec_base_ = static_cast<std::uint8_t*>(x);
  return {};
}

Result<void> CodeCache::map_anonymous() {
  void* w = ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (w == MAP_FAILED) return Error::from_errno("mapping the code cache for writing", errno);
  write_base_ = static_cast<std::uint8_t*>(w);
  // An old size of 0 makes a second mapping of the same shared pages (mremap(2)).
  void* x = ::mremap(w, 0, capacity_, MREMAP_MAYMOVE);
  if (x == MAP_FAILED || ::mprotect(x, capacity_, PROT_READ | PROT_EXEC) != 0)
    return Error::from_errno("mapping the code cache for execution", errno);
  exec_base_ = static_cast<std::uint8_t*>(x);
  return {};
}

Result<void> CodeCache::create(machine::GuestMemory& memory, std::uint64_t bytes, bool anonymous) {
  memory_ = &memory;
  capacity_ = align_up(bytes, page_size);
  hot_capacity_ = align_up(capacity_ / 100 * 59, page_size);
  if (anonymous)
    TRY_VOID(map_anonymous());
  else
    TRY_VOID(map_file());
  arena_capacity_ = align_up(capacity_ / 4 * 3, page_size);  // tables fill up as fast as code
  page_record_capacity_ = std::max<std::uint64_t>(1024, capacity_ / 20 / sizeof(CodePage));
  page_records_ = static_cast<CodePage*>(reserve(page_record_capacity_ * sizeof(CodePage)));
  ordered_part_ = capacity_ / 64 / max_parts;
  arena_base_ = static_cast<std::uint8_t*>(reserve(arena_capacity_));
  buckets_ = static_cast<Block**>(reserve(bucket_count * sizeof(Block*)));
  ordered_ = static_cast<Block**>(reserve(max_parts * ordered_part_ * sizeof(Block*)));
  if (!arena_base_ || !buckets_ || !ordered_ || !page_records_)
    return Error::from_errno("reserving the block tables", errno);
  make_dead_end();
  divide();
  VENEER_ASSERT(memory.slots().size() <= max_slots);
  for (const auto& slot : memory.slots()) {
    page_counts_[slot->index] = slot->size_bytes / page_size;
    pages_[slot->index] = static_cast<CodePage**>(reserve(page_counts_[slot->index] * sizeof(CodePage*)));
    writers_[slot->index] = static_cast<std::atomic<std::uint8_t>*>(reserve(page_counts_[slot->index]));
    if (!pages_[slot->index] || !writers_[slot->index])
      return Error::from_errno("reserving the code page table", errno);
  }
  return {};
}

CodeCache::~CodeCache() {
  if (write_base_) ::munmap(write_base_, capacity_);
  if (exec_base_) ::munmap(exec_base_, capacity_);
  if (arena_base_) ::munmap(arena_base_, arena_capacity_);
  if (buckets_) ::munmap(buckets_, bucket_count * sizeof(Block*));
  if (ordered_) ::munmap(ordered_, max_parts * ordered_part_ * sizeof(Block*));
  if (page_records_) ::munmap(page_records_, page_record_capacity_ * sizeof(CodePage));
  for (unsigned i = 0; i < max_slots; i++)
    if (pages_[i]) ::munmap(pages_[i], page_counts_[i] * sizeof(CodePage*));
  for (unsigned i = 0; i < max_slots; i++)
    if (writers_[i]) ::munmap(writers_[i], page_counts_[i]);
}

/// jmp gs:[stub_lookup]: T0 holds the guest RIP at an indirect entry.
void CodeCache::make_dead_end() {
  const std::int32_t disp = VENEER_BLOCK_OFFSET(stub_lookup);
  std::uint8_t* code = write_base_;
  code[0] = 0x65, code[1] = 0xff, code[2] = 0x24, code[3] = 0x25;
  __builtin_memcpy(code + 4, &disp, 4);
}

void CodeCache::divide() {
  part_count_ = static_cast<unsigned>(std::clamp<std::uint64_t>(capacity_ / least_part_bytes, 1, max_parts));
  auto share = [&](std::uint64_t bytes) { return bytes / part_count_ & ~std::uint64_t{63}; };
  hot_part_bytes_ = share(hot_capacity_ - dead_end_bytes);
  cold_part_bytes_ = share(capacity_ - hot_capacity_);
  arena_part_bytes_ = share(arena_capacity_);
  for (unsigned i = 0; i < part_count_; i++) {
    parts_[i] = Part{};
    parts_[i].hot = dead_end_bytes + i * hot_part_bytes_;
    parts_[i].cold = hot_capacity_ + i * cold_part_bytes_;
    parts_[i].arena = i * arena_part_bytes_;
    parts_[i].ordered = ordered_ + i * ordered_part_;
  }
  part_ = parts_;
}

CodePage*& CodeCache::page_slot(CodePageId page) const {
  return pages_[page >> 40][page & ((std::uint64_t{1} << 40) - 1)];
}

std::atomic<std::uint8_t>& CodeCache::code_flag(CodePageId page) const {
  return memory_->slots()[page >> 40]->code_pages[page & ((std::uint64_t{1} << 40) - 1)];
}

std::atomic<std::uint8_t>& CodeCache::writers(CodePageId page) const {
  return writers_[page >> 40][page & ((std::uint64_t{1} << 40) - 1)];
}

Block* CodeCache::find(CodePageId page, unsigned offset, Mode mode) const {
  // Chains change under us: a block is whole before it is in one, and what was taken out still leads on.
  for (Block* b = __atomic_load_n(&buckets_[bucket_of(page, offset, mode)], __ATOMIC_ACQUIRE); b;
       b = __atomic_load_n(&b->next_in_bucket, __ATOMIC_ACQUIRE))
    if (b->page == page && b->offset == offset && b->mode == mode) return b;
  return nullptr;
}

Block* CodeCache::find_covered(CodePageId page, unsigned offset, Mode mode) const {
  const CodePage* at = page_slot(page);
  return at && (at->covered[offset / 64] >> (offset % 64)) & 1 ? find(page, offset, mode) : nullptr;
}

bool CodeCache::nearly_full() const {
  return hot_part_bytes_ - part_->hot_used < block_room || cold_part_bytes_ - part_->cold_used < block_room ||
         arena_part_bytes_ - part_->arena_used < arena_room || part_->count + 1 >= ordered_part_ || pages_full();
}

/// A vCPU that has closed pages makes records of them before it looks whether there is room.
bool CodeCache::pages_full() const {
  constexpr std::uint64_t under_way = 128;
  return expectations_ + under_way >= max_expectations || page_record_count_ + under_way >= page_record_capacity_;
}

std::uint64_t CodeCache::used_bytes() const {
  std::uint64_t sum = 0;
  for (unsigned i = 0; i < part_count_; i++) sum += parts_[i].hot_used + parts_[i].cold_used;
  return sum;
}

std::uint64_t CodeCache::arena_used_bytes() const {
  std::uint64_t sum = page_record_count_ * sizeof(CodePage);
  for (unsigned i = 0; i < part_count_; i++) sum += parts_[i].arena_used;
  return sum;
}

void* CodeCache::arena(std::size_t bytes) {
  const std::uint64_t size = align_up(bytes, 8);
  VENEER_ASSERT(part_->arena_used + size <= arena_part_bytes_);
  std::uint8_t* p = arena_base_ + part_->arena + part_->arena_used;
  part_->arena_used += size;
  for (std::uint64_t i = 0; i < size; i += 8) {
    const std::uint64_t zero = 0;
    __builtin_memcpy(p + i, &zero, 8);
  }
  return p;
}

void CodeCache::commit(Block* block) {
  part_->hot_used += align_up(block->hot_bytes, 16);
  part_->cold_used += align_up(block->cold_bytes, 4);
  VENEER_ASSERT(part_->hot_used <= hot_part_bytes_ && part_->cold_used <= cold_part_bytes_);
  auto attach = [&](CodePageId id, std::uint64_t offset, std::uint64_t size) {
    CodePage* page = page_slot(id);
    VENEER_ASSERT(page);
    auto* node = arena_array<CodePage::Node>(1);
    node->block = block;
    node->next = page->blocks;
    page->blocks = node;
    page->cover(offset, size);
  };
  const std::uint64_t in_first =
      block->straddles ? page_size - block->offset : static_cast<std::uint64_t>(block->guest_bytes);
  attach(block->page, block->offset, in_first);
  if (block->straddles) attach(block->second_page, 0, block->guest_bytes - in_first);
#ifdef VENEER_TSAN
  __tsan_release(this);  // to code_has_run()
#endif
  // Published last: others look without the lock.
  part_->ordered[part_->count] = block;
  __atomic_store_n(&part_->count, part_->count + 1, __ATOMIC_RELEASE);
  Block*& head = buckets_[bucket_of(block->page, block->offset, block->mode)];
  block->next_in_bucket = head;
  __atomic_store_n(&head, block, __ATOMIC_RELEASE);
  counters_.blocks++;
  counters_.instructions += block->instructions;
  counters_.guest_bytes += block->guest_bytes;
  counters_.hot_bytes += block->hot_bytes;
  counters_.cold_bytes += block->cold_bytes;
}

const Block* CodeCache::find_by_code(const void* pc) const {
  const auto* address = static_cast<const std::uint8_t*>(pc);
  // Both regions of a part are filled in the order of its list.
  const bool hot = address < exec_base_ + hot_capacity_;
  const auto place = static_cast<std::uint64_t>(address - exec_base_);
  if (place < dead_end_bytes) return nullptr;
  const std::uint64_t index =
      hot ? (place - dead_end_bytes) / hot_part_bytes_ : (place - hot_capacity_) / cold_part_bytes_;
  if (index >= part_count_) return nullptr;
  const Part& part = parts_[index];
  auto start_of = [&](const Block* b) { return hot ? b->code : b->cold; };
  std::uint64_t low = 0, high = __atomic_load_n(&part.count, __ATOMIC_ACQUIRE);
  while (low < high) {
    const std::uint64_t middle = (low + high) / 2;
    if (start_of(part.ordered[middle]) <= address)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0) return nullptr;
  const Block* block = part.ordered[low - 1];
  const auto offset = static_cast<std::uint64_t>(address - start_of(block));
  return offset < (hot ? block->hot_bytes : block->cold_bytes) ? block : nullptr;
}

/// One aligned store into the code of the site's owner.
void CodeCache::patch(const LinkSite& site, std::uint32_t offset, std::int32_t value) {
  __atomic_store_n(reinterpret_cast<std::int32_t*>(to_write(site.owner->code + offset)), value, __ATOMIC_RELEASE);
}

void CodeCache::forget_incoming(LinkSite& site) {
  for (LinkSite** at = &site.linked->incoming; *at; at = &(*at)->next_incoming)
    if (*at == &site) {
      *at = site.next_incoming;
      return;
    }
}

void CodeCache::link(LinkSite& site, Block* to, bool others) {
  if (site.linked == to) return;
  if (site.far()) {
    // Somebody who has compared already may be about to jump: not to another page's block.
    if (others && site.bound && site.bound != expectation(to->page)) return;
    site.bound = expectation(to->page);
  }
  if (site.linked) unlink(site);
  const std::uint8_t* rel32 = site.owner->code + site.rel32_offset;
  const std::uint8_t* entry = site.far() ? to->code : to->code + to->direct_offset;
  patch(site, site.rel32_offset, static_cast<std::int32_t>(entry - (rel32 + 4)));
  if (site.far()) {
    patch(site, site.expectation_offset, -static_cast<std::int32_t>(expectation(to->page) + to->offset));
    site.next_incoming = to->incoming;
    to->incoming = &site;
  }
  site.linked = to;
  counters_.links++;
}

void CodeCache::unlink(LinkSite& site) {
  if (site.far()) {
    patch(site, site.expectation_offset, never_expected(site.target));
    forget_incoming(site);
  } else {
    patch(site, site.rel32_offset, site.unlinked_distance);
  }
  site.linked = nullptr;
}

bool CodeCache::may_write(CodePageId page, unsigned vcpu) {
  const auto bit = static_cast<std::uint8_t>(1u << (vcpu % 8));
  std::atomic<std::uint8_t>& mask = writers(page);
  // Say it, then look; close_page() marks the page, then looks who said it. One of the two sees the other.
  if (!(mask.load(std::memory_order_seq_cst) & bit)) mask.fetch_or(bit, std::memory_order_seq_cst);
  return code_flag(page).load(std::memory_order_seq_cst) == 0;
}

std::uint64_t CodeCache::close_page(CodePageId page) {
  std::uint8_t open = 0;
  code_flag(page).compare_exchange_strong(open, static_cast<std::uint8_t>(PageWatch::Closing),
                                          std::memory_order_seq_cst);
  return writers(page).load(std::memory_order_seq_cst) * 0x0101010101010101u;
}

void CodeCache::page_closed(CodePageId page) {
  writers(page).store(0, std::memory_order_seq_cst);
  CodePage*& slot = page_slot(page);
  if (!slot) {
    VENEER_ASSERT(page_record_count_ < page_record_capacity_);
    slot = new (&page_records_[page_record_count_++]) CodePage;
    slot->expectation = 2 * expectations_++ + 1;
  }
  code_flag(page).store(static_cast<std::uint8_t>(PageWatch::Closed), std::memory_order_seq_cst);
}

bool CodeCache::is_closed(CodePageId page) const {
  return page_slot(page) &&
         code_flag(page).load(std::memory_order_seq_cst) == static_cast<std::uint8_t>(PageWatch::Closed);
}

void CodeCache::kill(Block* block) {
  block->dead = true;
  __atomic_store_n(&counters_.invalidated, counters_.invalidated + 1, __ATOMIC_RELAXED);  // vCPUs look without the lock
  for (Block** at = &buckets_[bucket_of(block->page, block->offset, block->mode)]; *at; at = &(*at)->next_in_bucket)
    if (*at == block) {
      __atomic_store_n(at, block->next_in_bucket, __ATOMIC_RELEASE);
      break;
    }
  // Jump caches, far links and others on their way may still lead here: the first instruction, longer than that and all
  // in one aligned quadword, becomes a jump to the look-up.
  std::uint8_t* entry = to_write(block->code);
  const auto distance = static_cast<std::int32_t>(exec_base_ - (block->code + 5));
  std::uint64_t patched;
  __builtin_memcpy(&patched, entry, 8);
  auto* bytes = reinterpret_cast<std::uint8_t*>(&patched);
  bytes[0] = 0xe9;
  __builtin_memcpy(bytes + 1, &distance, 4);
  __atomic_store_n(reinterpret_cast<std::uint64_t*>(entry), patched, __ATOMIC_RELEASE);
  while (block->incoming) unlink(*block->incoming);
  // Its own links would not be found again when their targets die. Somebody may be in the block, or return to its
  // return site, which holds nothing of the guest's but the way on: that way leads to the look-up now.
  for (LinkSite* site = block->links; site; site = site->next)
    if (site->linked) unlink(*site);
  // Near links come from the same page only.
  for (CodePage::Node* n = page_slot(block->page)->blocks; n; n = n->next)
    for (LinkSite* site = n->block->links; site; site = site->next)
      if (site->linked == block && !site->far()) unlink(*site);
}

bool CodeCache::invalidate(CodePageId id, std::uint64_t offset, std::uint64_t size) {
  CodePage* page = page_slot(id);
  if (!page) return false;
  if (!page->covers(offset, size)) {
    open_if_empty(id, *page);
    return false;
  }
  auto overlaps = [&](const Block* b) {
    if (b->page == id && b->offset < offset + size && offset < std::uint64_t{b->offset} + b->guest_bytes) return true;
    if (b->straddles && b->second_page == id) {
      const std::uint64_t tail = b->guest_bytes - (page_size - b->offset);
      return offset < tail;
    }
    return false;
  };
  bool any = false;
  for (CodePage::Node* n = page->blocks; n; n = n->next)
    if (!n->block->dead && overlaps(n->block)) {
      kill(n->block);
      any = true;
    }
  drop_dead_blocks(id, *page);
  return any;
}

/// Makes the list and the coverage again from what is left alive.
void CodeCache::drop_dead_blocks(CodePageId id, CodePage& page) {
  CodePage::Node** at = &page.blocks;
  for (auto& word : page.covered) word = 0;
  while (*at) {
    Block* b = (*at)->block;
    if (b->dead) {
      *at = (*at)->next;
      continue;
    }
    const std::uint64_t in_first = b->straddles ? page_size - b->offset : std::uint64_t{b->guest_bytes};
    if (b->page == id)
      page.cover(b->offset, in_first);
    else
      page.cover(0, b->guest_bytes - in_first);
    at = &(*at)->next;
  }
  open_if_empty(id, page);
}

/// Only a page that is closed can be opened: one that is being closed is somebody's.
void CodeCache::open_if_empty(CodePageId id, const CodePage& page) {
  auto closed = static_cast<std::uint8_t>(PageWatch::Closed);
  if (!page.blocks) code_flag(id).compare_exchange_strong(closed, 0, std::memory_order_seq_cst);
}

void CodeCache::make_room() {
  if (part_count_ == 1 || pages_full()) return flush_all();
  unsigned next = static_cast<unsigned>(part_ - parts_) + 1;
  if (next == part_count_) next = 0;
  evict(parts_[next]);
  part_ = &parts_[next];
  counters_.flushes++;
}

void CodeCache::evict(Part& part) {
  for (std::uint64_t i = 0; i < part.count; i++)
    if (!part.ordered[i]->dead) {
      kill(part.ordered[i]);
      counters_.invalidated--;
      counters_.evicted++;
    }
  // Nodes of dead blocks are in lists still; their memory goes now.
  for (std::uint64_t i = 0; i < part.count; i++) {
    const Block& block = *part.ordered[i];
    drop_dead_blocks(block.page, *page_slot(block.page));
    if (block.straddles) drop_dead_blocks(block.second_page, *page_slot(block.second_page));
  }
  part.count = part.hot_used = part.cold_used = part.arena_used = 0;
}

void CodeCache::flush_all() {
  for (unsigned s = 0; s < max_slots; s++)
    for (std::uint64_t i = 0; pages_[s] && i < page_counts_[s]; i++)
      if (pages_[s][i]) {
        pages_[s][i] = nullptr;
        code_flag(code_page_id(s, i)).store(0);
      }
  ::madvise(buckets_, bucket_count * sizeof(Block*), MADV_DONTNEED);                // zeros again
  for (unsigned i = 0; i < part_count_; i++) counters_.evicted += parts_[i].count;  // dead ones among them
  divide();
  page_record_count_ = 0;
  expectations_ = 0;
  counters_.flushes++;
}

void CodeCache::give_back() {
  flush_all();
  ::madvise(write_base_, capacity_, MADV_REMOVE);  // shared memory: out of both mappings
  make_dead_end();
  ::madvise(arena_base_, arena_capacity_, MADV_DONTNEED);
  ::madvise(ordered_, max_parts * ordered_part_ * sizeof(Block*), MADV_DONTNEED);
  ::madvise(page_records_, page_record_capacity_ * sizeof(CodePage), MADV_DONTNEED);
  for (unsigned s = 0; s < max_slots; s++)
    if (pages_[s]) ::madvise(pages_[s], page_counts_[s] * sizeof(CodePage*), MADV_DONTNEED);
}

}  // namespace veneer::cpu::bt
