// GuestMemory: memfd slots, and the one path on which device writes become visible to translated code.
#include "machine/guest_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#ifdef VENEER_TSAN
extern "C" void AnnotateBenignRaceSized(const char* file, int line, const volatile void* memory, std::size_t size_bytes,
                                        const char* why);
#endif

namespace veneer::machine {
namespace {

/// Guest memory is for the guest to keep in order: processors and devices race in it as on hardware. Said once, here,
/// so that the thread sanitizer reports races in the monitor's own data only.
void races_are_the_guests([[maybe_unused]] const MemorySlot& slot) {
#ifdef VENEER_TSAN
  AnnotateBenignRaceSized(__FILE__, __LINE__, slot.host, slot.size_bytes, "guest memory");
#endif
}

}  // namespace

GuestMemory::~GuestMemory() {
  for (const auto& slot : slots_) munmap(slot->host, slot->size_bytes);
}

Result<MemorySlot*> GuestMemory::add(std::string name, GuestPhys base, std::uint64_t size_bytes, SlotKind kind,
                                     bool populate) {
  if (size_bytes == 0 || (base.page_offset() | (size_bytes & page_offset_mask)) || base.value + size_bytes < base.value)
    return Error(
        fmt::format("guest memory \"{}\": {:#x} bytes at {:#x} are not whole pages", name, size_bytes, base.value));
  for (const auto& slot : slots_) {
    if (base.value < slot->base.value + slot->size_bytes && slot->base.value < base.value + size_bytes)
      return Error(fmt::format("guest memory \"{}\" overlaps \"{}\"", name, slot->name));
  }
  return make(std::move(name), base, size_bytes, kind, populate);
}

Result<MemorySlot*> GuestMemory::add_behind(std::string name, MemorySlot& front) {
  TRY(MemorySlot* const rom, make(std::move(name), front.base, front.size_bytes, SlotKind::Rom, false));
  front.shadow = std::make_unique<std::atomic<std::uint8_t>[]>(front.size_bytes >> page_shift);
  front.behind = rom;
  return rom;
}

Result<MemorySlot*> GuestMemory::add_switched(std::string name, GuestPhys base, std::uint64_t size_bytes) {
  TRY(MemorySlot* const rom, add(std::move(name), base, size_bytes, SlotKind::Rom));
  rom->shadow = std::make_unique<std::atomic<std::uint8_t>[]>(size_bytes >> page_shift);
  for (std::uint64_t page = 0; page < size_bytes >> page_shift; ++page) rom->shadow[page] = SHADOW_READS;
  return rom;
}

Result<MemorySlot*> GuestMemory::make(std::string name, GuestPhys base, std::uint64_t size_bytes, SlotKind kind,
                                      bool populate) {
  const auto fail = [&](std::string_view what) {
    return Error::from_errno(fmt::format("guest memory \"{}\" of {} bytes: {}", name, size_bytes, what), errno);
  };
  auto slot = std::make_unique<MemorySlot>();
  slot->memfd = Fd(memfd_create(fmt::format("veneer-{}", name).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!slot->memfd.valid()) return fail("memfd_create");
  if (ftruncate(slot->memfd.get(), static_cast<off_t>(size_bytes)) != 0) return fail("setting its size");
  // A backend that is handed this descriptor must not be able to make the mapping fault.
  fcntl(slot->memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
  const int flags = MAP_SHARED | MAP_NORESERVE | (populate ? MAP_POPULATE : 0);
  void* host = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, flags, slot->memfd.get(), 0);
  if (host == MAP_FAILED) return fail("mapping it");
  madvise(host, size_bytes, MADV_DONTDUMP);  // core files are for our bugs, not for the guest's data

  slot->index = static_cast<std::uint32_t>(slots_.size());
  slot->base = base;
  slot->size_bytes = size_bytes;
  slot->host = static_cast<HostPtr>(host);
  slot->kind = kind;
  slot->name = std::move(name);
  slot->code_pages = std::make_unique<std::atomic<std::uint8_t>[]>(size_bytes >> page_shift);
  races_are_the_guests(*slot);
  slots_.push_back(std::move(slot));
  return slots_.back().get();
}

HostPtr GuestMemory::at(GuestPhys address, std::uint64_t size_bytes) const {
  const MemorySlot* slot = find(address);
  if (!slot) return nullptr;
  const std::uint64_t offset = address - slot->base;
  return size_bytes <= run_bytes(*slot, offset) ? slot->host + offset : nullptr;
}

std::uint64_t GuestMemory::run_bytes(const MemorySlot& slot, std::uint64_t offset) const {
  const MemorySlot* front = slot.shadow ? &slot : nullptr;
  if (!front && slot.kind == SlotKind::Rom)
    for (const auto& other : slots_)
      if (other->behind == &slot) front = other.get();
  if (!front) return slot.size_bytes - offset;
  const bool rom = front != &slot;
  std::uint64_t end = (offset | page_offset_mask) + 1;
  while (end < slot.size_bytes && hidden(*front, end) == rom) end += page_size;
  return end - offset;
}

void GuestMemory::set_shadow(GuestPhys base, std::uint64_t size_bytes, std::uint8_t shadow) {
  bool changed = false;
  for (const auto& slot : slots_) {
    if (!slot->shadow || base.value - slot->base.value >= slot->size_bytes) continue;
    const std::uint64_t first = base - slot->base;
    const std::uint64_t end = std::min(first + size_bytes, slot->size_bytes);
    for (std::uint64_t page = first >> page_shift; page << page_shift < end; ++page)
      changed |= slot->shadow[page].exchange(shadow, std::memory_order_seq_cst) != shadow;
  }
  if (changed && map_listener_) map_listener_();
}

bool GuestMemory::write_hidden(GuestPhys address, std::span<const std::byte> data) {
  for (const auto& slot : slots_) {
    if (!slot->behind || address.value - slot->base.value >= slot->size_bytes) continue;
    const std::uint64_t offset = address - slot->base;
    if (!slot->writable_at(offset) || data.size() > page_size - (offset & page_offset_mask)) return false;
    std::memcpy(slot->host + offset, data.data(), data.size());
    // Code that was translated from this RAM while it could be read.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (code_listener_ && slot->code_pages[offset >> page_shift].load(std::memory_order_relaxed))
      code_listener_(*slot, offset, data.size());
    return true;
  }
  return false;
}

namespace {

/// Calls piece(slot, offset, done, size) for each slot that [address, address + size_bytes) passes through.
/// False, before any call, when a byte of it is not memory.
template <typename Piece>
bool for_each_piece(const GuestMemory& memory, GuestPhys address, std::uint64_t size_bytes, Piece piece) {
  if (address.value + size_bytes < address.value) return false;
  for (std::uint64_t done = 0; done < size_bytes;) {
    const MemorySlot* slot = memory.find(address + done);
    if (!slot) return false;
    done += std::min(size_bytes - done, memory.run_bytes(*slot, (address + done) - slot->base));
  }
  for (std::uint64_t done = 0; done < size_bytes;) {
    MemorySlot* slot = memory.find(address + done);
    const std::uint64_t offset = (address + done) - slot->base;
    const std::uint64_t size = std::min(size_bytes - done, memory.run_bytes(*slot, offset));
    piece(*slot, offset, done, size);
    done += size;
  }
  return true;
}

}  // namespace

bool GuestMemory::read(GuestPhys address, std::span<std::byte> out) const {
  return for_each_piece(*this, address, out.size(),
                        [&](const MemorySlot& slot, std::uint64_t offset, std::uint64_t done, std::uint64_t size) {
                          std::memcpy(out.data() + done, slot.host + offset, size);
                        });
}

bool GuestMemory::write(GuestPhys address, std::span<const std::byte> data) {
  const bool all_memory =
      for_each_piece(*this, address, data.size(),
                     [&](const MemorySlot& slot, std::uint64_t offset, std::uint64_t done, std::uint64_t size) {
                       // DMA to ROM goes nowhere, as on the hardware; whoever fills a ROM uses at().
                       if (slot.writable_at(offset)) std::memcpy(slot.host + offset, data.data() + done, size);
                     });
  if (all_memory) written(address, data.size());
  return all_memory;
}

void GuestMemory::written(GuestPhys address, std::uint64_t size_bytes) {
  if (!code_listener_) return;
  // The translator marks a page and then reads it; we wrote and now read the mark. Without this fence both could
  // miss the other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for_each_piece(*this, address, size_bytes,
                 [&](MemorySlot& slot, std::uint64_t offset, std::uint64_t, std::uint64_t size) {
                   for (std::uint64_t page = offset >> page_shift; page <= (offset + size - 1) >> page_shift; ++page) {
                     if (slot.code_pages[page].load(std::memory_order_relaxed) == 0) continue;
                     code_listener_(slot, offset, size);
                     return;
                   }
                 });
}

std::uint64_t GuestMemory::discard(GuestPhys address, std::uint64_t size_bytes) {
  constexpr std::uint64_t last_page = ~std::uint64_t{page_offset_mask};
  const std::uint64_t end = address.value + std::min(size_bytes, ~address.value);
  if (address.value > last_page) return 0;
  const std::uint64_t first = (address.value + page_offset_mask) & last_page;
  std::uint64_t discarded = 0;
  for (const auto& slot : slots_) {
    if (slot->kind != SlotKind::Ram || slot->shadow) continue;
    const std::uint64_t from = std::max(first, slot->base.value);
    const std::uint64_t to = std::min(end & last_page, slot->base.value + slot->size_bytes);
    if (from >= to) continue;
    const std::uint64_t offset = from - slot->base.value;
    // A hole in the memfd. The mapping stays, so host addresses in TLBs stay good: the next access gets a new page. A
    // transfer of the host's kernel that is under way goes on into the old page, which nobody sees any more.
    if (madvise(slot->host + offset, to - from, MADV_REMOVE) != 0) continue;
    announce_code(*slot, offset, to - from);
    discarded += to - from;
  }
  return discarded;
}

/// As written() does it, for whole pages of which few hold code.
void GuestMemory::announce_code(MemorySlot& slot, std::uint64_t offset, std::uint64_t size_bytes) {
  if (!code_listener_) return;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (std::uint64_t at = offset; at < offset + size_bytes; at += page_size)
    if (slot.code_pages[at >> page_shift].load(std::memory_order_relaxed)) code_listener_(slot, at, page_size);
}

std::uint64_t GuestMemory::ram_bytes() const {
  std::uint64_t total = 0;
  for (const auto& slot : slots_)
    if (slot->kind == SlotKind::Ram) total += slot->size_bytes;
  return total;
}

}  // namespace veneer::machine
