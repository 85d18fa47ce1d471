// TableCache: least recently used tables leave, but only clean ones.
#include "disk/qcow2/table_cache.h"

#include <algorithm>

namespace veneer::disk::qcow2 {

TableCache::Table* TableCache::find(std::uint64_t offset) {
  if (!entries_.empty() && entries_.front().offset == offset) return &entries_.front();
  const auto found = index_.find(offset);
  if (found == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return &entries_.front();
}

Result<TableCache::Table*> TableCache::get(std::uint64_t offset) {
  if (Table* table = find(offset)) return table;
  Table* table = insert(offset);
  if (auto read = file_.read_bytes(offset, table->bytes); !read) {
    forget(offset);
    return std::move(read).error();
  }
  return table;
}

TableCache::Table* TableCache::create(std::uint64_t offset) {
  forget(offset);
  Table* table = insert(offset);
  std::fill(table->bytes.begin(), table->bytes.end(), std::byte{0});
  mark_dirty(*table, 0, table_bytes_);
  return table;
}

void TableCache::mark_dirty(Table& table, std::size_t begin, std::size_t end) {
  if (!table.dirty()) {
    table.dirty_begin = begin;
    table.dirty_end = end;
    ++dirty_count_;
    return;
  }
  table.dirty_begin = std::min(table.dirty_begin, begin);
  table.dirty_end = std::max(table.dirty_end, end);
}

void TableCache::mark_clean(Table& table) {
  if (!table.dirty()) return;
  table.dirty_begin = table.dirty_end = 0;
  --dirty_count_;
}

TableCache::Table* TableCache::insert(std::uint64_t offset) {
  if (entries_.size() >= capacity_) {
    // Reuse the oldest clean table's memory; look at a few only, so that a cache full of dirty ones costs little.
    int looked_at = 0;
    for (auto it = entries_.end(); it != entries_.begin() && looked_at < 16; ++looked_at) {
      --it;
      if (it->dirty() || it->being_written) continue;
      index_.erase(it->offset);
      entries_.splice(entries_.begin(), entries_, it);
      entries_.front().offset = offset;
      index_[offset] = entries_.begin();
      return &entries_.front();
    }
  }
  entries_.emplace_front();
  entries_.front().offset = offset;
  entries_.front().bytes.resize(table_bytes_);
  index_[offset] = entries_.begin();
  return &entries_.front();
}

void TableCache::forget(std::uint64_t offset) {
  const auto found = index_.find(offset);
  if (found == index_.end()) return;
  mark_clean(*found->second);
  entries_.erase(found->second);
  index_.erase(found);
}

void TableCache::forget_all() {
  entries_.clear();
  index_.clear();
  dirty_count_ = 0;
}

std::vector<TableCache::Table*> TableCache::dirty_tables() {
  std::vector<Table*> tables;
  for (Table& table : entries_)
    if (table.dirty()) tables.push_back(&table);
  return tables;
}

}  // namespace veneer::disk::qcow2
