// Changing a qcow2 image's virtual size, its backing file's name, and emptying it.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "disk/qcow2/endian.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {

Result<std::vector<std::uint64_t>> Qcow2Image::read_l1(std::uint64_t offset, std::uint64_t entries) {
  std::vector<std::byte> raw(entries * 8);
  TRY_VOID(file_->read_bytes(offset, raw));
  std::vector<std::uint64_t> table(entries);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = load_be<std::uint64_t>(raw.data() + i * 8);
  return table;
}

/// Whole clusters: what follows the entries becomes zeros.
Result<void> Qcow2Image::write_l1(std::uint64_t offset, const std::vector<std::uint64_t>& entries) {
  std::vector<std::byte> raw(geometry_.clusters(entries.size() * 8) << geometry_.cluster_bits);
  for (std::size_t i = 0; i < entries.size(); ++i) store_be<std::uint64_t>(raw.data() + i * 8, entries[i]);
  return file_->write_bytes(offset, raw);
}

/// Header fields 24 to 47 in one write: within a sector, so old or new, never half.
Result<void> Qcow2Image::switch_l1(std::uint64_t offset, std::uint64_t entries, std::uint64_t size_bytes) {
  std::byte fields[24] = {};
  store_be<std::uint64_t>(fields, size_bytes);
  // 32: crypt_method, 0 in every image that is opened
  store_be<std::uint32_t>(fields + 12, static_cast<std::uint32_t>(entries));
  store_be<std::uint64_t>(fields + 16, offset);
  TRY_VOID(file_->write_bytes(header_at_size, fields));
  TRY_VOID(file_->sync());
  header_.l1_offset = offset;
  header_.l1_entries = static_cast<std::uint32_t>(entries);
  header_.size_bytes = size_bytes;
  size_.store(size_bytes, std::memory_order_relaxed);
  return {};
}

/// Frees clusters of a table that the header no longer names.
void Qcow2Image::free_clusters(std::uint64_t offset, std::uint64_t bytes) {
  const Refcounts::Run run{offset >> geometry_.cluster_bits, geometry_.clusters(bytes), false};
  metadata_.remove(run.first, run.count);
  refcounts_.give_back(run);
}

/// With commit_mutex_ held and no commit under way.
Result<void> Qcow2Image::grow_l1(std::uint64_t entries) {
  if (entries * 8 > max_l1_bytes)
    return Error(fmt::format("{}: with clusters of {} bytes an image can have at most {} bytes. Convert it to one with "
                             "larger clusters",
                             name_, geometry_.cluster_size(), (max_l1_bytes / 8) * geometry_.l2_covers()))
        .with_code(EFBIG);
  const Lock lock(mutex_);
  TRY(const Refcounts::Run run, refcounts_.allocate_exactly(geometry_.clusters(entries * 8)));
  std::vector<std::uint64_t> larger = l1_;
  larger.resize(entries);
  // The new table shows the disk's state, not memory's: entries that wait for a commit keep waiting.
  TRY(std::vector<std::uint64_t> on_disk, read_l1(header_.l1_offset, header_.l1_entries));
  on_disk.resize(entries);
  const std::uint64_t offset = run.first << geometry_.cluster_bits;
  TRY_VOID(refcounts_.write_blocks());
  TRY_VOID(file_->sync());
  TRY_VOID(refcounts_.write_table_entries(refcounts_.new_table_entries()));
  refcounts_.mark_table_written(std::vector(refcounts_.new_table_entries()));
  TRY_VOID(write_l1(offset, on_disk));
  TRY_VOID(file_->sync());
  const std::uint64_t old_offset = header_.l1_offset;
  const std::uint64_t old_entries = header_.l1_entries;
  TRY_VOID(switch_l1(offset, entries, header_.size_bytes));
  metadata_.add(run.first, run.count);
  l1_ = std::move(larger);
  if (old_entries != 0) free_clusters(old_offset, old_entries * 8);
  return {};
}

Result<void> Qcow2Image::write_size(std::uint64_t bytes) {
  std::byte field[8];
  store_be<std::uint64_t>(field, bytes);
  TRY_VOID(file_->write_bytes(header_at_size, field));
  TRY_VOID(file_->sync());
  const Lock lock(mutex_);
  header_.size_bytes = bytes;
  return {};
}

Result<void> Qcow2Image::resize(std::uint64_t new_size, bool allow_shrink) {
  TRY_VOID(check_writable(0, 0));
  new_size = align_up(new_size, sector_bytes);
  const std::uint64_t old_size = size();
  if (new_size == old_size) return {};
  if (new_size < old_size) {
    if (!allow_shrink)
      return Error(fmt::format("{}: making it smaller ({} to {} bytes) loses what lies beyond; allow it with --shrink",
                               name_, old_size, new_size))
          .with_code(EINVAL);
    if (!snapshots_.empty())
      return Error(fmt::format("{}: an image with snapshots cannot be made smaller. Delete them first", name_))
          .with_code(ENOTSUP);
    TRY_VOID(flush());
    // Smaller first: a kill in between leaves clusters beyond the end, which harm nobody.
    TRY_VOID(write_size(new_size));
    const std::uint64_t first = geometry_.clusters(new_size);
    TRY_VOID(zero_clusters(first, geometry_.clusters(old_size) - first, ZeroMode::MayUnmap, true));
    size_.store(new_size, std::memory_order_relaxed);
    return flush();
  }
  if (new_size > (max_l1_bytes / 8) * geometry_.l2_covers()) TRY_VOID(grow_l1(max_l1_bytes / 8 + 1));  // its error
  const std::uint64_t needed = (new_size + geometry_.l2_covers() - 1) / geometry_.l2_covers();
  if (needed > l1_.size()) {
    const std::lock_guard one_at_a_time(commit_mutex_);
    TRY_VOID(grow_l1(needed));
  }
  size_.store(new_size, std::memory_order_relaxed);
  // What becomes visible is zeros: the rest of the last cluster, and a backing file that is longer than the image was.
  std::uint64_t zero_end = std::min(align_up(old_size, geometry_.cluster_size()), new_size);
  zero_end = std::max(zero_end, std::min(backing_size_, new_size));
  Result<void> result;
  if (zero_end > old_size) result = write_zeroes(old_size, zero_end - old_size, ZeroMode::MayUnmap);
  if (result.ok()) result = flush();
  if (result.ok()) result = write_size(new_size);
  if (!result.ok()) size_.store(old_size, std::memory_order_relaxed);
  return result;
}

Result<void> Qcow2Image::set_backing_name(std::optional<std::string> file, const std::string& format) {
  TRY_VOID(check_writable(0, 0));
  TRY_VOID(flush());
  Header changed = header_;
  changed.backing_file = std::move(file);
  changed.backing_format = changed.backing_file ? format : "";
  TRY(const std::vector<std::byte> bytes, serialize_header(changed));
  TRY_VOID(file_->write_bytes(0, bytes));
  TRY_VOID(file_->sync());
  header_ = std::move(changed);
  return {};
}

Result<void> Qcow2Image::make_empty() {
  TRY_VOID(check_writable(0, 0));
  if (!snapshots_.empty())
    return Error(fmt::format("{}: has snapshots, so its clusters cannot be freed", name_)).with_code(ENOTSUP);
  TRY_VOID(flush());
  for (std::uint64_t i = 0; i < l1_.size(); ++i) {
    TRY_VOID(commit_if_crowded());
    const Lock lock(mutex_);
    const std::uint64_t offset = l1_[i] & ENTRY_OFFSET;
    if (offset == 0) continue;
    TRY(const Table* table, l2_for_reading(i));
    for (std::uint64_t k = 0; k < geometry_.l2_entries(); ++k) drop_entry(entry_at(*table, k), true);
    drop_table(offset >> geometry_.cluster_bits);
    l1_[i] = 0;
    l1_dirty_.push_back(i);
  }
  return flush();
}

}  // namespace veneer::disk::qcow2
