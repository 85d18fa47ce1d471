// A disk whose changes are dropped: an overlay that nobody else can see, above an image that is only read.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "disk/image.h"

namespace veneer::vm {

/// Opens `path` so. The overlay is a file without a name in TMPDIR, or /var/tmp; the host frees it when the process
/// ends, however that happens.
Result<std::unique_ptr<disk::Image>> open_snapshot(const std::string& path, const disk::OpenOptions& options);

}  // namespace veneer::vm
