// Images served over NBD, through libnbd.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "disk/image.h"

namespace veneer::disk {

/// "nbd://", "nbds://", "nbd+unix://", "nbds+unix://" in front.
bool is_nbd_uri(std::string_view name);

/// Connects. Nothing is mapped: all transfers go through read() and write(), one at a time on one connection.
Result<std::unique_ptr<Image>> open_nbd(const std::string& uri, const OpenOptions& options);

}  // namespace veneer::disk
