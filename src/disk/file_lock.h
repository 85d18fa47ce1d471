// Locks on image files against a second writer, on the byte ranges and with the meaning that QEMU gives them.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace veneer::disk {

enum class LockKind : std::uint8_t {
  Reader,  ///< many may read; nobody may write or resize meanwhile
  Writer,  ///< reads, writes and resizes; nobody else may
};

/// Takes open-file-description locks (they die with the descriptor, so a killed process leaves none). The error says
/// who is in the way and what to do. A file system without such locks is warned about and let through.
Result<void> lock_image_file(int fd, LockKind kind, const std::string& path);

}  // namespace veneer::disk
