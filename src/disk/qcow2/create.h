// Making a new qcow2 image.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "disk/host_file.h"
#include "disk/qcow2/header.h"

namespace veneer::disk::qcow2 {

struct CreateOptions {
  std::uint64_t size_bytes = 0;
  std::uint64_t cluster_bytes = 65536;  ///< a power of two, 512 to 2 MiB
  std::uint32_t version = 3;
  std::uint32_t refcount_bits = 16;  ///< a power of two, 1 to 64; 16 in version 2
  bool lazy_refcounts = false;       ///< a permission for others; Veneer always counts at once
  Compression compression = Compression::Zlib;
  std::optional<std::string> backing_file;
  std::string backing_format;
};

/// Writes the tables of an empty image into an empty file, and syncs it.
Result<void> create_image(HostFile& file, const CreateOptions& options);

}  // namespace veneer::disk::qcow2
