// Refcounts: how often each host cluster is used; allocation of free ones; growth of the refcount table.
//
// Not thread-safe: the image's lock is held around every call. Changes stay in memory until write_blocks() and the
// caller's commit (docs/disk.md has the order). Spec: "Host cluster management".
#pragma once

#include <cstdint>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/result.h"
#include "disk/host_file.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/table_cache.h"

namespace veneer::disk::qcow2 {

/// Host clusters that hold metadata, by number. A guest must never get one as data, whatever the image's tables say: it
/// could rewrite its own tables, or the header with the name of the backing file.
class MetadataClusters {
 public:
  /// False if some of them were there already.
  bool add(std::uint64_t first, std::uint64_t count) {
    bool all_new = true;
    for (std::uint64_t i = 0; i < count; ++i) all_new = set_.insert(first + i).second && all_new;
    return all_new;
  }
  void remove(std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) set_.erase(first + i);
  }
  bool contains(std::uint64_t cluster) const { return set_.contains(cluster); }
  void clear() { set_.clear(); }

 private:
  std::unordered_set<std::uint64_t> set_;
};

/// Entry `index` of a refcount block ("Refcount block entry").
std::uint64_t refcount_in_block(const std::byte* block, std::uint64_t index, std::uint32_t order);
void set_refcount_in_block(std::byte* block, std::uint64_t index, std::uint32_t order, std::uint64_t value);

class Refcounts {
 public:
  Refcounts(HostFile& file, Header& header, MetadataClusters& metadata);

  /// Reads the refcount table. Entries are judged when they are used.
  Result<void> load(std::uint64_t file_bytes);
  /// Registers table and blocks as metadata. Fails if they overlap with each other or something before.
  Result<void> register_metadata();

  Result<std::uint64_t> get(std::uint64_t cluster);
  Result<void> increase(std::uint64_t cluster);
  /// Refused with EIO when it is 0 already. True: it has become free.
  Result<bool> decrease(std::uint64_t cluster);

  struct Run {
    std::uint64_t first = 0;  ///< host cluster number
    std::uint64_t count = 0;
    bool fresh = false;  ///< nothing was ever written there: reads as zeros
  };
  /// Up to `want` free clusters in a row, at least one, with refcount 1 from now on.
  Result<Run> allocate(std::uint64_t want);
  /// Exactly `count` in a row, at the end of the file.
  Result<Run> allocate_exactly(std::uint64_t count);
  /// Takes back what allocate() gave and nothing ever referred to.
  void give_back(const Run& run);

  /// Writes dirty blocks (without a sync). On an error they stay dirty.
  Result<void> write_blocks();
  /// Table entries that point to new blocks, for the commit: {index, entry}. Cleared by mark_table_written().
  const std::vector<std::uint64_t>& new_table_entries() const { return new_entries_; }
  Result<void> write_table_entries(const std::vector<std::uint64_t>& indexes);
  void mark_table_written(const std::vector<std::uint64_t>& indexes) {
    for (const std::uint64_t index : indexes) std::erase(new_entries_, index);
  }
  bool dirty() const { return blocks_.dirty_count() != 0 || !new_entries_.empty(); }

  const std::vector<std::uint64_t>& table() const { return table_; }

 private:
  Result<TableCache::Table*> block(std::uint64_t index);
  Result<void> create_block(std::uint64_t index);
  Result<void> grow_table(std::uint64_t min_entries);
  Result<std::uint64_t> find_free(std::uint64_t from);
  Result<Run> allocate_long(std::uint64_t count);
  Result<void> ensure_block(std::uint64_t index);
  void set(TableCache::Table& table, std::uint64_t index, std::uint64_t value);
  Error damaged(std::string what) const;

  HostFile& file_;
  Header& header_;
  MetadataClusters& metadata_;
  Geometry geometry_;
  TableCache blocks_;
  std::vector<std::uint64_t> table_;
  std::vector<std::uint64_t> new_entries_;  ///< indexes
  std::uint64_t hint_ = 0;                  ///< no free cluster stands below
  std::uint64_t fresh_from_ = 0;            ///< clusters from here on were never written
};

}  // namespace veneer::disk::qcow2
