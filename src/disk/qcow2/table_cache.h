// TableCache: cluster-sized tables (L2 tables, refcount blocks) held in memory, bounded, written back by range.
//
// Not thread-safe: the image's lock is held around every call. Pointers stay valid until the next call of get(),
// create() or forget().
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "disk/host_file.h"

namespace veneer::disk::qcow2 {

class TableCache {
 public:
  struct Table {
    std::uint64_t offset = 0;  ///< in the host file
    std::vector<std::byte> bytes;
    std::size_t dirty_begin = 0, dirty_end = 0;  ///< bytes to be written; equal: clean
    bool being_written = false;                  ///< a copy is on its way to the disk: must not be evicted

    bool dirty() const { return dirty_begin != dirty_end; }
  };

  /// `capacity`: tables that are kept; more only while they are dirty.
  TableCache(HostFile& file, std::size_t table_bytes, std::size_t capacity)
      : file_(file), table_bytes_(table_bytes), capacity_(capacity) {}

  /// The table at that offset if it is in memory, else null. Never blocks.
  Table* find(std::uint64_t offset);
  /// The table at that offset, read if need be.
  Result<Table*> get(std::uint64_t offset);
  /// A new table of zeros at that offset, all of it dirty.
  Table* create(std::uint64_t offset);
  /// Drops a table, dirty or not: its place no longer holds a table.
  void forget(std::uint64_t offset);
  void forget_all();

  /// Bytes [begin, end) have changed and have to be written some time.
  void mark_dirty(Table& table, std::size_t begin, std::size_t end);
  void mark_clean(Table& table);
  /// Every dirty table. Valid until the next get() or create().
  std::vector<Table*> dirty_tables();
  std::size_t dirty_count() const { return dirty_count_; }
  std::size_t capacity() const { return capacity_; }

 private:
  using Entries = std::list<Table>;  ///< most recently used first
  Table* insert(std::uint64_t offset);

  HostFile& file_;
  std::size_t table_bytes_;
  std::size_t capacity_;
  std::size_t dirty_count_ = 0;
  Entries entries_;
  std::unordered_map<std::uint64_t, Entries::iterator> index_;
};

}  // namespace veneer::disk::qcow2
