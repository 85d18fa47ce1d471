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
};

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

  /// The slot that holds this address, or null (MMIO or nothing).
  MemorySlot* find(GuestPhys address) const {
    for (const auto& slot : slots_)
      if (address.value - slot->base.value < slot->size_bytes) return slot.get();
    return nullptr;
  }

  /// Host pointer to [address, address + size) if it lies in one slot, else null. Reading only, unless the caller
  /// announces what it wrote with written().
  HostPtr at(GuestPhys address, std::uint64_t size_bytes) const;

  /// Copies that stop at the end of memory: false (and nothing written) when any byte is not RAM/ROM.
  bool read(GuestPhys address, std::span<std::byte> out) const;
  /// Device writes (DMA): the one completion path. Invalidates translations of the pages before it returns.
  bool write(GuestPhys address, std::span<const std::byte> data);
  /// Announces bytes that were written through at() (an io_uring or preadv into guest memory).
  void written(GuestPhys address, std::uint64_t size_bytes);

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

  const std::vector<std::unique_ptr<MemorySlot>>& slots() const { return slots_; }
  std::uint64_t ram_bytes() const;

 private:
  std::vector<std::unique_ptr<MemorySlot>> slots_;
  CodeWriteListener code_listener_;
};

}  // namespace veneer::machine
