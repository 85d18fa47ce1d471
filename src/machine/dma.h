// DmaBuffers: the host memory behind a list of guest-physical buffers, for a device that moves data itself.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "machine/guest_memory.h"

namespace veneer::machine {

/// Built piece by piece from what the guest wrote, which may be anything; used once it is complete.
class DmaBuffers {
 public:
  /// What one system call takes (IOV_MAX).
  static constexpr std::size_t max_pieces = 1024;

  /// Appends guest memory. False when a byte of it is not RAM (a device, a hole), or the pieces are too many.
  bool add(const GuestMemory& memory, GuestPhys address, std::uint64_t size_bytes);

  std::uint64_t bytes() const { return bytes_; }
  const std::vector<iovec>& pieces() const { return pieces_; }

  /// Announces that data has been written to all of it, before the guest is told (GuestMemory::written()).
  void announce(GuestMemory& memory) const;

 private:
  struct Range {
    GuestPhys address;
    std::uint64_t bytes;
  };
  std::vector<iovec> pieces_;
  std::vector<Range> ranges_;
  std::uint64_t bytes_ = 0;
};

}  // namespace veneer::machine
