// Refcounts: widths, allocation, new blocks, a larger table.
#include "disk/qcow2/refcounts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "disk/qcow2/endian.h"

namespace veneer::disk::qcow2 {

std::uint64_t refcount_in_block(const std::byte* block, std::uint64_t index, std::uint32_t order) {
  switch (order) {
    case 3:
      return std::to_integer<std::uint64_t>(block[index]);
    case 4:
      return load_be<std::uint16_t>(block + index * 2);
    case 5:
      return load_be<std::uint32_t>(block + index * 4);
    case 6:
      return load_be<std::uint64_t>(block + index * 8);
    default: {
      // Less than a byte: bit 0 of the byte belongs to the first of them.
      const unsigned bits = 1u << order;
      const unsigned per_byte = 8 / bits;
      const unsigned shift = static_cast<unsigned>(index % per_byte) * bits;
      return (std::to_integer<unsigned>(block[index / per_byte]) >> shift) & ((1u << bits) - 1);
    }
  }
}

void set_refcount_in_block(std::byte* block, std::uint64_t index, std::uint32_t order, std::uint64_t value) {
  switch (order) {
    case 3:
      block[index] = static_cast<std::byte>(value);
      return;
    case 4:
      return store_be<std::uint16_t>(block + index * 2, static_cast<std::uint16_t>(value));
    case 5:
      return store_be<std::uint32_t>(block + index * 4, static_cast<std::uint32_t>(value));
    case 6:
      return store_be<std::uint64_t>(block + index * 8, value);
    default: {
      const unsigned bits = 1u << order;
      const unsigned per_byte = 8 / bits;
      const unsigned shift = static_cast<unsigned>(index % per_byte) * bits;
      const unsigned mask = ((1u << bits) - 1) << shift;
      const unsigned old = std::to_integer<unsigned>(block[index / per_byte]);
      block[index / per_byte] =
          static_cast<std::byte>((old & ~mask) | ((static_cast<unsigned>(value) << shift) & mask));
      return;
    }
  }
}

namespace {
std::size_t cache_tables(const Geometry& geometry) {
  return std::max<std::size_t>(8, (8 * MiB) >> geometry.cluster_bits);
}
}  // namespace

Refcounts::Refcounts(HostFile& file, Header& header, MetadataClusters& metadata)
    : file_(file),
      header_(header),
      metadata_(metadata),
      geometry_(header.geometry),
      blocks_(file, header.geometry.cluster_size(), cache_tables(header.geometry)) {}

Error Refcounts::damaged(std::string what) const {
  return Error(fmt::format("{}: the image's refcounts are damaged: {}. Run veneer disk check --repair all on it",
                           file_.path(), what))
      .with_code(EIO);
}

Result<void> Refcounts::load(std::uint64_t file_bytes) {
  std::vector<std::byte> raw(std::uint64_t{header_.refcount_table_clusters} << geometry_.cluster_bits);
  TRY_VOID(file_.read_bytes(header_.refcount_table_offset, raw));
  table_.resize(raw.size() / 8);
  for (std::size_t i = 0; i < table_.size(); ++i) table_[i] = load_be<std::uint64_t>(raw.data() + i * 8);
  fresh_from_ = geometry_.clusters(file_bytes);
  return {};
}

Result<void> Refcounts::register_metadata() {
  if (!metadata_.add(header_.refcount_table_offset >> geometry_.cluster_bits, header_.refcount_table_clusters))
    return damaged("the refcount table overlaps with other tables");
  for (const std::uint64_t entry : table_) {
    if (entry == 0) continue;
    if (geometry_.in_cluster(entry) != 0 || entry >= max_host_offset ||
        !metadata_.add(entry >> geometry_.cluster_bits, 1))
      return damaged(fmt::format("the refcount block at {:#x} cannot stand there", entry));
  }
  return {};
}

Result<TableCache::Table*> Refcounts::block(std::uint64_t index) {
  const std::uint64_t entry = table_[index];
  if (geometry_.in_cluster(entry) != 0 || entry >= max_host_offset)
    return damaged(fmt::format("entry {} of the refcount table is {:#x}", index, entry));
  return blocks_.get(entry);
}

void Refcounts::set(TableCache::Table& table, std::uint64_t index, std::uint64_t value) {
  set_refcount_in_block(table.bytes.data(), index, geometry_.refcount_order, value);
  const std::uint64_t bits = geometry_.refcount_bits();
  blocks_.mark_dirty(table, index * bits / 8, ((index + 1) * bits + 7) / 8);
}

Result<std::uint64_t> Refcounts::get(std::uint64_t cluster) {
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  const std::uint64_t index = cluster / per_block;
  if (index >= table_.size() || table_[index] == 0) return std::uint64_t{0};
  TRY(TableCache::Table * table, block(index));
  return refcount_in_block(table->bytes.data(), cluster % per_block, geometry_.refcount_order);
}

Result<void> Refcounts::increase(std::uint64_t cluster) {
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  TRY_VOID(ensure_block(cluster / per_block));
  TRY(TableCache::Table * table, block(cluster / per_block));
  const std::uint64_t now = refcount_in_block(table->bytes.data(), cluster % per_block, geometry_.refcount_order);
  if (now >= geometry_.max_refcount())
    return Error(fmt::format(
                     "{}: a cluster is used {} times already, more cannot be counted in {} bits. Convert the image "
                     "to one with wider refcounts",
                     file_.path(), now, geometry_.refcount_bits()))
        .with_code(EOVERFLOW);
  set(*table, cluster % per_block, now + 1);
  return {};
}

Result<bool> Refcounts::decrease(std::uint64_t cluster) {
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  const std::uint64_t index = cluster / per_block;
  if (index >= table_.size() || table_[index] == 0)
    return damaged(fmt::format("cluster {:#x} was in use with refcount 0", cluster << geometry_.cluster_bits));
  TRY(TableCache::Table * table, block(index));
  const std::uint64_t now = refcount_in_block(table->bytes.data(), cluster % per_block, geometry_.refcount_order);
  if (now == 0)
    return damaged(fmt::format("cluster {:#x} was in use with refcount 0", cluster << geometry_.cluster_bits));
  set(*table, cluster % per_block, now - 1);
  if (now == 1) hint_ = std::min(hint_, cluster);
  return now == 1;
}

/// A block for clusters that none describes yet. It stands in the first of them, so it describes itself: no other block
/// has to change, and none of these clusters can be in use.
Result<void> Refcounts::create_block(std::uint64_t index) {
  const std::uint64_t cluster = index * geometry_.refcounts_per_block();
  const std::uint64_t offset = cluster << geometry_.cluster_bits;
  if (metadata_.contains(cluster)) return damaged(fmt::format("metadata at {:#x} is not counted", offset));
  if (offset >= max_host_offset)
    return Error(fmt::format("{}: the image file has grown to its limit", file_.path())).with_code(EFBIG);
  TableCache::Table* table = blocks_.create(offset);
  set(*table, 0, 1);
  metadata_.add(cluster, 1);
  table_[index] = offset;
  new_entries_.push_back(index);
  fresh_from_ = std::max(fresh_from_, cluster + 1);
  return {};
}

/// A larger table, with the blocks that count it and themselves, behind everything that the old one could describe. The
/// header changes last, and only after a sync, so the image is whole at every moment.
Result<void> Refcounts::grow_table(std::uint64_t min_entries) {
  const std::uint64_t old_entries = table_.size();
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  const std::uint64_t entries_per_cluster = geometry_.cluster_size() / 8;
  const std::uint64_t first = old_entries * per_block;
  std::uint64_t blocks = 1, clusters = 0;
  for (;; ++blocks) {
    const std::uint64_t entries = std::max({min_entries, old_entries + blocks, old_entries + old_entries / 2});
    clusters = (entries + entries_per_cluster - 1) / entries_per_cluster;
    if (blocks * per_block >= blocks + clusters) break;
  }
  if ((clusters << geometry_.cluster_bits) > max_refcount_table_bytes ||
      ((first + blocks + clusters) << geometry_.cluster_bits) >= max_host_offset)
    return Error(fmt::format(
                     "{}: the image file has grown to the limit for clusters of {} bytes. Convert the image to one "
                     "with larger clusters",
                     file_.path(), geometry_.cluster_size()))
        .with_code(EFBIG);

  // Blocks that only memory knows must not be lost with the old table.
  TRY_VOID(write_blocks());
  std::vector<std::uint64_t> table = table_;
  table.resize(clusters * entries_per_cluster);
  const std::uint64_t used = blocks + clusters;
  for (std::uint64_t b = 0; b < blocks; ++b) {
    std::vector<std::byte> bytes(geometry_.cluster_size());
    for (std::uint64_t i = 0; i < per_block && b * per_block + i < used; ++i)
      set_refcount_in_block(bytes.data(), i, geometry_.refcount_order, 1);
    const std::uint64_t offset = (first + b) << geometry_.cluster_bits;
    TRY_VOID(file_.write_bytes(offset, bytes));
    table[old_entries + b] = offset;
  }
  std::vector<std::byte> raw(clusters << geometry_.cluster_bits);
  for (std::size_t i = 0; i < table.size(); ++i) store_be<std::uint64_t>(raw.data() + i * 8, table[i]);
  const std::uint64_t table_at = (first + blocks) << geometry_.cluster_bits;
  TRY_VOID(file_.write_bytes(table_at, raw));
  TRY_VOID(file_.sync());
  std::byte fields[12];
  store_be<std::uint64_t>(fields, table_at);
  store_be<std::uint32_t>(fields + 8, static_cast<std::uint32_t>(clusters));
  TRY_VOID(file_.write_bytes(header_at_refcount_table, fields));
  TRY_VOID(file_.sync());

  const std::uint64_t old_first = header_.refcount_table_offset >> geometry_.cluster_bits;
  const std::uint64_t old_count = header_.refcount_table_clusters;
  header_.refcount_table_offset = table_at;
  header_.refcount_table_clusters = static_cast<std::uint32_t>(clusters);
  table_ = std::move(table);
  new_entries_.clear();
  metadata_.add(first, used);
  metadata_.remove(old_first, old_count);
  fresh_from_ = std::max(fresh_from_, first + used);
  for (std::uint64_t i = 0; i < old_count; ++i)
    if (auto freed = decrease(old_first + i); !freed) return std::move(freed).error();
  return {};
}

Result<void> Refcounts::ensure_block(std::uint64_t index) {
  if (index >= table_.size()) TRY_VOID(grow_table(index + 1));
  if (table_[index] == 0) TRY_VOID(create_block(index));
  return {};
}

Result<std::uint64_t> Refcounts::find_free(std::uint64_t from) {
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  for (std::uint64_t cluster = from;;) {
    const std::uint64_t index = cluster / per_block;
    TRY_VOID(ensure_block(index));
    TRY(const TableCache::Table* table, block(index));
    for (std::uint64_t i = cluster % per_block; i < per_block; ++i)
      if (refcount_in_block(table->bytes.data(), i, geometry_.refcount_order) == 0) return index * per_block + i;
    cluster = (index + 1) * per_block;
  }
}

Result<Refcounts::Run> Refcounts::allocate(std::uint64_t want) {
  TRY(const std::uint64_t first, find_free(hint_));
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  TRY(TableCache::Table * table, block(first / per_block));
  std::uint64_t count = 0;
  for (std::uint64_t i = first % per_block; i < per_block && count < want; ++i, ++count)
    if (refcount_in_block(table->bytes.data(), i, geometry_.refcount_order) != 0) break;
  for (std::uint64_t i = 0; i < count; ++i)
    if (metadata_.contains(first + i))
      return damaged(fmt::format("metadata at {:#x} is not counted", (first + i) << geometry_.cluster_bits));
  if (((first + count) << geometry_.cluster_bits) > max_host_offset)
    return Error(fmt::format("{}: the image file has grown to its limit", file_.path())).with_code(EFBIG);
  for (std::uint64_t i = 0; i < count; ++i) set(*table, first % per_block + i, 1);
  hint_ = first + count;
  const bool fresh = first >= fresh_from_;
  fresh_from_ = std::max(fresh_from_, first + count);
  return Run{first, count, fresh};
}

/// For runs that are longer than what one block counts: behind everything, with all the blocks that count them in
/// front. (Blocks usually stand in the first cluster of their range, in the middle of such a run.)
Result<Refcounts::Run> Refcounts::allocate_long(std::uint64_t count) {
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  std::uint64_t blocks = 1;
  while (blocks * per_block < blocks + count) ++blocks;
  std::uint64_t index = 0;
  while (true) {
    index = (std::max(fresh_from_, hint_) + per_block - 1) / per_block;
    for (std::uint64_t i = index; i < table_.size(); ++i)
      if (table_[i] != 0) index = i + 1;
    if (index + blocks <= table_.size()) break;
    TRY_VOID(grow_table(index + blocks));  // takes space as well: look again
  }
  const std::uint64_t first = index * per_block;
  if (((first + blocks + count) << geometry_.cluster_bits) > max_host_offset)
    return Error(fmt::format("{}: the image file has grown to its limit", file_.path())).with_code(EFBIG);
  for (std::uint64_t b = 0; b < blocks; ++b) {
    const std::uint64_t offset = (first + b) << geometry_.cluster_bits;
    blocks_.create(offset);
    table_[index + b] = offset;
    new_entries_.push_back(index + b);
  }
  metadata_.add(first, blocks);
  for (std::uint64_t i = 0; i < blocks + count; ++i) TRY_VOID(increase(first + i));
  fresh_from_ = std::max(fresh_from_, first + blocks + count);
  return Run{first + blocks, count, false};
}

Result<Refcounts::Run> Refcounts::allocate_exactly(std::uint64_t count) {
  if (count >= geometry_.refcounts_per_block()) return allocate_long(count);
  // Behind everything ever used: no search for a hole that is large enough. Blocks may be needed in between; each takes
  // the first cluster of its range, so a run that meets one starts again behind it.
  std::uint64_t first = std::max(fresh_from_, hint_);
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  for (std::uint64_t i = 0; i < count;) {
    TRY_VOID(ensure_block((first + i) / per_block));
    TRY(const std::uint64_t now, get(first + i));
    if (now != 0) {
      first = first + i + 1;
      i = 0;
    } else {
      ++i;
    }
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    if (metadata_.contains(first + i))
      return damaged(fmt::format("metadata at {:#x} is not counted", (first + i) << geometry_.cluster_bits));
    TRY_VOID(increase(first + i));
  }
  fresh_from_ = std::max(fresh_from_, first + count);
  return Run{first, count, false};
}

void Refcounts::give_back(const Run& run) {
  for (std::uint64_t i = 0; i < run.count; ++i)
    if (auto free = decrease(run.first + i); !free) return;  // at worst a leak
}

Result<void> Refcounts::write_blocks() {
  for (TableCache::Table* table : blocks_.dirty_tables()) {
    // Whole sectors: smaller writes would be turned into them anyway.
    const std::size_t begin = align_down(table->dirty_begin, 512);
    const std::size_t end = align_up(table->dirty_end, 512);
    TRY_VOID(file_.write_bytes(table->offset + begin, std::span(table->bytes).subspan(begin, end - begin)));
    blocks_.mark_clean(*table);
  }
  return {};
}

Result<void> Refcounts::write_table_entries(const std::vector<std::uint64_t>& indexes) {
  for (const std::uint64_t index : indexes) {
    std::byte raw[8];
    store_be<std::uint64_t>(raw, table_[index]);
    TRY_VOID(file_.write_bytes(header_.refcount_table_offset + index * 8, raw));
  }
  return {};
}

}  // namespace veneer::disk::qcow2
