// IoRequest: one request of a block device to its disk, and how it ended.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace veneer::disk {

enum class IoKind : std::uint8_t { Read, Write, Flush, Discard, WriteZeroes };

enum class IoStatus : std::uint8_t {
  Ok,
  Failed,     ///< the host's storage failed
  NoSpace,    ///< the host has no room for the data (ENOSPC, EDQUOT)
  ReadOnly,   ///< the disk is read-only
  Cancelled,  ///< given up by Backend::cancel(): nobody may be told
};

/// Offsets and sizes are bytes, whole sectors, and inside the disk: the device has checked that.
struct IoRequest {
  IoKind kind = IoKind::Flush;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  /// Read and Write: where the data is, `bytes` in total, at most max_buffers. Must stay valid until done() is called.
  std::vector<iovec> buffers = {};
  bool may_unmap = false;          ///< WriteZeroes: the storage may be given back to the host
  bool force_unit_access = false;  ///< Write, WriteZeroes: done only when it is on stable storage
  /// Called exactly once, with the board lock held, on any thread; maybe from inside submit() or start().
  std::function<void(IoStatus)> done = {};

  static constexpr std::size_t max_buffers = 1024;  // IOV_MAX of Linux
};

constexpr std::string_view io_kind_name(IoKind kind) {
  switch (kind) {
    case IoKind::Read:
      return "reading";
    case IoKind::Write:
      return "writing";
    case IoKind::Flush:
      return "flushing";
    case IoKind::Discard:
      return "discarding";
    case IoKind::WriteZeroes:
      return "writing zeroes";
  }
  return "";
}

}  // namespace veneer::disk
