// Making a qcow2 image durable, in an order that leaves it whole wherever it is cut off. docs/disk.md explains it.
//
//   1. refcount blocks                         sync   (and with it all data written so far)
//   2. refcount table, if blocks are new       sync
//   3. L2 tables                               sync, if L1 entries follow
//   4. L1 entries                              sync
//   5. in memory only: clusters that nothing refers to any more become free, once transfers to them have ended
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "disk/qcow2/endian.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {
namespace {
/// Freed clusters that wait for a commit before one is made for their sake.
constexpr std::uint64_t max_dropped_ranges = 65536;
}  // namespace

Result<void> Qcow2Image::flush() {
  if (options_.read_only) return {};
  std::uint64_t needed = 0;
  {
    const Lock lock(mutex_);
    needed = commits_begun_ + 1;
  }
  const std::lock_guard one_at_a_time(commit_mutex_);
  {
    const Lock lock(mutex_);
    if (commits_done_ >= needed) return {};  // one that began after this call did the work
  }
  return commit();
}

/// Tables changed in memory are bounded: beyond half of the cache they are written before more change.
Result<void> Qcow2Image::commit_if_crowded() {
  const auto crowded = [this] {
    const Lock lock(mutex_);
    return l2_.dirty_count() * 2 > l2_.capacity() || dropped_.size() > max_dropped_ranges;
  };
  if (!crowded()) return {};
  const std::lock_guard one_at_a_time(commit_mutex_);
  return crowded() ? commit() : Result<void>();
}

/// With commit_mutex_ held.
Result<void> Qcow2Image::commit() {
  std::uint64_t number = 0;
  {
    const Lock lock(mutex_);
    if (broken_) return Error(fmt::format("{} takes no more writes: {}", name_, *broken_)).with_code(EIO);
    number = ++commits_begun_;
  }
  TRY_VOID(commit_tables());
  TRY_VOID(release_dropped());
  const Lock lock(mutex_);
  commits_done_ = number;
  return {};
}

/// A sync that fails may have lost pages for good, and the next one would not say so: stop writing for good as well.
Result<void> Qcow2Image::sync_file() {
  Result<void> synced = file_->sync();
  if (synced.ok()) return synced;
  const Lock lock(mutex_);
  broken_ = fmt::format("a flush failed ({})", synced.error().message());
  return synced;
}

Result<void> Qcow2Image::commit_tables() {
  struct Stretch {
    std::uint64_t table;  ///< offset of the L2 table
    std::size_t begin;
    std::vector<std::byte> bytes;
  };
  std::vector<Stretch> pieces;
  std::vector<std::uint64_t> table_entries;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> l1_entries;
  std::vector<Dropped> dropped;
  {
    const Lock lock(mutex_);
    TRY_VOID(refcounts_.write_blocks());
    table_entries = refcounts_.new_table_entries();
    for (Table* table : l2_.dirty_tables()) {
      const std::size_t begin = align_down(table->dirty_begin, 512);
      const std::size_t end = align_up(table->dirty_end, 512);
      pieces.push_back({table->offset,
                        begin,
                        {table->bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                         table->bytes.begin() + static_cast<std::ptrdiff_t>(end)}});
      table->being_written = true;
      l2_.mark_clean(*table);
    }
    for (const std::uint64_t index : l1_dirty_) l1_entries.emplace_back(index, l1_[index]);
    l1_dirty_.clear();
    dropped.swap(dropped_);
  }

  const auto write_out = [&]() -> Result<void> {
    TRY_VOID(sync_file());
    if (!table_entries.empty()) {
      {
        const Lock lock(mutex_);
        TRY_VOID(refcounts_.write_table_entries(table_entries));
        refcounts_.mark_table_written(table_entries);
      }
      TRY_VOID(sync_file());
    }
    if (pieces.empty() && l1_entries.empty()) return {};
    for (const Stretch& piece : pieces) TRY_VOID(file_->write_bytes(piece.table + piece.begin, piece.bytes));
    if (!l1_entries.empty()) {
      if (!pieces.empty()) TRY_VOID(sync_file());
      const Lock lock(mutex_);
      for (const auto& [index, entry] : l1_entries) {
        std::byte raw[8];
        store_be<std::uint64_t>(raw, entry);
        TRY_VOID(file_->write_bytes(header_.l1_offset + index * 8, raw));
      }
    }
    return sync_file();
  };
  Result<void> written = write_out();

  const Lock lock(mutex_);
  for (const Stretch& piece : pieces) {
    Table* table = l2_.find(piece.table);
    if (table == nullptr) continue;  // dropped meanwhile
    table->being_written = false;
    if (!written.ok()) l2_.mark_dirty(*table, piece.begin, piece.begin + piece.bytes.size());
  }
  if (!written.ok()) {
    // All of it again next time. Writing an entry twice harms nobody.
    for (const auto& [index, entry] : l1_entries) l1_dirty_.push_back(index);
    dropped_.insert(dropped_.end(), dropped.begin(), dropped.end());
    return written;
  }
  if (!dropped.empty()) {
    const std::uint64_t epoch = leases_.next_epoch();
    for (const Dropped& range : dropped) draining_.emplace_back(epoch, range);
  }
  return {};
}

/// Clusters that neither memory nor disk refers to, and no transfer uses, are free again.
Result<void> Qcow2Image::release_dropped() {
  std::vector<Dropped> free;
  {
    const Lock lock(mutex_);
    const auto rest = std::partition(draining_.begin(), draining_.end(),
                                     [&](const auto& waiting) { return !leases_.drained(waiting.first); });
    for (auto it = rest; it != draining_.end(); ++it) free.push_back(it->second);
    draining_.erase(rest, draining_.end());
  }
  if (free.empty()) return {};
  // Space goes back to the host before anybody can be given these clusters. Shared ones must stay.
  for (const Dropped& range : free) {
    if (!range.punch) continue;
    bool alone = true;
    {
      const Lock lock(mutex_);
      for (std::uint64_t i = 0; i < range.count && alone; ++i) {
        const auto count = refcounts_.get(range.first + i);
        alone = count.ok() && count.value() == 1 && !metadata_.contains(range.first + i);
      }
    }
    if (!alone) continue;
    if (const auto done = file_->discard(range.first << geometry_.cluster_bits, range.count << geometry_.cluster_bits);
        !done)
      log_warning("{}", done.error().message());
  }
  {
    const std::lock_guard lock(decompressed_mutex_);
    decompressed_.clear();  // its place may come to hold something else
  }
  const Lock lock(mutex_);
  for (const Dropped& range : free)
    for (std::uint64_t i = 0; i < range.count; ++i) {
      const std::uint64_t cluster = range.first + i;
      // Else a hostile table could have the guest free, and then be given, the header.
      if (!range.table && metadata_.contains(cluster))
        return corrupt(fmt::format("data stood in metadata at {:#x}", cluster << geometry_.cluster_bits));
      auto freed = refcounts_.decrease(cluster);
      if (!freed) return corrupt(freed.error().message());
      if (range.table && freed.value()) {
        metadata_.remove(cluster, 1);
        l2_.forget(cluster << geometry_.cluster_bits);
      }
    }
  return {};
}

}  // namespace veneer::disk::qcow2
