// Disks that are made when the machine starts: seeds for cloud-init, in memory.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "disk/image.h"

namespace veneer::vm {

/// A DiskConfig::path that begins so is no file: what follows says what to make the seed of (image/cloud_init.h). So a
/// saved machine makes the same seed again.
inline constexpr std::string_view seed_prefix = "cloud-init:";

inline bool is_seed(std::string_view path) { return path.starts_with(seed_prefix); }

/// Makes it, read-only.
Result<std::unique_ptr<disk::Image>> make_seed_disk(const std::string& path);

}  // namespace veneer::vm
