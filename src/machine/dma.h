// DmaBuffers: the host memory behind a list of guest-physical buffers, for a device that moves data itself.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "machine/dma_space.h"

namespace veneer::machine {

/// Built piece by piece from what the guest wrote, which may be anything; used once it is complete.
class DmaBuffers {
 public:
  /// What one system call takes (IOV_MAX).
  static constexpr std::size_t max_pieces = 1024;

  /// Appends memory that the device is going to read or write. False when it may not, when a byte is not RAM (a device,
  /// a hole), or the pieces are too many. Addresses are translated here and now.
  bool add(const DmaSpace& space, GuestPhys address, std::uint64_t size_bytes, DmaAccess access);

  std::uint64_t bytes() const { return bytes_; }
  const std::vector<iovec>& pieces() const { return pieces_; }

  /// Announces that data has been written to all of it, before the guest is told (GuestMemory::written()).
  void announce(const DmaSpace& space) const;

 private:
  struct Range {
    GuestPhys address;  // behind the translation
    std::uint64_t bytes;
  };
  bool add_run(const GuestMemory& memory, GuestPhys address, std::uint64_t size_bytes);

  std::vector<iovec> pieces_;
  std::vector<Range> ranges_;
  std::uint64_t bytes_ = 0;
};

}  // namespace veneer::machine
