// Compressed clusters: raw deflate (window of 4 KiB) or zstd. Spec: "Compressed Clusters Descriptor", compression_type.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "disk/qcow2/header.h"

namespace veneer::disk::qcow2 {

/// Fills all of `out` from `in`, which may be longer than the compressed data. Fails on damaged data.
Result<void> decompress(Compression kind, std::span<const std::byte> in, std::span<std::byte> out);

/// Compresses a cluster into `out` (resized); false if that would not make it smaller than `limit` bytes.
bool compress(Compression kind, std::span<const std::byte> in, std::size_t limit, std::vector<std::byte>& out);

}  // namespace veneer::disk::qcow2
