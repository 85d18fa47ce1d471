// Internal snapshots of a qcow2 image: create, apply, delete. Alone: nothing else runs on the image.
//
// All three change many refcounts and COPIED flags, which agree again only at the end. Meanwhile the dirty bit stands
// in a version 3 header: a kill in between makes the next opening count all references anew, from tables that are whole
// at every moment because the header's fields change last. Version 2 has no such bit; there a kill leaves leaks and
// flags that veneer disk check --repair all mends.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "disk/qcow2/endian.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {

Result<std::size_t> Qcow2Image::find_snapshot(const std::string& id_or_name) const {
  for (const auto field : {&Snapshot::id, &Snapshot::name})
    for (std::size_t i = 0; i < snapshots_.size(); ++i)
      if (snapshots_[i].*field == id_or_name) return i;
  return Error(fmt::format("{} has no snapshot \"{}\" (veneer disk snapshot list shows them)", name_, id_or_name))
      .with_code(ENOENT);
}

Result<void> Qcow2Image::set_dirty(bool dirty) {
  if (header_.version < 3) return {};
  header_.incompatible = dirty ? header_.incompatible | INCOMPATIBLE_DIRTY : header_.incompatible & ~INCOMPATIBLE_DIRTY;
  std::byte field[8];
  store_be<std::uint64_t>(field, header_.incompatible);
  TRY_VOID(file_->sync());
  TRY_VOID(file_->write_bytes(header_at_incompatible, field));
  return file_->sync();
}

/// Adds one (delta 1) or takes one (-1) reference of everything that an L1 table leads to.
Result<void> Qcow2Image::count_references(std::uint64_t l1_offset, std::uint64_t l1_entries, int delta) {
  TRY(const std::vector<std::uint64_t> l1, read_l1(l1_offset, l1_entries));
  const auto change = [&](std::uint64_t cluster) -> Result<void> {
    if (delta > 0) return refcounts_.increase(cluster);
    TRY(const bool free, refcounts_.decrease(cluster));
    if (free) l2_.forget(cluster << geometry_.cluster_bits);
    return {};
  };
  for (const std::uint64_t l1_entry : l1) {
    const std::uint64_t offset = l1_entry & ENTRY_OFFSET;
    if (offset == 0) continue;
    if (geometry_.in_cluster(offset) != 0) return corrupt(fmt::format("an L1 table leads to {:#x}", offset));
    TRY(const Table* found, l2_.get(offset));
    const Table table = *found;  // a copy: change() may drop it
    TRY_VOID(change(offset >> geometry_.cluster_bits));
    for (std::uint64_t i = 0; i < geometry_.l2_entries(); ++i) {
      const std::uint64_t entry = entry_at(table, i);
      if (entry & ENTRY_COMPRESSED) {
        const CompressedPlace place = CompressedPlace::decode(entry, geometry_);
        const std::uint64_t last = (place.offset + place.length - 1) >> geometry_.cluster_bits;
        for (std::uint64_t c = place.offset >> geometry_.cluster_bits; c <= last; ++c) TRY_VOID(change(c));
      } else if ((entry & ENTRY_OFFSET) != 0) {
        TRY_VOID(change((entry & ENTRY_OFFSET) >> geometry_.cluster_bits));
      }
    }
  }
  return {};
}

/// COPIED flags of the active tables from the refcounts.
Result<void> Qcow2Image::refresh_copied() {
  for (std::uint64_t i = 0; i < l1_.size(); ++i) {
    const std::uint64_t offset = l1_[i] & ENTRY_OFFSET;
    if (offset == 0) continue;
    TRY(const std::uint64_t users, refcounts_.get(offset >> geometry_.cluster_bits));
    const std::uint64_t l1_entry = offset | (users == 1 ? ENTRY_COPIED : 0);
    if (l1_entry != l1_[i]) {
      l1_[i] = l1_entry;
      l1_dirty_.push_back(i);
    }
    TRY(Table * table, l2_for_reading(i));
    for (std::uint64_t k = 0; k < geometry_.l2_entries(); ++k) {
      const std::uint64_t entry = entry_at(*table, k);
      if ((entry & ENTRY_COMPRESSED) || (entry & ENTRY_OFFSET) == 0) continue;
      TRY(const std::uint64_t count, refcounts_.get((entry & ENTRY_OFFSET) >> geometry_.cluster_bits));
      const std::uint64_t wanted = count == 1 ? entry | ENTRY_COPIED : entry & ~ENTRY_COPIED;
      if (wanted != entry) set_entry(*table, k, wanted);
    }
  }
  return {};
}

/// A new snapshot table, then the header's fields that name it, then the old table is free.
Result<void> Qcow2Image::write_snapshots(std::vector<Snapshot> snapshots) {
  const std::vector<std::byte> bytes = serialize_snapshot_table(snapshots);
  std::uint64_t offset = 0;
  if (!bytes.empty()) {
    TRY(const Refcounts::Run run, refcounts_.allocate_exactly(geometry_.clusters(bytes.size())));
    offset = run.first << geometry_.cluster_bits;
    std::vector<std::byte> padded(run.count << geometry_.cluster_bits);
    std::copy(bytes.begin(), bytes.end(), padded.begin());
    TRY_VOID(file_->write_bytes(offset, padded));
  }
  TRY_VOID(refcounts_.write_blocks());
  TRY_VOID(file_->sync());
  TRY_VOID(refcounts_.write_table_entries(refcounts_.new_table_entries()));
  refcounts_.mark_table_written(std::vector(refcounts_.new_table_entries()));
  std::byte fields[12];
  store_be<std::uint32_t>(fields, static_cast<std::uint32_t>(snapshots.size()));
  store_be<std::uint64_t>(fields + 4, offset);
  TRY_VOID(file_->sync());
  TRY_VOID(file_->write_bytes(header_at_snapshots, fields));
  TRY_VOID(file_->sync());
  if (header_.snapshots != 0) free_clusters(header_.snapshots_offset, serialize_snapshot_table(snapshots_).size());
  header_.snapshots = static_cast<std::uint32_t>(snapshots.size());
  header_.snapshots_offset = offset;
  snapshots_ = std::move(snapshots);
  return {};
}

Result<void> Qcow2Image::create_snapshot(const std::string& snapshot_name) {
  TRY_VOID(check_writable(0, 0));
  if (snapshot_name.empty() || snapshot_name.size() > 255)
    return Error("a snapshot's name has 1 to 255 bytes").with_code(EINVAL);
  for (const Snapshot& other : snapshots_)
    if (other.name == snapshot_name)
      return Error(fmt::format("{} already has a snapshot \"{}\"", name_, snapshot_name)).with_code(EEXIST);
  if (snapshots_.size() >= max_snapshots)
    return Error(fmt::format("{}: has too many snapshots", name_)).with_code(EFBIG);
  if (geometry_.refcount_order == 0)
    return Error(fmt::format("{}: refcounts of one bit cannot count snapshots. Convert the image", name_))
        .with_code(ENOTSUP);
  TRY_VOID(flush());
  TRY_VOID(flush());
  TRY_VOID(set_dirty(true));
  Snapshot snapshot;
  {
    const Lock lock(mutex_);
    TRY(const Refcounts::Run run,
        refcounts_.allocate_exactly(std::max<std::uint64_t>(geometry_.clusters(l1_.size() * 8), 1)));
    snapshot.l1_offset = run.first << geometry_.cluster_bits;
    snapshot.l1_entries = static_cast<std::uint32_t>(l1_.size());
    std::vector<std::uint64_t> copy = l1_;
    for (std::uint64_t& entry : copy) entry &= ~ENTRY_COPIED;
    TRY_VOID(write_l1(snapshot.l1_offset, copy));
    TRY_VOID(count_references(snapshot.l1_offset, snapshot.l1_entries, 1));
    std::uint64_t id = 0;
    for (const Snapshot& other : snapshots_) id = std::max<std::uint64_t>(id, strtoull(other.id.c_str(), nullptr, 10));
    snapshot.id = std::to_string(id + 1);
    snapshot.name = snapshot_name;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    snapshot.date_seconds = static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
    snapshot.date_nanoseconds =
        static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() % 1'000'000'000);
    snapshot.disk_bytes = header_.size_bytes;
    TRY_VOID(refresh_copied());
    std::vector<Snapshot> list = snapshots_;
    list.push_back(snapshot);
    TRY_VOID(write_snapshots(std::move(list)));
    TRY_VOID(register_metadata());
  }
  TRY_VOID(flush());
  return set_dirty(false);
}

Result<void> Qcow2Image::apply_snapshot(const std::string& id_or_name) {
  TRY_VOID(check_writable(0, 0));
  TRY(const std::size_t which, find_snapshot(id_or_name));
  const Snapshot snapshot = snapshots_[which];
  const std::uint64_t needed = (snapshot.disk_bytes + geometry_.l2_covers() - 1) / geometry_.l2_covers();
  if (needed > snapshot.l1_entries)
    return Error(fmt::format("{}: the snapshot's table is too small for its disk", name_)).with_code(EIO);
  TRY_VOID(flush());
  TRY_VOID(flush());
  TRY_VOID(set_dirty(true));
  {
    const Lock lock(mutex_);
    TRY_VOID(count_references(snapshot.l1_offset, snapshot.l1_entries, 1));
    TRY(std::vector<std::uint64_t> table, read_l1(snapshot.l1_offset, snapshot.l1_entries));
    if (table.size() < l1_.size()) table.resize(l1_.size());
    TRY(const Refcounts::Run run, refcounts_.allocate_exactly(geometry_.clusters(table.size() * 8)));
    const std::uint64_t offset = run.first << geometry_.cluster_bits;
    TRY_VOID(write_l1(offset, table));
    TRY_VOID(refcounts_.write_blocks());
    TRY_VOID(file_->sync());
    TRY_VOID(refcounts_.write_table_entries(refcounts_.new_table_entries()));
    refcounts_.mark_table_written(std::vector(refcounts_.new_table_entries()));
    TRY_VOID(file_->sync());
    const std::uint64_t old_offset = header_.l1_offset;
    const std::uint64_t old_entries = header_.l1_entries;
    TRY_VOID(switch_l1(offset, table.size(), snapshot.disk_bytes));
    l1_ = std::move(table);
    l1_dirty_.clear();
    TRY_VOID(count_references(old_offset, old_entries, -1));
    free_clusters(old_offset, old_entries * 8);
    TRY_VOID(refresh_copied());
    TRY_VOID(register_metadata());
    const std::lock_guard other(decompressed_mutex_);
    decompressed_.clear();
  }
  TRY_VOID(flush());
  return set_dirty(false);
}

Result<void> Qcow2Image::delete_snapshot(const std::string& id_or_name) {
  TRY_VOID(check_writable(0, 0));
  TRY(const std::size_t which, find_snapshot(id_or_name));
  const Snapshot snapshot = snapshots_[which];
  TRY_VOID(flush());
  TRY_VOID(flush());
  TRY_VOID(set_dirty(true));
  {
    const Lock lock(mutex_);
    std::vector<Snapshot> list = snapshots_;
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(which));
    TRY_VOID(write_snapshots(std::move(list)));
    TRY_VOID(count_references(snapshot.l1_offset, snapshot.l1_entries, -1));
    free_clusters(snapshot.l1_offset, std::uint64_t{snapshot.l1_entries} * 8);
    TRY_VOID(refresh_copied());
    TRY_VOID(register_metadata());
  }
  TRY_VOID(flush());
  return set_dirty(false);
}

}  // namespace veneer::disk::qcow2
