// Raw images: the guest's bytes as they are, in a file or on a block device.
#pragma once

#include <memory>

#include "disk/host_file.h"
#include "disk/image.h"

namespace veneer::disk {

/// `probed`: nobody said that it is raw, so writes that make its beginning look like another format are refused
/// (src/disk/probe.h).
Result<std::unique_ptr<Image>> open_raw(std::unique_ptr<HostFile> file, const OpenOptions& options, bool probed);

}  // namespace veneer::disk
