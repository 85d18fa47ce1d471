// L1 and L2 tables of a qcow2 image: finding, changing and dropping entries. Everything here has the lock held.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "disk/qcow2/endian.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {

std::uint64_t Qcow2Image::entry_at(const Table& table, std::uint64_t index) const {
  return load_be<std::uint64_t>(table.bytes.data() + index * geometry_.l2_entry_bytes());
}

std::uint64_t Qcow2Image::subclusters_at(const Table& table, std::uint64_t index) const {
  return load_be<std::uint64_t>(table.bytes.data() + index * geometry_.l2_entry_bytes() + 8);
}

void Qcow2Image::set_entry(Table& table, std::uint64_t index, std::uint64_t entry) {
  VENEER_ASSERT(!geometry_.extended_l2);  // such images are never open for writing
  store_be<std::uint64_t>(table.bytes.data() + index * 8, entry);
  l2_.mark_dirty(table, index * 8, index * 8 + 8);
}

Qcow2Image::Kind Qcow2Image::kind_of(std::uint64_t entry) const {
  if (entry & ENTRY_COMPRESSED) return Kind::Compressed;
  if ((entry & ENTRY_ZERO) && header_.version >= 3 && !geometry_.extended_l2) return Kind::Zero;
  return (entry & ENTRY_OFFSET) == 0 ? Kind::Unallocated : Kind::Data;
}

/// Notes in the image that it is damaged, so that nobody writes to it before a check.
Error Qcow2Image::corrupt(std::string what) {
  Error error =
      Error(fmt::format("{}: the image is damaged: {}. Run veneer disk check on it", name_, what)).with_code(EIO);
  log_error("{}", error.message());
  if (options_.read_only || header_.version < 3 || header_.has(INCOMPATIBLE_CORRUPT)) return error;
  header_.incompatible |= INCOMPATIBLE_CORRUPT;
  std::byte field[8];
  store_be<std::uint64_t>(field, header_.incompatible);
  if (const auto written = file_->write_bytes(header_at_incompatible, field); !written)
    log_error("{}", written.error().message());
  broken_ = "it is damaged";
  return error;
}

Result<Qcow2Image::Table*> Qcow2Image::l2_for_reading(std::uint64_t l1_index) {
  const std::uint64_t offset = l1_[l1_index] & ENTRY_OFFSET;
  if (geometry_.in_cluster(offset) != 0)
    return corrupt(fmt::format("entry {} of the L1 table leads to {:#x}", l1_index, offset));
  return l2_.get(offset);
}

/// The table, there and belonging to the active disk alone: a new one, or a copy where a snapshot shares it.
Result<Qcow2Image::Table*> Qcow2Image::l2_for_writing(std::uint64_t l1_index) {
  const std::uint64_t entry = l1_[l1_index];
  const std::uint64_t old = entry & ENTRY_OFFSET;
  if (old != 0 && (entry & ENTRY_COPIED)) {
    if (!metadata_.contains(old >> geometry_.cluster_bits))
      return corrupt(fmt::format("entry {} of the L1 table leads to {:#x}", l1_index, old));
    return l2_for_reading(l1_index);
  }
  TRY(const Refcounts::Run run, refcounts_.allocate(1));
  const std::uint64_t offset = run.first << geometry_.cluster_bits;
  std::vector<std::byte> content;
  if (old != 0) {
    auto source = l2_for_reading(l1_index);
    if (!source) {
      refcounts_.give_back(run);
      return std::move(source).error();
    }
    content = source.value()->bytes;
  }
  Table* table = l2_.create(offset);
  if (old != 0) {
    table->bytes = std::move(content);
    drop_table(old >> geometry_.cluster_bits);
  }
  metadata_.add(run.first, 1);
  l1_[l1_index] = offset | ENTRY_COPIED;
  l1_dirty_.push_back(l1_index);
  return table;
}

void Qcow2Image::drop_table(std::uint64_t host_cluster) { dropped_.push_back({host_cluster, 1, false, true}); }

/// What an L2 entry referred to, once the entry is gone.
void Qcow2Image::drop_entry(std::uint64_t entry, bool punch) {
  if (entry & ENTRY_COMPRESSED) {
    // Each compressed cluster counts once in every host cluster that it touches, so one may appear here many times.
    const CompressedPlace place = CompressedPlace::decode(entry, geometry_);
    const std::uint64_t first = place.offset >> geometry_.cluster_bits;
    const std::uint64_t last = (place.offset + place.length - 1) >> geometry_.cluster_bits;
    dropped_.push_back({first, last - first + 1, false, false});
    return;
  }
  if ((entry & ENTRY_OFFSET) == 0) return;
  const std::uint64_t cluster = (entry & ENTRY_OFFSET) >> geometry_.cluster_bits;
  if (!dropped_.empty()) {
    Dropped& last = dropped_.back();
    if (!last.table && last.first + last.count == cluster && last.punch == punch) {
      ++last.count;
      return;
    }
  }
  dropped_.push_back({cluster, 1, punch, false});
}

/// With extended L2 entries: the stretch of subclusters of one kind within one cluster.
void Qcow2Image::subcluster_piece(const Table& table, std::uint64_t index, std::uint64_t offset, Piece& piece) const {
  const std::uint64_t bitmap = subclusters_at(table, index);
  const std::uint64_t in_cluster = geometry_.in_cluster(offset);
  const auto kind_at = [&](std::uint64_t subcluster) {
    if (bitmap & bit(static_cast<unsigned>(subcluster + 32))) return Kind::Zero;
    if (bitmap & bit(static_cast<unsigned>(subcluster))) return Kind::Data;
    return Kind::Unallocated;
  };
  std::uint64_t subcluster = in_cluster / geometry_.subcluster_size();
  piece.kind = kind_at(subcluster);
  while (subcluster < 32 && kind_at(subcluster) == piece.kind) ++subcluster;
  piece.length = std::min(piece.length, subcluster * geometry_.subcluster_size() - in_cluster);
}

Result<std::optional<Qcow2Image::Piece>> Qcow2Image::look_up(std::uint64_t offset, std::uint64_t length,
                                                             bool cached_only) {
  const std::uint64_t l1_index = offset / geometry_.l2_covers();
  Piece piece;
  piece.length = std::min(length, geometry_.l2_covers() - offset % geometry_.l2_covers());
  if (l1_index >= l1_.size() || (l1_[l1_index] & ENTRY_OFFSET) == 0) return std::optional(piece);
  Table* table = nullptr;
  if (cached_only) {
    table = l2_.find(l1_[l1_index] & ENTRY_OFFSET);
    if (table == nullptr) return std::optional<Piece>();
  } else {
    TRY(table, l2_for_reading(l1_index));
  }
  std::uint64_t index = (offset >> geometry_.cluster_bits) % geometry_.l2_entries();
  const std::uint64_t in_cluster = geometry_.in_cluster(offset);
  const std::uint64_t first = entry_at(*table, index);
  const std::uint64_t host = first & ENTRY_OFFSET;
  piece.kind = kind_of(first);
  piece.entry = first;
  piece.host_offset = host + in_cluster;
  if (piece.kind != Kind::Compressed && geometry_.in_cluster(host) != 0)
    return corrupt(fmt::format("guest offset {:#x} leads to {:#x}", offset, host));
  std::uint64_t there = geometry_.cluster_size() - in_cluster;
  if (geometry_.extended_l2 && piece.kind != Kind::Compressed) {
    piece.length = std::min(piece.length, there);
    subcluster_piece(*table, index, offset, piece);
    if (piece.kind == Kind::Data && host == 0)
      return corrupt(fmt::format("guest offset {:#x} has subclusters without a place", offset));
    return std::optional(piece);
  }
  // As far as the same goes on.
  while (piece.kind != Kind::Compressed && there < piece.length && ++index < geometry_.l2_entries()) {
    const std::uint64_t entry = entry_at(*table, index);
    if (kind_of(entry) != piece.kind) break;
    if (piece.kind == Kind::Data && (entry & ENTRY_OFFSET) != piece.host_offset + there) break;
    there += geometry_.cluster_size();
  }
  piece.length = std::min(piece.length, there);
  return std::optional(piece);
}

}  // namespace veneer::disk::qcow2
