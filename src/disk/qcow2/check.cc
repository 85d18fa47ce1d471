// Checking and repairing a qcow2 image.
#include "disk/qcow2/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "disk/qcow2/endian.h"
#include "disk/qcow2/refcounts.h"
#include "disk/qcow2/reference_map.h"
#include "disk/qcow2/snapshot_table.h"

namespace veneer::disk::qcow2 {
namespace {

constexpr std::size_t max_messages = 100;

class Checker {
 public:
  Checker(HostFile& file, Header& header, Repair repair)
      : file_(file), header_(header), geometry_(header.geometry), repair_(repair) {}
  Result<CheckReport> run();

 private:
  struct Table {
    std::uint64_t offset = 0;
    std::vector<std::uint64_t> entries;
  };

  void note(std::string message) {
    if (report_.messages.size() < max_messages)
      report_.messages.push_back(std::move(message));
    else
      ++report_.messages_left_out;
  }
  void corruption(std::string message, bool fixed) {
    ++report_.corruptions;
    if (fixed) ++report_.corruptions_fixed;
    note(std::move(message));
  }
  bool repairs_all() const { return repair_ == Repair::All; }
  /// A cluster-aligned place within the file.
  bool valid(std::uint64_t offset) const {
    return offset != 0 && geometry_.in_cluster(offset) == 0 && offset < max_host_offset && offset < file_bytes_;
  }
  Result<void> use(std::uint64_t offset, std::uint64_t bytes);
  Result<void> use_metadata(std::uint64_t offset, std::uint64_t bytes);
  Result<std::vector<std::uint64_t>> read_table(std::uint64_t offset, std::uint64_t entries);
  Result<void> write_entry(std::uint64_t offset, std::uint64_t value);

  Result<void> count_tree(std::string_view whose, std::uint64_t l1_offset, std::uint64_t l1_entries, bool active);
  Result<void> count_l2(std::string_view whose, std::uint64_t offset, bool active);
  /// Why a standard or compressed entry cannot be, or null.
  const char* judge_entry(std::uint64_t entry) const;
  Result<void> count_bitmaps();
  Result<void> load_refcounts();
  Result<std::uint64_t> stored(std::uint64_t cluster);
  Result<void> compare();
  Result<void> rebuild();
  Result<void> check_copied();
  Result<void> clear_marks();

  HostFile& file_;
  Header& header_;
  Geometry geometry_;
  Repair repair_;
  CheckReport report_;
  std::uint64_t file_bytes_ = 0;
  ReferenceMap references_;  ///< without the refcount structures themselves
  MetadataClusters metadata_;
  std::vector<std::uint64_t> refcount_table_;
  std::uint64_t block_index_ = ~std::uint64_t{0};
  std::vector<std::byte> block_;
  bool must_rebuild_ = false;
};

Result<void> Checker::use(std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return {};
  const std::uint64_t last = (offset + bytes - 1) >> geometry_.cluster_bits;
  for (std::uint64_t cluster = offset >> geometry_.cluster_bits; cluster <= last; ++cluster)
    TRY_VOID(references_.add(cluster));
  return {};
}

Result<void> Checker::use_metadata(std::uint64_t offset, std::uint64_t bytes) {
  metadata_.add(offset >> geometry_.cluster_bits, geometry_.clusters(bytes));
  return use(offset, bytes);
}

Result<std::vector<std::uint64_t>> Checker::read_table(std::uint64_t offset, std::uint64_t entries) {
  std::vector<std::byte> raw(entries * 8);
  TRY_VOID(file_.read_bytes(offset, raw));
  std::vector<std::uint64_t> table(entries);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = load_be<std::uint64_t>(raw.data() + i * 8);
  return table;
}

Result<void> Checker::write_entry(std::uint64_t offset, std::uint64_t value) {
  std::byte raw[8];
  store_be<std::uint64_t>(raw, value);
  return file_.write_bytes(offset, raw);
}

const char* Checker::judge_entry(std::uint64_t entry) const {
  if (entry & ENTRY_COMPRESSED) {
    const CompressedPlace place = CompressedPlace::decode(entry, geometry_);
    if (place.offset == 0 || place.offset >= file_bytes_) return "leads out of the file";
    for (std::uint64_t at = place.offset >> geometry_.cluster_bits;
         at <= (place.offset + place.length - 1) >> geometry_.cluster_bits; ++at)
      if (metadata_.contains(at)) return "leads to metadata";
    return nullptr;
  }
  const std::uint64_t offset = entry & ENTRY_OFFSET;
  if (offset == 0) return nullptr;
  if (geometry_.in_cluster(offset) != 0) return "leads to the middle of a cluster";
  if (offset >= align_up(file_bytes_, geometry_.cluster_size())) return "leads out of the file";
  if (metadata_.contains(offset >> geometry_.cluster_bits)) return "leads to metadata";
  return nullptr;
}

Result<void> Checker::count_l2(std::string_view whose, std::uint64_t offset, bool active) {
  const std::uint64_t words = geometry_.cluster_size() / 8;
  const std::uint64_t step = geometry_.l2_entry_bytes() / 8;
  TRY(const std::vector<std::uint64_t> table, read_table(offset, words));
  for (std::uint64_t i = 0; i < words; i += step) {
    const std::uint64_t entry = table[i];
    if (const char* wrong = judge_entry(entry)) {
      corruption(fmt::format("an entry ({:#x}) of the {}'s L2 table at {:#x} {}", entry, whose, offset, wrong),
                 repairs_all());
      if (repairs_all()) {
        TRY_VOID(write_entry(offset + i * 8, 0));
        if (step == 2) TRY_VOID(write_entry(offset + i * 8 + 8, 0));
        continue;
      }
    }
    if (entry & ENTRY_COMPRESSED) {
      const CompressedPlace place = CompressedPlace::decode(entry, geometry_);
      if (active) ++report_.compressed_clusters;
      if (entry & ENTRY_COPIED) {
        corruption(fmt::format("a compressed cluster ({:#x}) has the COPIED flag", entry), repairs_all());
        if (repairs_all()) TRY_VOID(write_entry(offset + i * 8, entry & ~ENTRY_COPIED));
      }
      if (place.offset < file_bytes_) TRY_VOID(use(place.offset, place.length));
      continue;
    }
    const std::uint64_t place = entry & ENTRY_OFFSET;
    if (active && (entry & ENTRY_ZERO) && step == 1) ++report_.zero_clusters;
    if (place == 0) continue;
    if (active && !(entry & ENTRY_ZERO && step == 1)) ++report_.data_clusters;
    if (judge_entry(entry) != nullptr) continue;
    TRY_VOID(use(place & ~(geometry_.cluster_size() - 1), geometry_.cluster_size()));
  }
  return {};
}

Result<void> Checker::count_tree(std::string_view whose, std::uint64_t l1_offset, std::uint64_t l1_entries,
                                 bool active) {
  TRY(std::vector<std::uint64_t> l1, read_table(l1_offset, l1_entries));
  // All L2 tables first: data must not lead to any of them.
  MetadataClusters here;
  for (std::uint64_t i = 0; i < l1.size(); ++i) {
    const std::uint64_t offset = l1[i] & ENTRY_OFFSET;
    if (offset == 0) continue;
    const std::uint64_t cluster = offset >> geometry_.cluster_bits;
    // Snapshots share L2 tables with the active disk and with each other, within one tree each stands once.
    const bool taken = (active && metadata_.contains(cluster)) || !here.add(cluster, 1);
    if (!valid(offset) || taken) {
      corruption(fmt::format("entry {} of the {}'s L1 table leads to {:#x}, {}", i, whose, offset,
                             taken ? "where another table stands" : "where no table can be"),
                 repairs_all());
      l1[i] = 0;
      if (repairs_all()) TRY_VOID(write_entry(l1_offset + i * 8, 0));
      continue;
    }
    metadata_.add(cluster, 1);
    TRY_VOID(references_.add(cluster));
  }
  for (const std::uint64_t entry : l1)
    if (const std::uint64_t offset = entry & ENTRY_OFFSET; offset != 0) TRY_VOID(count_l2(whose, offset, active));
  return {};
}

/// Dirty bitmaps are not maintained here, but what they occupy is theirs. Spec: "Bitmaps".
Result<void> Checker::count_bitmaps() {
  const Extension* extension = header_.find(Extension::BITMAPS);
  if (extension == nullptr || extension->data.size() < 24) return {};
  const std::uint32_t count = load_be<std::uint32_t>(extension->data.data());
  const std::uint64_t bytes = load_be<std::uint64_t>(extension->data.data() + 8);
  const std::uint64_t at = load_be<std::uint64_t>(extension->data.data() + 16);
  if (!valid(at) || bytes > 64 * MiB) {
    corruption(fmt::format("the directory of bitmaps stands at {:#x}", at), false);
    return {};
  }
  TRY_VOID(use_metadata(at, bytes));
  std::vector<std::byte> directory(bytes);
  TRY_VOID(file_.read_bytes(at, directory));
  std::uint64_t entry = 0;
  for (std::uint32_t i = 0; i < count && entry + 24 <= bytes; ++i) {
    const std::byte* raw = directory.data() + entry;
    const std::uint64_t table_at = load_be<std::uint64_t>(raw);
    const std::uint64_t entries = load_be<std::uint32_t>(raw + 8);
    if (!valid(table_at) || entries * 8 > max_l1_bytes) {
      corruption(fmt::format("the table of bitmap {} stands at {:#x}", i, table_at), false);
    } else {
      TRY_VOID(use_metadata(table_at, entries * 8));
      TRY(const std::vector<std::uint64_t> table, read_table(table_at, entries));
      for (const std::uint64_t place : table)
        if (valid(place & ENTRY_OFFSET)) TRY_VOID(use(place & ENTRY_OFFSET, geometry_.cluster_size()));
    }
    entry += align_up(24 + load_be<std::uint16_t>(raw + 18) + load_be<std::uint32_t>(raw + 20), 8);
  }
  return {};
}

Result<void> Checker::load_refcounts() {
  const std::uint64_t bytes = std::uint64_t{header_.refcount_table_clusters} << geometry_.cluster_bits;
  TRY(refcount_table_, read_table(header_.refcount_table_offset, bytes / 8));
  MetadataClusters seen;
  for (std::uint64_t i = 0; i < refcount_table_.size(); ++i) {
    const std::uint64_t entry = refcount_table_[i];
    if (entry == 0) continue;
    if (valid(entry) && seen.add(entry >> geometry_.cluster_bits, 1)) continue;
    corruption(fmt::format("entry {} of the refcount table leads to {:#x}", i, entry), repairs_all());
    refcount_table_[i] = 0;
    must_rebuild_ = true;
  }
  return {};
}

Result<std::uint64_t> Checker::stored(std::uint64_t cluster) {
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  const std::uint64_t index = cluster / per_block;
  if (index >= refcount_table_.size() || refcount_table_[index] == 0) return std::uint64_t{0};
  if (index != block_index_) {
    block_.resize(geometry_.cluster_size());
    block_index_ = ~std::uint64_t{0};
    TRY_VOID(file_.read_bytes(refcount_table_[index], block_));
    block_index_ = index;
  }
  return refcount_in_block(block_.data(), cluster % per_block, geometry_.refcount_order);
}

/// Stored against counted, both ways. Leaks are mended on the way unless everything will be rebuilt.
Result<void> Checker::compare() {
  // The refcount structures count as well, where they stand now.
  TRY_VOID(
      use(header_.refcount_table_offset, std::uint64_t{header_.refcount_table_clusters} << geometry_.cluster_bits));
  for (const std::uint64_t entry : refcount_table_)
    if (entry != 0) TRY_VOID(references_.add(entry >> geometry_.cluster_bits));
  report_.image_end = references_.end() << geometry_.cluster_bits;

  Result<void> result;
  std::uint64_t too_low = 0;
  references_.for_each_used([&](std::uint64_t cluster, std::uint32_t counted) {
    if (!result.ok()) return;
    auto now = stored(cluster);
    if (!now) {
      result = std::move(now).error();
    } else if (now.value() < counted) {
      ++too_low;
      corruption(fmt::format("the cluster at {:#x} is used {} times but counted {} times",
                             cluster << geometry_.cluster_bits, counted, now.value()),
                 repairs_all());
    }
  });
  TRY_VOID(std::move(result));
  must_rebuild_ = must_rebuild_ || too_low != 0;
  const bool mend = repair_ != Repair::None && !must_rebuild_ && (repairs_all() || report_.corruptions == 0);
  const std::uint64_t per_block = geometry_.refcounts_per_block();
  for (std::uint64_t index = 0; index < refcount_table_.size(); ++index) {
    if (refcount_table_[index] == 0) continue;
    bool dirty = false;
    for (std::uint64_t i = 0; i < per_block; ++i) {
      const std::uint64_t cluster = index * per_block + i;
      TRY(const std::uint64_t now, stored(cluster));
      if (now == 0) continue;
      const std::uint64_t counted = references_.get(cluster);
      if (now <= counted) continue;
      ++report_.leaks;
      note(fmt::format("the cluster at {:#x} is used {} times but counted {} times (leaked space)",
                       cluster << geometry_.cluster_bits, counted, now));
      if (repairs_all() && must_rebuild_) ++report_.leaks_fixed;
      if (!mend) continue;
      set_refcount_in_block(block_.data(), i, geometry_.refcount_order, counted);
      ++report_.leaks_fixed;
      dirty = true;
    }
    if (dirty) TRY_VOID(file_.write_bytes(refcount_table_[index], block_));
  }
  return {};
}

/// New refcount structures behind everything in use, then the header's fields that name them.
Result<void> Checker::rebuild() {
  // The old ones are free then.
  ReferenceMap counted;
  MetadataClusters old;
  old.add(header_.refcount_table_offset >> geometry_.cluster_bits, header_.refcount_table_clusters);
  for (const std::uint64_t entry : refcount_table_)
    if (entry != 0) old.add(entry >> geometry_.cluster_bits, 1);
  Result<void> result;
  references_.for_each_used([&](std::uint64_t cluster, std::uint32_t times) {
    if (old.contains(cluster)) --times;
    if (times > geometry_.max_refcount())
      result = Error(fmt::format("the cluster at {:#x} is used {} times, which its refcounts cannot count",
                                 cluster << geometry_.cluster_bits, times));
    for (std::uint32_t i = 0; i < times && result.ok(); ++i) result = counted.add(cluster);
  });
  TRY_VOID(std::move(result));

  const std::uint64_t per_block = geometry_.refcounts_per_block();
  const std::uint64_t per_table_cluster = geometry_.cluster_size() / 8;
  const std::uint64_t first = std::max(references_.end(), geometry_.clusters(file_bytes_));
  // Blocks only where something is counted; the new structures themselves need some, too.
  std::vector<std::uint64_t> needed;
  std::uint64_t table_clusters = 0;
  for (std::uint64_t blocks = 0;;) {
    const std::uint64_t end = first + blocks + table_clusters;
    needed.clear();
    counted.for_each_used([&](std::uint64_t cluster, std::uint32_t) {
      if (needed.empty() || needed.back() != cluster / per_block) needed.push_back(cluster / per_block);
    });
    for (std::uint64_t cluster = first; cluster < end; ++cluster)
      if (needed.empty() || needed.back() < cluster / per_block) needed.push_back(cluster / per_block);
    const std::uint64_t entries = needed.empty() ? 1 : needed.back() + 1;
    const std::uint64_t clusters = (entries + per_table_cluster - 1) / per_table_cluster;
    if ((clusters << geometry_.cluster_bits) > max_refcount_table_bytes)
      return Error("the image is too large for its cluster size to be repaired. Convert it with veneer disk convert");
    if (needed.size() == blocks && clusters == table_clusters) break;
    blocks = std::max<std::uint64_t>(needed.size(), blocks);
    table_clusters = std::max(clusters, table_clusters);
    if (blocks != needed.size() || table_clusters != clusters) {
      // Growing made something unnecessary: keep the larger numbers, they do no harm.
      while (needed.size() < blocks) needed.push_back(needed.back() + 1);
      break;
    }
  }
  const std::uint64_t blocks = needed.size();
  for (std::uint64_t i = 0; i < blocks + table_clusters; ++i) TRY_VOID(counted.add(first + i));

  std::vector<std::byte> table(table_clusters << geometry_.cluster_bits);
  std::vector<std::byte> block(geometry_.cluster_size());
  for (std::uint64_t b = 0; b < blocks; ++b) {
    std::fill(block.begin(), block.end(), std::byte{0});
    for (std::uint64_t i = 0; i < per_block; ++i)
      if (const std::uint32_t times = counted.get(needed[b] * per_block + i); times != 0)
        set_refcount_in_block(block.data(), i, geometry_.refcount_order, times);
    const std::uint64_t offset = (first + b) << geometry_.cluster_bits;
    TRY_VOID(file_.write_bytes(offset, block));
    store_be<std::uint64_t>(table.data() + needed[b] * 8, offset);
  }
  const std::uint64_t table_at = (first + blocks) << geometry_.cluster_bits;
  TRY_VOID(file_.write_bytes(table_at, table));
  TRY_VOID(file_.sync());
  std::byte fields[12];
  store_be<std::uint64_t>(fields, table_at);
  store_be<std::uint32_t>(fields + 8, static_cast<std::uint32_t>(table_clusters));
  TRY_VOID(file_.write_bytes(header_at_refcount_table, fields));
  TRY_VOID(file_.sync());
  header_.refcount_table_offset = table_at;
  header_.refcount_table_clusters = static_cast<std::uint32_t>(table_clusters);
  refcount_table_.assign(table.size() / 8, 0);
  for (std::size_t i = 0; i < refcount_table_.size(); ++i)
    refcount_table_[i] = load_be<std::uint64_t>(table.data() + i * 8);
  block_index_ = ~std::uint64_t{0};
  return {};
}

/// COPIED must say "counted exactly once", in the active tables.
Result<void> Checker::check_copied() {
  TRY(const std::vector<std::uint64_t> l1, read_table(header_.l1_offset, header_.l1_entries));
  const std::uint64_t step = geometry_.l2_entry_bytes() / 8;
  const auto check_one = [&](std::uint64_t at, std::uint64_t entry, std::string_view what) -> Result<void> {
    TRY(const std::uint64_t count, stored((entry & ENTRY_OFFSET) >> geometry_.cluster_bits));
    if ((count == 1) == ((entry & ENTRY_COPIED) != 0)) return {};
    corruption(fmt::format("the {} entry {:#x} has the wrong COPIED flag: its cluster is counted {} times", what, entry,
                           count),
               repairs_all());
    return repairs_all() ? write_entry(at, entry ^ ENTRY_COPIED) : Result<void>();
  };
  for (std::uint64_t i = 0; i < l1.size(); ++i) {
    const std::uint64_t offset = l1[i] & ENTRY_OFFSET;
    if (!valid(offset)) continue;
    TRY_VOID(check_one(header_.l1_offset + i * 8, l1[i], "L1"));
    TRY(const std::vector<std::uint64_t> table, read_table(offset, geometry_.cluster_size() / 8));
    for (std::uint64_t k = 0; k < table.size(); k += step) {
      if ((table[k] & ENTRY_COMPRESSED) || (table[k] & ENTRY_OFFSET) == 0 || judge_entry(table[k]) != nullptr) continue;
      TRY_VOID(check_one(offset + k * 8, table[k], "L2"));
    }
  }
  return {};
}

Result<void> Checker::clear_marks() {
  if (header_.version < 3 || !report_.clean_after_repair()) return {};
  const std::uint64_t cleared = header_.incompatible & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT);
  if (cleared == header_.incompatible) return {};
  TRY_VOID(file_.sync());
  TRY_VOID(write_entry(header_at_incompatible, cleared));
  header_.incompatible = cleared;
  return file_.sync();
}

Result<CheckReport> Checker::run() {
  TRY(file_bytes_, file_.size());
  TRY_VOID(use_metadata(0, geometry_.cluster_size()));
  TRY_VOID(use_metadata(header_.l1_offset, std::uint64_t{header_.l1_entries} * 8));
  metadata_.add(header_.refcount_table_offset >> geometry_.cluster_bits, header_.refcount_table_clusters);
  TRY_VOID(load_refcounts());
  for (const std::uint64_t entry : refcount_table_)
    if (entry != 0) metadata_.add(entry >> geometry_.cluster_bits, 1);
  std::vector<Snapshot> snapshots;
  if (header_.snapshots != 0) {
    TRY(snapshots, read_snapshot_table(file_, header_));
    TRY_VOID(use_metadata(header_.snapshots_offset, serialize_snapshot_table(snapshots).size()));
    for (Snapshot& snapshot : snapshots) {
      const std::uint64_t bytes = std::uint64_t{snapshot.l1_entries} * 8;
      const std::uint64_t first = snapshot.l1_offset >> geometry_.cluster_bits;
      bool own = true;
      for (std::uint64_t i = 0; i < geometry_.clusters(bytes); ++i) own = own && !metadata_.contains(first + i);
      if (own) {
        TRY_VOID(use_metadata(snapshot.l1_offset, bytes));
        continue;
      }
      // Thousands of snapshots with one huge table would keep us busy for days.
      corruption(fmt::format("the L1 table of snapshot {} overlaps with another table", snapshot.id), false);
      snapshot.l1_entries = 0;
    }
  }
  TRY_VOID(count_bitmaps());
  TRY_VOID(count_tree("active disk", header_.l1_offset, header_.l1_entries, true));
  for (const Snapshot& snapshot : snapshots)
    TRY_VOID(count_tree("snapshot " + snapshot.id, snapshot.l1_offset, snapshot.l1_entries, false));
  TRY_VOID(compare());
  if (repairs_all() && must_rebuild_) TRY_VOID(rebuild());
  TRY_VOID(check_copied());
  if (repair_ != Repair::None) {
    TRY_VOID(file_.sync());
    TRY_VOID(clear_marks());
  }
  return std::move(report_);
}

}  // namespace

Result<CheckReport> check_image(HostFile& file, Header& header, Repair repair) {
  auto report = Checker(file, header, repair).run();
  if (!report) return std::move(report).error().context(fmt::format("checking {}", file.path()));
  return report;
}

}  // namespace veneer::disk::qcow2
