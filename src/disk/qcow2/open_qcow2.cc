// Opening and closing a qcow2 image.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/bits.h"
#include "base/log.h"
#include "disk/qcow2/check.h"
#include "disk/qcow2/endian.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {
namespace {

std::size_t l2_cache_tables(const OpenOptions& options, const Geometry& geometry) {
  const std::uint64_t bytes = options.metadata_cache_bytes != 0 ? options.metadata_cache_bytes : 32 * MiB;
  return std::clamp<std::size_t>(bytes >> geometry.cluster_bits, 4, 65536);
}

Result<void> check_servable(const Header& header, const OpenOptions& options) {
  if (header.has(INCOMPATIBLE_DATA_FILE))
    return Error("it keeps its data in an external file, which Veneer does not serve. Convert it: qemu-img convert")
        .with_code(ENOTSUP);
  if (options.read_only) return {};
  if (header.geometry.extended_l2)
    return Error(
               "it has extended L2 entries (subclusters), which Veneer only reads. Open it read-only, or convert it: "
               "veneer disk convert")
        .with_code(ENOTSUP);
  if (header.has(INCOMPATIBLE_CORRUPT))
    return Error("it is marked as damaged. Repair it with veneer disk check --repair all, or open it read-only")
        .with_code(EIO);
  return {};
}

}  // namespace

Qcow2Image::Qcow2Image(std::unique_ptr<HostFile> file, Header header, const OpenOptions& options,
                       std::unique_ptr<Image> backing)
    : file_(std::move(file)),
      name_(file_->path()),
      options_(options),
      backing_(std::move(backing)),
      backing_size_(backing_ != nullptr   ? backing_->size()
                    : header.backing_file ? ~std::uint64_t{0}
                                          : 0),
      size_(align_up(header.size_bytes, sector_bytes)),
      header_(std::move(header)),
      geometry_(header_.geometry),
      refcounts_(*file_, header_, metadata_),
      l2_(*file_, geometry_.cluster_size(), l2_cache_tables(options, geometry_)) {}

Qcow2Image::~Qcow2Image() {
  if (closed_) return;
  if (const auto result = close(); !result) log_error("closing {}: {}", name_, result.error().message());
}

Result<std::unique_ptr<Qcow2Image>> Qcow2Image::open(std::unique_ptr<HostFile> file, Header header,
                                                     const OpenOptions& options, std::unique_ptr<Image> backing) {
  const std::string path = file->path();
  if (auto servable = check_servable(header, options); !servable) return std::move(servable).error().context(path);
  if (header.has(INCOMPATIBLE_DIRTY) && !options.read_only) {
    log_info("{}: was not closed properly; counting its references anew", path);
    TRY(const CheckReport report, check_image(*file, header, Repair::All));
    if (!report.clean_after_repair())
      return Error(fmt::format("{}: was not closed properly and could not be repaired. Run veneer disk check on it",
                               path))
          .with_code(EIO);
  }
  std::unique_ptr<Qcow2Image> image(new Qcow2Image(std::move(file), std::move(header), options, std::move(backing)));
  if (auto loaded = image->load(); !loaded) {
    image->closed_ = true;  // nothing was changed
    return std::move(loaded).error();
  }
  return image;
}

Result<void> Qcow2Image::load() {
  TRY(l1_, read_l1(header_.l1_offset, header_.l1_entries));
  if (header_.snapshots != 0) {
    auto snapshots = read_snapshot_table(*file_, header_);
    if (!snapshots) return std::move(snapshots).error().context(name_);
    snapshots_ = std::move(snapshots).value();
  }
  if (options_.read_only) return {};
  TRY(const std::uint64_t file_bytes, file_->size());
  TRY_VOID(refcounts_.load(file_bytes));
  TRY_VOID(register_metadata());
  return clear_autoclear();
}

/// Notes where tables stand. Tables that overlap are a damaged image, or one that was made to hand its header to a
/// guest.
Result<void> Qcow2Image::register_metadata() {
  metadata_.clear();
  const auto overlap = [this](std::string_view what, std::uint64_t offset) {
    return Error(fmt::format(
                     "{}: the image is damaged: {} at {:#x} overlaps with another table. Run veneer disk check on "
                     "it, or open it read-only",
                     name_, what, offset))
        .with_code(EIO);
  };
  metadata_.add(0, 1);
  if (!metadata_.add(header_.l1_offset >> geometry_.cluster_bits,
                     geometry_.clusters(std::uint64_t{header_.l1_entries} * 8)))
    return overlap("the L1 table", header_.l1_offset);
  TRY_VOID(refcounts_.register_metadata());
  if (header_.snapshots != 0) {
    const std::uint64_t bytes = serialize_snapshot_table(snapshots_).size();
    if (!metadata_.add(header_.snapshots_offset >> geometry_.cluster_bits, geometry_.clusters(bytes)))
      return overlap("the snapshot table", header_.snapshots_offset);
  }
  for (const Snapshot& snapshot : snapshots_)
    if (!metadata_.add(snapshot.l1_offset >> geometry_.cluster_bits,
                       geometry_.clusters(std::uint64_t{snapshot.l1_entries} * 8)))
      return overlap("a snapshot's L1 table", snapshot.l1_offset);
  for (const std::uint64_t entry : l1_) {
    const std::uint64_t offset = entry & ENTRY_OFFSET;
    if (offset == 0) continue;
    if (geometry_.in_cluster(offset) != 0 || !metadata_.add(offset >> geometry_.cluster_bits, 1))
      return overlap("an L2 table", offset);
  }
  return {};
}

/// What we do not maintain (dirty bitmaps, features to come) must be marked as out of date before the first write.
Result<void> Qcow2Image::clear_autoclear() {
  if (header_.autoclear == 0) return {};
  header_.autoclear = 0;
  const std::byte field[8] = {};
  TRY_VOID(file_->write_bytes(header_at_autoclear, field));
  return file_->sync();
}

Limits Qcow2Image::limits() const {
  Limits limits;
  const auto cluster = static_cast<std::uint32_t>(geometry_.cluster_size());
  limits.optimal_io_bytes = cluster;
  limits.discard_granularity = cluster;
  if (options_.cache == CacheMode::None) limits.direct_alignment = 4096;
  return limits;
}

Result<void> Qcow2Image::close() {
  closed_ = true;
  Result<void> result;
  if (!options_.read_only && !broken_) {
    // The first makes the last changes durable, the second what they freed.
    result = flush();
    bool more = false;
    {
      const Lock lock(mutex_);
      more = refcounts_.dirty();
    }
    if (result.ok() && more) result = flush();
  }
  if (backing_ != nullptr) {
    if (auto closed = backing_->close(); !closed && result.ok()) result = std::move(closed);
    backing_.reset();
  }
  file_.reset();
  return result;
}

}  // namespace veneer::disk::qcow2
