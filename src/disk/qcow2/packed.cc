// Compressed clusters, written: packed one behind the other, each counted in every host cluster that it touches.
#include <cerrno>

#include "disk/qcow2/compression.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {

/// A place for so many bytes, at most a cluster; refcounts are taken. With the lock held.
Result<std::uint64_t> Qcow2Image::allocate_packed(std::uint64_t bytes) {
  const std::uint64_t in_cluster = geometry_.in_cluster(packed_at_);
  const std::uint64_t left = in_cluster == 0 ? 0 : geometry_.cluster_size() - in_cluster;
  if (left != 0) {
    // Behind the last one: its cluster is used once more, unless the format cannot count that far.
    const std::uint64_t current = packed_at_ >> geometry_.cluster_bits;
    TRY(const std::uint64_t used, refcounts_.get(current));
    if (used >= geometry_.max_refcount()) {
      packed_at_ = 0;
    } else if (bytes <= left) {
      TRY_VOID(refcounts_.increase(current));
      const std::uint64_t place = packed_at_;
      packed_at_ += bytes;
      return place;
    } else {
      TRY(const Refcounts::Run run, refcounts_.allocate(1));
      const bool next = run.first == current + 1;
      if (next) {
        TRY_VOID(refcounts_.increase(current));
        const std::uint64_t place = packed_at_;
        packed_at_ += bytes;
        return place;
      }
      packed_at_ = (run.first << geometry_.cluster_bits) + bytes;
      return run.first << geometry_.cluster_bits;
    }
  }
  TRY(const Refcounts::Run run, refcounts_.allocate(1));
  packed_at_ = (run.first << geometry_.cluster_bits) + bytes;
  return run.first << geometry_.cluster_bits;
}

Result<bool> Qcow2Image::write_compressed(std::uint64_t offset, std::span<const std::byte> cluster) {
  TRY_VOID(check_writable(offset, std::min<std::uint64_t>(cluster.size(), size() - std::min(offset, size()))));
  if (geometry_.in_cluster(offset) != 0 || cluster.size() != geometry_.cluster_size())
    return Error("compressed writes are whole clusters").with_code(EINVAL);
  std::vector<std::byte> packed;
  if (!compress(header_.compression, cluster, cluster.size() - 1, packed)) return false;
  TRY_VOID(commit_if_crowded());
  std::uint64_t place = 0;
  {
    const Lock lock(mutex_);
    TRY(place, allocate_packed(packed.size()));
  }
  TRY_VOID(file_->write_bytes(place, packed));
  const Lock lock(mutex_);
  TRY(Table * table, l2_for_writing(offset / geometry_.l2_covers()));
  const std::uint64_t index = (offset >> geometry_.cluster_bits) % geometry_.l2_entries();
  drop_entry(entry_at(*table, index), false);
  set_entry(*table, index, CompressedPlace::encode(place, packed.size(), geometry_));
  return true;
}

}  // namespace veneer::disk::qcow2
