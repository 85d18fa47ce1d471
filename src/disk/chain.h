// Backing chains: from an image's path to the open chain below it.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "disk/image.h"

namespace veneer::disk {

/// Where a backing file named in an image stands: absolute names and URIs as they are, others beside the image
/// (whose own symbolic links are not followed first: the name's folder counts, as in QEMU).
std::string backing_path(const std::string& image_path, const std::string& name);

/// Opens an image without the chain below it, for tools that look at one file: reads of what it does not hold give
/// zeros.
Result<std::unique_ptr<Image>> open_alone(const std::string& path, const OpenOptions& options);

}  // namespace veneer::disk
