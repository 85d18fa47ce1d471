// Which format a file's first bytes look like.
//
// A raw image has no mark of its own: it is what is left over, and its first sector belongs to the guest. A guest could
// write a qcow2 header there that names any host file as its backing file, and read that file after the next start. So
// a format given by the user always wins, and a raw image that was only found by probing refuses writes that would make
// its beginning look like another format (src/disk/raw.cc).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/result.h"
#include "disk/image.h"

namespace veneer::disk {

/// Bytes that a probe looks at.
inline constexpr std::size_t probe_bytes = 512;

/// True if these bytes at the start of a file mark any format but raw, known to us or not.
bool looks_formatted(std::span<const std::byte> head);

/// The format of a file that begins like this. Errors for formats that we know of but do not open (VMDK, VHDX, ...),
/// with what to do instead.
Result<Format> probe_format(std::span<const std::byte> head, const std::string& path);

}  // namespace veneer::disk
