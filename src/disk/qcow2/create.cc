// Making a new qcow2 image.
#include "disk/qcow2/create.h"

#include <fmt/format.h>

#include <bit>
#include <cerrno>

#include "disk/qcow2/endian.h"
#include "disk/qcow2/refcounts.h"

namespace veneer::disk::qcow2 {
namespace {

/// Names of the features known here, for programs that know less.
Extension feature_names() {
  struct Name {
    std::uint8_t type, bit;
    std::string_view name;
  };
  static constexpr Name names[] = {
      {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
      {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
      {2, 0, "bitmaps"},          {2, 1, "raw external data"}};
  Extension extension{Extension::FEATURE_NAMES, {}};
  for (const Name& name : names) {
    const std::size_t at = extension.data.size();
    extension.data.resize(at + 48);
    extension.data[at] = std::byte{name.type};
    extension.data[at + 1] = std::byte{name.bit};
    const auto bytes = std::as_bytes(std::span(name.name));
    std::copy(bytes.begin(), bytes.end(), extension.data.begin() + static_cast<std::ptrdiff_t>(at + 2));
  }
  return extension;
}

Result<Header> make_header(const CreateOptions& options) {
  const auto refuse = [](std::string what) { return Error(std::move(what)).with_code(EINVAL); };
  if (!std::has_single_bit(options.cluster_bytes) || options.cluster_bytes < 512 || options.cluster_bytes > 2 * MiB)
    return refuse(
        fmt::format("clusters of {} bytes are not possible: a power of two, 512 to 2097152", options.cluster_bytes));
  if (!std::has_single_bit(options.refcount_bits) || options.refcount_bits > 64)
    return refuse(
        fmt::format("refcounts of {} bits are not possible: 1, 2, 4, 8, 16, 32 or 64", options.refcount_bits));
  if (options.version != 2 && options.version != 3) return refuse("qcow2 has versions 2 and 3");
  if (options.version == 2 &&
      (options.refcount_bits != 16 || options.lazy_refcounts || options.compression != Compression::Zlib))
    return refuse("version 2 has refcounts of 16 bits and zlib only; use version 3");
  Header header;
  header.version = options.version;
  const std::uint64_t size_bytes = align_up(options.size_bytes, sector_bytes);
  header.size_bytes = size_bytes;
  header.geometry.cluster_bits = static_cast<std::uint32_t>(std::countr_zero(options.cluster_bytes));
  header.geometry.refcount_order = static_cast<std::uint32_t>(std::countr_zero(options.refcount_bits));
  header.compression = options.compression;
  if (options.compression != Compression::Zlib) header.incompatible |= INCOMPATIBLE_COMPRESSION;
  if (options.lazy_refcounts) header.compatible |= COMPATIBLE_LAZY_REFCOUNTS;
  header.backing_file = options.backing_file;
  header.backing_format = options.backing_format;
  // The table of names is a courtesy: left out where the first cluster is small.
  if (options.version >= 3 && options.cluster_bytes >= 4096) header.extensions.push_back(feature_names());
  const std::uint64_t covers = header.geometry.l2_covers();
  const std::uint64_t entries = size_bytes / covers + (size_bytes % covers != 0 ? 1 : 0);
  if (entries * 8 > max_l1_bytes)
    return refuse(fmt::format("{} bytes are too many for clusters of {} bytes (at most {}). Use larger clusters",
                              size_bytes, options.cluster_bytes, max_l1_bytes / 8 * covers));
  header.l1_entries = static_cast<std::uint32_t>(entries);
  return header;
}

}  // namespace

Result<void> create_image(HostFile& file, const CreateOptions& options) {
  TRY(Header header, make_header(options));
  const Geometry& geometry = header.geometry;
  // Header, refcount table (one cluster, it grows when needed), refcount blocks, L1 table.
  const std::uint64_t l1_clusters = std::max<std::uint64_t>(geometry.clusters(std::uint64_t{header.l1_entries} * 8), 1);
  const std::uint64_t per_block = geometry.refcounts_per_block();
  std::uint64_t blocks = 1, table_clusters = 1;
  while (true) {
    const std::uint64_t total = 1 + table_clusters + blocks + l1_clusters;
    const std::uint64_t needed = (total + per_block - 1) / per_block;
    const std::uint64_t needed_table = geometry.clusters(needed * 8);
    if (needed <= blocks && needed_table <= table_clusters) break;
    blocks = std::max(blocks, needed);
    table_clusters = std::max(table_clusters, needed_table);
  }
  const std::uint64_t total = 1 + table_clusters + blocks + l1_clusters;
  const auto place = [&](std::uint64_t cluster) { return cluster << geometry.cluster_bits; };
  header.refcount_table_offset = place(1);
  header.refcount_table_clusters = static_cast<std::uint32_t>(table_clusters);
  header.l1_offset = place(1 + table_clusters + blocks);
  TRY(const std::vector<std::byte> first, serialize_header(header));

  std::vector<std::byte> table(place(table_clusters));
  for (std::uint64_t b = 0; b < blocks; ++b) {
    store_be<std::uint64_t>(table.data() + b * 8, place(1 + table_clusters + b));
    std::vector<std::byte> block(geometry.cluster_size());
    for (std::uint64_t i = 0; i < per_block && b * per_block + i < total; ++i)
      set_refcount_in_block(block.data(), i, geometry.refcount_order, 1);
    TRY_VOID(file.write_bytes(place(1 + table_clusters + b), block));
  }
  TRY_VOID(file.write_bytes(place(1), table));
  TRY_VOID(file.truncate(place(total)));  // the L1 table: zeros
  TRY_VOID(file.sync());
  // The header last: before that it is no image, not a broken one.
  TRY_VOID(file.write_bytes(0, first));
  return file.sync();
}

}  // namespace veneer::disk::qcow2
