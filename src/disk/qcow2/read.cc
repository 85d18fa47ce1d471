// Reading a qcow2 image.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "disk/iov.h"
#include "disk/qcow2/compression.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {

Result<void> Qcow2Image::read(std::uint64_t offset, std::span<const iovec> iov) {
  TRY_VOID(check_range(offset, iov_length(iov)));
  return read_unchecked(offset, iov);
}

/// Also beyond the image's end, in its last cluster: zeros or what the cluster holds.
Result<void> Qcow2Image::read_unchecked(std::uint64_t offset, std::span<const iovec> iov) {
  const std::uint64_t total = iov_length(iov);
  std::vector<iovec> part;
  for (std::uint64_t done = 0; done < total;) {
    std::uint64_t lease = 0;
    Piece piece;
    {
      const Lock lock(mutex_);
      TRY(const std::optional<Piece> found, look_up(offset + done, total - done, false));
      piece = *found;
      lease = leases_.begin();
    }
    std::span<const iovec> now = iov;
    if (piece.length != total) {
      iov_slice(iov, done, piece.length, part);
      now = part;
    }
    Result<void> result;
    switch (piece.kind) {
      case Kind::Unallocated:
        result = read_backing(offset + done, now);
        break;
      case Kind::Zero:
        iov_fill_zero(now);
        break;
      case Kind::Data:
        result = file_->read(piece.host_offset, now);
        break;
      case Kind::Compressed: {
        const std::uint64_t in_cluster = geometry_.in_cluster(offset + done);
        const std::uint64_t rest = std::min(geometry_.cluster_size() - in_cluster, total - done);
        piece.length = rest;
        iov_slice(iov, done, rest, part);
        result = read_compressed(piece.entry, in_cluster, part);
        break;
      }
    }
    end_lease(lease);
    if (!result) return result;
    done += piece.length;
  }
  return {};
}

Result<void> Qcow2Image::read_backing(std::uint64_t offset, std::span<const iovec> iov) {
  const std::uint64_t length = iov_length(iov);
  if (backing_ == nullptr || offset >= backing_size_) {
    iov_fill_zero(iov);
    return {};
  }
  const std::uint64_t there = std::min(length, backing_size_ - offset);
  if (there == length) return backing_->read(offset, iov);
  std::vector<iovec> part;
  iov_slice(iov, there, length - there, part);
  iov_fill_zero(part);
  iov_slice(iov, 0, there, part);
  return backing_->read(offset, part);
}

Result<void> Qcow2Image::read_compressed(std::uint64_t entry, std::uint64_t in_cluster, std::span<const iovec> iov) {
  {
    const std::lock_guard lock(decompressed_mutex_);
    if (decompressed_entry_ == entry && !decompressed_.empty()) {
      iov_copy_in(iov, decompressed_.data() + in_cluster);
      return {};
    }
  }
  const CompressedPlace place = CompressedPlace::decode(entry, geometry_);
  std::vector<std::byte> packed(place.length);
  std::vector<std::byte> cluster(geometry_.cluster_size());
  TRY_VOID(file_->read_bytes(place.offset, packed));
  if (auto done = decompress(header_.compression, packed, cluster); !done)
    return std::move(done).error().context(fmt::format("{} at {:#x}", name_, place.offset));
  iov_copy_in(iov, cluster.data() + in_cluster);
  const std::lock_guard lock(decompressed_mutex_);
  decompressed_entry_ = entry;
  decompressed_ = std::move(cluster);
  return {};
}

bool Qcow2Image::map_extents(std::uint64_t offset, std::uint64_t length, bool for_write,
                             std::vector<HostExtent>& extents, std::uint64_t& lease) {
  const int fd = file_->transfer_fd();
  if (fd < 0 || length == 0 || !check_range(offset, length)) return false;
  if (for_write && (options_.read_only || options_.cache == CacheMode::Writethrough)) return false;
  // The caller holds up the whole machine while it waits, and a commit keeps the lock while the host writes tables.
  const Lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  if (for_write && broken_) return false;
  for (std::uint64_t done = 0; done < length;) {
    auto found = look_up(offset + done, length - done, true);
    if (!found || !found.value()) return false;
    Piece piece = *found.value();
    if (for_write) {
      if (piece.kind != Kind::Data) return false;
      WritePlan plan;
      Table* table = l2_.find(l1_[(offset + done) / geometry_.l2_covers()] & ENTRY_OFFSET);
      auto in_place = plan_in_place(*table, offset + done, length - done, plan);
      if (!in_place || !in_place.value()) return false;
      extents.push_back({fd, plan.host_offset, plan.length});
      done += plan.length;
      continue;
    }
    switch (piece.kind) {
      case Kind::Compressed:
        return false;
      case Kind::Unallocated: {
        if (offset + done >= backing_size_) {
          extents.push_back({HostExtent::zeroes, 0, piece.length});
          break;
        }
        if (backing_ == nullptr) return false;
        // The backing image is read-only: its places keep their meaning without a lease.
        piece.length = std::min(piece.length, backing_size_ - (offset + done));
        Mapping below;
        if (!backing_->map_for_read(offset + done, piece.length, below)) return false;
        extents.insert(extents.end(), below.extents.begin(), below.extents.end());
        break;
      }
      case Kind::Zero:
        extents.push_back({HostExtent::zeroes, 0, piece.length});
        break;
      case Kind::Data:
        extents.push_back({fd, piece.host_offset, piece.length});
        break;
    }
    done += piece.length;
  }
  lease = leases_.begin();
  return true;
}

void Qcow2Image::end_lease(std::uint64_t lease) { leases_.end(lease); }

Result<Image::Status> Qcow2Image::status(std::uint64_t offset, std::uint64_t length) {
  TRY_VOID(check_range(offset, length));
  if (length == 0) return Error(fmt::format("{}: status of nothing", name_)).with_code(EINVAL);
  const Lock lock(mutex_);
  Status status;
  status.length = 0;
  // Stretches end with their L2 table; go on while the kind stays the same, for as long as that costs nothing.
  while (status.length < length) {
    auto found = look_up(offset + status.length, length - status.length, status.length != 0);
    if (!found) return std::move(found).error();
    if (!found.value()) break;
    const Piece& piece = *found.value();
    Status::Kind kind = Status::Kind::Data;
    if (piece.kind == Kind::Zero) kind = Status::Kind::Zero;
    std::uint64_t there = piece.length;
    if (piece.kind == Kind::Unallocated) {
      const std::uint64_t at = offset + status.length;
      const bool below = at < backing_size_;
      kind = below ? Status::Kind::Backing : Status::Kind::Zero;
      if (below) there = std::min(there, backing_size_ - at);
    }
    if (status.length != 0 && kind != status.kind) break;
    status.kind = kind;
    if (piece.kind == Kind::Compressed)
      there = std::min(length - status.length, geometry_.cluster_size() - geometry_.in_cluster(offset + status.length));
    status.length += there;
  }
  return status;
}

}  // namespace veneer::disk::qcow2
