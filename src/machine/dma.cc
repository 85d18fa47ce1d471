// Guest-physical buffers to host pieces; neighbours become one piece.
#include "machine/dma.h"

#include <algorithm>

namespace veneer::machine {

bool DmaBuffers::add(const DmaSpace& space, GuestPhys address, std::uint64_t size_bytes, DmaAccess access) {
  return space.for_each_run(address, size_bytes, access, [&](GuestPhys at, std::uint64_t, std::uint64_t bytes) {
    return add_run(space.memory(), at, bytes);
  });
}

bool DmaBuffers::add_run(const GuestMemory& memory, GuestPhys address, std::uint64_t size_bytes) {
  if (address.value + size_bytes < address.value) return false;
  while (size_bytes > 0) {
    const MemorySlot* slot = memory.find(address);
    if (!slot || slot->kind != SlotKind::Ram) return false;
    const std::uint64_t offset = address - slot->base;
    const std::uint64_t size = std::min(size_bytes, memory.run_bytes(*slot, offset));
    const HostPtr host = slot->host + offset;
    if (!pieces_.empty() && static_cast<HostPtr>(pieces_.back().iov_base) + pieces_.back().iov_len == host &&
        ranges_.back().address + ranges_.back().bytes == address) {
      pieces_.back().iov_len += size;
      ranges_.back().bytes += size;
    } else {
      if (pieces_.size() == max_pieces) return false;
      pieces_.push_back({host, size});
      ranges_.push_back({address, size});
    }
    bytes_ += size;
    address = address + size;
    size_bytes -= size;
  }
  return true;
}

void DmaBuffers::announce(const DmaSpace& space) const {
  for (const Range& range : ranges_) space.memory().written(range.address, range.bytes);
}

}  // namespace veneer::machine
