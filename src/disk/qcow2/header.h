// qcow2's header: every field and header extension, read with suspicion and written back without loss.
//
// Spec: "Header", "Header extensions", "Feature name table".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "disk/host_file.h"
#include "disk/qcow2/layout.h"

namespace veneer::disk::qcow2 {

// incompatible_features
inline constexpr std::uint64_t INCOMPATIBLE_DIRTY = 1 << 0;
inline constexpr std::uint64_t INCOMPATIBLE_CORRUPT = 1 << 1;
inline constexpr std::uint64_t INCOMPATIBLE_DATA_FILE = 1 << 2;
inline constexpr std::uint64_t INCOMPATIBLE_COMPRESSION = 1 << 3;
inline constexpr std::uint64_t INCOMPATIBLE_EXTENDED_L2 = 1 << 4;
// compatible_features
inline constexpr std::uint64_t COMPATIBLE_LAZY_REFCOUNTS = 1 << 0;
// autoclear_features
inline constexpr std::uint64_t AUTOCLEAR_BITMAPS = 1 << 0;
inline constexpr std::uint64_t AUTOCLEAR_RAW_DATA = 1 << 1;

// Offsets of fields that are written alone. Each lies within one 512-byte sector, so it changes at once or not at all.
inline constexpr std::uint64_t header_at_size = 24;
inline constexpr std::uint64_t header_at_l1 = 36;              ///< entries (4), offset (8)
inline constexpr std::uint64_t header_at_refcount_table = 48;  ///< offset (8), clusters (4)
inline constexpr std::uint64_t header_at_snapshots = 60;       ///< count (4), offset (8)
inline constexpr std::uint64_t header_at_incompatible = 72;
inline constexpr std::uint64_t header_at_autoclear = 88;

enum class Compression : std::uint8_t { Zlib = 0, Zstd = 1 };

struct Extension {
  static constexpr std::uint32_t BACKING_FORMAT = 0xe2792aca;
  static constexpr std::uint32_t FEATURE_NAMES = 0x6803f857;
  static constexpr std::uint32_t BITMAPS = 0x23852875;
  static constexpr std::uint32_t ENCRYPTION = 0x0537be77;
  static constexpr std::uint32_t DATA_FILE = 0x44415441;
  std::uint32_t type = 0;
  std::vector<std::byte> data;
};

struct Header {
  std::uint32_t version = 3;
  std::uint64_t size_bytes = 0;  ///< of the virtual disk
  std::uint32_t l1_entries = 0;
  std::uint64_t l1_offset = 0;
  std::uint64_t refcount_table_offset = 0;
  std::uint32_t refcount_table_clusters = 0;
  std::uint32_t snapshots = 0;
  std::uint64_t snapshots_offset = 0;
  std::uint64_t incompatible = 0, compatible = 0, autoclear = 0;
  std::uint32_t header_length = 112;
  Compression compression = Compression::Zlib;
  Geometry geometry;

  std::optional<std::string> backing_file;  ///< as written: relative to this image
  std::string backing_format;               ///< "raw", "qcow2", ...; empty: not recorded
  std::string data_file;
  std::vector<Extension> extensions;      ///< all but the backing format, in order, unknown ones too
  std::vector<std::byte> unknown_fields;  ///< between the last field known here and header_length

  bool has(std::uint64_t incompatible_bit) const { return (incompatible & incompatible_bit) != 0; }
  const Extension* find(std::uint32_t type) const;
};

/// Reads and judges a header. The error says what is wrong with which field; unknown incompatible features are named
/// from the image's own table. Features that are known but not served are left to the caller.
Result<Header> read_header(HostFile& file);

/// The first cluster's used part: header, extensions, backing file name. Fails if it does not fit into a cluster.
Result<std::vector<std::byte>> serialize_header(const Header& header);

/// "dirty bit", ...: a feature's name: built in, else from the table in the image, else "bit N".
std::string feature_name(const Header& header, unsigned type, unsigned bit);

}  // namespace veneer::disk::qcow2
