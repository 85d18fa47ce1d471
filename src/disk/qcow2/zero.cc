// Zeros and discards in a qcow2 image.
#include <algorithm>
#include <cerrno>

#include "disk/iov.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {

/// The entry that makes a cluster read as zeros (version 3), or just not the guest's any more.
std::uint64_t Qcow2Image::zeroed_entry(std::uint64_t entry, ZeroMode mode, bool discarding) {
  const Kind kind = kind_of(entry);
  if (header_.version < 3) return 0;  // only without a backing file
  if (discarding && kind == Kind::Unallocated && !has_backing()) return entry;
  const bool has_own_place = (kind == Kind::Data || kind == Kind::Zero) && (entry & ENTRY_COPIED) != 0;
  if (mode == ZeroMode::KeepAllocated && has_own_place) return entry | ENTRY_ZERO;
  // No flag where nothing could shine through: the table stays sparse.
  return kind == Kind::Unallocated && !has_backing() ? entry : ENTRY_ZERO;
}

Result<void> Qcow2Image::zero_clusters(std::uint64_t first, std::uint64_t count, ZeroMode mode, bool discarding) {
  while (count != 0) {
    TRY_VOID(commit_if_crowded());
    Lock lock(mutex_);
    const std::uint64_t index = first % geometry_.l2_entries();
    const std::uint64_t here = std::min(count, geometry_.l2_entries() - index);
    if (in_flight(first, here)) {
      changed_.wait(lock);
      continue;
    }
    const std::uint64_t l1_index = first / geometry_.l2_entries();
    if ((l1_[l1_index] & ENTRY_OFFSET) != 0 || has_backing()) {
      TRY(Table * table, l2_for_writing(l1_index));
      for (std::uint64_t i = index; i < index + here; ++i) {
        const std::uint64_t old = entry_at(*table, i);
        const std::uint64_t entry = zeroed_entry(old, mode, discarding);
        if (entry == old) continue;
        set_entry(*table, i, entry);
        if ((entry & ENTRY_OFFSET) == 0) drop_entry(old, options_.discard == DiscardPolicy::Unmap);
      }
    }
    first += here;
    count -= here;
  }
  return {};
}

/// Zeros as data, skipping what reads as zeros anyway.
Result<void> Qcow2Image::zero_bytes(std::uint64_t offset, std::uint64_t length) {
  static const std::vector<std::byte> zeroes(256 * KiB);
  while (length != 0) {
    std::uint64_t now = std::min<std::uint64_t>(length, zeroes.size());
    bool skip = false;
    {
      const Lock lock(mutex_);
      TRY(const std::optional<Piece> piece, look_up(offset, now, false));
      const bool absent = piece->kind == Kind::Unallocated && offset >= backing_size_ && !expect_backing_;
      skip = piece->kind == Kind::Zero || absent;
      if (piece->kind != Kind::Compressed) now = std::min(now, piece->length);
    }
    if (!skip) {
      const iovec iov{const_cast<std::byte*>(zeroes.data()), static_cast<std::size_t>(now)};
      TRY_VOID(write_unchecked(offset, {&iov, 1}));
    }
    offset += now;
    length -= now;
  }
  return {};
}

Result<void> Qcow2Image::write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroMode mode) {
  TRY_VOID(check_writable(offset, length));
  const std::uint64_t end = offset + length;
  const std::uint64_t first = geometry_.clusters(offset);
  // The cluster that the image ends in counts as whole.
  const std::uint64_t last = end == size() ? geometry_.clusters(end) : end >> geometry_.cluster_bits;
  // Version 2 has no zero flag: zeros can only hide a backing file as data.
  if (first >= last || (header_.version < 3 && (has_backing() || mode == ZeroMode::KeepAllocated))) {
    TRY_VOID(zero_bytes(offset, length));
  } else {
    TRY_VOID(zero_bytes(offset, (first << geometry_.cluster_bits) - offset));
    TRY_VOID(zero_clusters(first, last - first, mode, false));
    if (const std::uint64_t whole_end = last << geometry_.cluster_bits; whole_end < end)
      TRY_VOID(zero_bytes(whole_end, end - whole_end));
  }
  return options_.cache == CacheMode::Writethrough ? flush() : Result<void>();
}

Result<void> Qcow2Image::discard(std::uint64_t offset, std::uint64_t length) {
  TRY_VOID(check_writable(offset, length));
  if (options_.discard == DiscardPolicy::Ignore) return {};
  // In version 2 a discarded cluster would show the backing file's old content: keep it instead.
  if (header_.version < 3 && has_backing()) return {};
  const std::uint64_t end = offset + length;
  const std::uint64_t first = geometry_.clusters(offset);
  const std::uint64_t last = end == size() ? geometry_.clusters(end) : end >> geometry_.cluster_bits;
  if (first >= last) return {};
  return zero_clusters(first, last - first, ZeroMode::MayUnmap, true);
}

}  // namespace veneer::disk::qcow2
