// Guest RAM and ROM: memfd-backed slots of the guest-physical address space.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/units.h"

namespace veneer::machine {

enum class SlotKind : std::uint8_t { Ram, Rom };

/// One contiguous piece of guest-physical memory, backed by one memfd mapped once in this process.
struct MemorySlot {
  std::uint32_t index = 0;  ///< stable number of the slot: (index, offset) is the key of translated code
  GuestPhys base;
  std::uint64_t size_bytes = 0;  ///< a multiple of the page size
  HostPtr host = nullptr;        ///< page-aligned mapping of the whole slot
  SlotKind kind = SlotKind::Ram;
  std::string name;
  Fd memfd;
  /// One byte per page: nonzero when translations of this page may exist, so writes must be announced.
  std::unique_ptr<std::atomic<std::uint8_t>[]> code_pages;
  /// ROM at the same addresses that may answer in this RAM's place (shadow RAM), or null.
  MemorySlot* behind = nullptr;
  /// Of shadow RAM and of switched ROM: one Shadow for each page.
  std::unique_ptr<std::atomic<std::uint8_t>[]> shadow;

  /// False for ROM, and for RAM that the chipset protects.
  bool writable_at(std::uint64_t offset) const;
};

/// What a page of RAM with ROM behind it answers to: a set of bits.
enum Shadow : std::uint8_t { SHADOW_READS = 1, SHADOW_WRITES = 2 };

inline bool MemorySlot::writable_at(std::uint64_t offset) const {
  if (kind == SlotKind::Rom) return false;
  return !shadow || (shadow[offset >> page_shift].load(std::memory_order_relaxed) & SHADOW_WRITES) != 0;
}

/// The guest's memory. Slots are added before vCPUs run. Reading and writing are thread-safe as on hardware
/// (no locks; byte copies race like DMA does).
class GuestMemory {
 public:
  GuestMemory() = default;
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  /// Adds memory at `base`. Lazily populated unless `populate`. Refuses overlaps and sizes the host can't map.
  Result<MemorySlot*> add(std::string name, GuestPhys base, std::uint64_t size_bytes, SlotKind kind,
                          bool populate = false);

  /// Puts ROM behind the RAM slot `front`, which becomes shadow RAM: until set_shadow() says otherwise the ROM answers
  /// to reads and nobody to writes.
  Result<MemorySlot*> add_behind(std::string name, MemorySlot& front);
  /// Adds ROM that may be switched off with set_shadow(): then a device answers at its addresses. Switched on at first.
  Result<MemorySlot*> add_switched(std::string name, GuestPhys base, std::uint64_t size_bytes);
  /// Says what the memory at [base, base + size_bytes), whole pages of such a slot, answers to: Shadow bits. vCPUs see
  /// it at their next look at events, the one that called before its next instruction. Board lock held.
  void set_shadow(GuestPhys base, std::uint64_t size_bytes, std::uint8_t shadow);
  /// A write of the guest to an address where find() gives ROM: shadow RAM that takes writes only has it. False when
  /// there is none.
  bool write_hidden(GuestPhys address, std::span<const std::byte> data);

  /// The slot that answers to reads of this address, or null (MMIO or nothing).
  MemorySlot* find(GuestPhys address) const {
    for (const auto& slot : slots_)
      if (address.value - slot->base.value < slot->size_bytes)
        return slot->shadow && hidden(*slot, address - slot->base) ? slot->behind : slot.get();
    return nullptr;
  }
  /// How many bytes from `offset` on find() gives the same slot.
  std::uint64_t run_bytes(const MemorySlot& slot, std::uint64_t offset) const;

  /// Host pointer to [address, address + size) if it lies in one slot, else null. Reading only, unless the caller
  /// announces what it wrote with written().
  HostPtr at(GuestPhys address, std::uint64_t size_bytes) const;

  /// Copies that stop at the end of memory: false (and nothing written) when any byte is not RAM/ROM.
  bool read(GuestPhys address, std::span<std::byte> out) const;
  /// Device writes (DMA): the one completion path. Invalidates translations of the pages before it returns.
  bool write(GuestPhys address, std::span<const std::byte> data);
  /// Announces bytes that were written through at() (an io_uring or preadv into guest memory).
  void written(GuestPhys address, std::uint64_t size_bytes);

  /// Gives the whole pages within [address, address + size_bytes) back to the host: they read as zeros until somebody
  /// writes to them again. The one way to do so while the guest runs: vCPUs may execute what is there and devices write
  /// to it, which is as if zeros had been written by DMA. Passes over what is no plain RAM (ROM, shadow RAM, gaps) and
  /// what the host does not take. Gives the bytes that went back, whether or not there was anything in them. Any thread.
  std::uint64_t discard(GuestPhys address, std::uint64_t size_bytes);

  template <typename T>
  bool read_value(GuestPhys address, T& value) const {
    return read(address, std::as_writable_bytes(std::span(&value, 1)));
  }
  template <typename T>
  bool write_value(GuestPhys address, const T& value) {
    return write(address, std::as_bytes(std::span(&value, 1)));
  }

  /// Called for every announced write that touches a page with translations (slot, offset, size). Set by the engine.
  using CodeWriteListener = std::function<void(MemorySlot&, std::uint64_t offset, std::uint64_t size_bytes)>;
  void set_code_write_listener(CodeWriteListener listener) { code_listener_ = std::move(listener); }

  /// Called when set_shadow() changed something. Set by the engine.
  void set_map_listener(std::function<void()> listener) { map_listener_ = std::move(listener); }

  const std::vector<std::unique_ptr<MemorySlot>>& slots() const { return slots_; }
  std::uint64_t ram_bytes() const;

 private:
  static bool hidden(const MemorySlot& slot, std::uint64_t offset) {
    return (slot.shadow[offset >> page_shift].load(std::memory_order_relaxed) & SHADOW_READS) == 0;
  }
  void announce_code(MemorySlot& slot, std::uint64_t offset, std::uint64_t size_bytes);
  Result<MemorySlot*> make(std::string name, GuestPhys base, std::uint64_t size_bytes, SlotKind kind, bool populate);

  std::function<void()> map_listener_;
  std::vector<std::unique_ptr<MemorySlot>> slots_;
  CodeWriteListener code_listener_;
};

}  // namespace veneer::machine
