// Copying one image's content into another, sparse and on several threads: what convert, commit and rebase do.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "disk/image.h"

namespace veneer::disk {

struct CopyOptions {
  unsigned threads = 2;
  /// Zeros of the source are not written: the target reads as zeros already.
  bool target_is_zero = true;
  /// Only what the source's top layer holds itself; the rest is left alone (commit).
  bool top_layer_only = false;
  /// Stretches of zeros of this many bytes, at such offsets, become holes.
  std::uint64_t zero_granularity = 65536;
  /// Compress clusters of this size (bytes); 0: do not. The target is qcow2 and empty.
  std::uint64_t compress_cluster = 0;
  /// Called about ten times a second, from one of the threads, with the bytes done; false: stop.
  std::function<bool(std::uint64_t done)> progress;
};

/// Copies min(source size, target size) bytes. Stopped by `progress`: an error with ECANCELED.
Result<void> copy_image(Image& source, Image& target, const CopyOptions& options);

/// True if all bytes are zero.
bool all_zero(const std::byte* bytes, std::size_t length);

}  // namespace veneer::disk
