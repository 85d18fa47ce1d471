// What qcow2's tables look like: sizes that follow from the header, and the bits of L1 and L2 entries.
//
// Spec: "The qcow2 image format" (docs/interop/qcow2 of QEMU); section names in comments are its.
#pragma once

#include <cstdint>

#include "base/bits.h"
#include "base/units.h"

namespace veneer::disk::qcow2 {

inline constexpr std::uint32_t magic = 0x514649fb;  // "QFI\xfb"

// L1 and L2 entries ("Cluster mapping").
inline constexpr std::uint64_t ENTRY_COPIED = std::uint64_t{1} << 63;
inline constexpr std::uint64_t ENTRY_COMPRESSED = std::uint64_t{1} << 62;
inline constexpr std::uint64_t ENTRY_ZERO = 1;
inline constexpr std::uint64_t ENTRY_OFFSET = 0x00fffffffffffe00;

// Bounds beyond the format's own, so that a hostile header cannot make us allocate much. They are QEMU's.
inline constexpr std::uint64_t max_l1_bytes = 32 * MiB;
inline constexpr std::uint64_t max_refcount_table_bytes = 8 * MiB;
inline constexpr std::uint32_t max_snapshots = 65536;
inline constexpr std::uint32_t max_backing_name = 1023;
inline constexpr std::uint32_t min_cluster_bits = 9;
inline constexpr std::uint32_t max_cluster_bits = 21;
/// Host offsets in L1 and L2 entries have 56 bits.
inline constexpr std::uint64_t max_host_offset = std::uint64_t{1} << 56;

/// Sizes that follow from the header.
struct Geometry {
  std::uint32_t cluster_bits = 16;
  std::uint32_t refcount_order = 4;
  bool extended_l2 = false;

  std::uint64_t cluster_size() const { return std::uint64_t{1} << cluster_bits; }
  std::uint64_t in_cluster(std::uint64_t offset) const { return offset & (cluster_size() - 1); }
  std::uint64_t clusters(std::uint64_t bytes) const {
    return (bytes >> cluster_bits) + (in_cluster(bytes) != 0 ? 1 : 0);
  }
  std::uint32_t l2_entry_bytes() const { return extended_l2 ? 16 : 8; }
  std::uint64_t l2_entries() const { return cluster_size() / l2_entry_bytes(); }
  /// Guest bytes that one L2 table describes.
  std::uint64_t l2_covers() const { return l2_entries() << cluster_bits; }
  std::uint64_t refcount_bits() const { return std::uint64_t{1} << refcount_order; }
  std::uint64_t refcounts_per_block() const { return cluster_size() * 8 / refcount_bits(); }
  std::uint64_t max_refcount() const {
    return refcount_order == 6 ? ~std::uint64_t{0} : (std::uint64_t{1} << refcount_bits()) - 1;
  }
  std::uint64_t subcluster_size() const { return cluster_size() / 32; }
};

/// A compressed cluster's place ("Compressed Clusters Descriptor").
struct CompressedPlace {
  std::uint64_t offset;  ///< of its first byte in the file
  std::uint64_t length;  ///< bytes until the end of its last sector: at most that many belong to it

  static CompressedPlace decode(std::uint64_t entry, const Geometry& geometry) {
    const unsigned shift = 62 - (geometry.cluster_bits - 8);
    const std::uint64_t offset = entry & ((std::uint64_t{1} << shift) - 1) & (max_host_offset - 1);
    const std::uint64_t more = (entry & ~(ENTRY_COPIED | ENTRY_COMPRESSED)) >> shift;
    return {offset, (more + 1) * 512 - offset % 512};
  }
  /// For `bytes` of data at `offset`.
  static std::uint64_t encode(std::uint64_t offset, std::uint64_t bytes, const Geometry& geometry) {
    const unsigned shift = 62 - (geometry.cluster_bits - 8);
    const std::uint64_t more = (offset + bytes - 1) / 512 - offset / 512;
    return ENTRY_COMPRESSED | (more << shift) | offset;
  }
};

}  // namespace veneer::disk::qcow2
