// Slices of iovec lists.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace veneer::disk {

/// Bytes in all.
inline std::uint64_t iov_length(std::span<const iovec> iov) {
  std::uint64_t total = 0;
  for (const iovec& part : iov) total += part.iov_len;
  return total;
}

/// The iovecs of bytes [skip, skip + length) of `iov`, into `out` (cleared first).
inline void iov_slice(std::span<const iovec> iov, std::uint64_t skip, std::uint64_t length, std::vector<iovec>& out) {
  out.clear();
  for (const iovec& part : iov) {
    if (length == 0) return;
    if (skip >= part.iov_len) {
      skip -= part.iov_len;
      continue;
    }
    const std::uint64_t take = std::min<std::uint64_t>(part.iov_len - skip, length);
    out.push_back({static_cast<std::byte*>(part.iov_base) + skip, static_cast<std::size_t>(take)});
    length -= take;
    skip = 0;
  }
}

inline void iov_fill_zero(std::span<const iovec> iov) {
  for (const iovec& part : iov) std::memset(part.iov_base, 0, part.iov_len);
}

/// Copies bytes into an iovec list, from its beginning.
inline void iov_copy_in(std::span<const iovec> iov, const std::byte* from) {
  for (const iovec& part : iov) {
    std::memcpy(part.iov_base, from, part.iov_len);
    from += part.iov_len;
  }
}

/// Copies an iovec list's bytes out.
inline void iov_copy_out(std::span<const iovec> iov, std::byte* to) {
  for (const iovec& part : iov) {
    std::memcpy(to, part.iov_base, part.iov_len);
    to += part.iov_len;
  }
}

}  // namespace veneer::disk
