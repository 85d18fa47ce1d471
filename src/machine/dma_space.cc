// Copies between a device and memory, run by run.
#include "machine/dma_space.h"

namespace veneer::machine {

bool DmaSpace::read(GuestPhys address, std::span<std::byte> out) const {
  if (!translator_) return memory_->read(address, out);
  return for_each_run(address, out.size(), DmaAccess::Read, [&](GuestPhys at, std::uint64_t done, std::uint64_t bytes) {
    return memory_->read(at, out.subspan(done, bytes));
  });
}

bool DmaSpace::write(GuestPhys address, std::span<const std::byte> data) const {
  if (!translator_) return memory_->write(address, data);
  return for_each_run(address, data.size(), DmaAccess::Write,
                      [&](GuestPhys at, std::uint64_t done, std::uint64_t bytes) {
                        return memory_->write(at, data.subspan(done, bytes));
                      });
}

}  // namespace veneer::machine
