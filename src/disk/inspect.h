// What an image says about itself, without opening it for a guest: for `veneer disk info` and its kin.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "disk/image.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/snapshot_table.h"

namespace veneer::disk {

struct LayerInfo {
  std::string path;
  Format format = Format::Raw;
  std::uint64_t size_bytes = 0;         ///< of the virtual disk
  std::uint64_t disk_bytes = 0;         ///< that the file occupies on the host
  std::optional<qcow2::Header> header;  ///< of a qcow2 image
  std::vector<qcow2::Snapshot> snapshots;
  std::string backing_path;  ///< where the backing file stands; empty: there is none
};

/// Reads the headers of an image and, with `chain`, of all that are below it. Takes no lock: the image may be in use.
/// Nothing that an image names is opened without `chain`.
Result<std::vector<LayerInfo>> inspect_image(const std::string& path, std::optional<Format> format, bool chain);

}  // namespace veneer::disk
