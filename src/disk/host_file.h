// HostFile: the file behind an image, as an interface: tests put a recorder or a failing disk in its place.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "disk/image.h"

namespace veneer::disk {

/// All methods are thread-safe. Errors carry an errno value.
class HostFile {
 public:
  virtual ~HostFile() = default;
  HostFile() = default;
  HostFile(const HostFile&) = delete;
  HostFile& operator=(const HostFile&) = delete;

  /// Reads all of iov; what lies beyond the end of the file is zeros.
  virtual Result<void> read(std::uint64_t offset, std::span<const iovec> iov) = 0;
  virtual Result<void> write(std::uint64_t offset, std::span<const iovec> iov) = 0;
  /// Everything written so far is durable when this returns (fdatasync).
  virtual Result<void> sync() = 0;
  /// The range reads as zeros afterwards; `unmap`: the host may take the space back. Never grows the file.
  virtual Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool unmap) = 0;
  /// Gives space back where the host can; the range's content is undefined afterwards. No error if it cannot.
  virtual Result<void> discard(std::uint64_t offset, std::uint64_t length) = 0;
  virtual Result<void> truncate(std::uint64_t size) = 0;
  virtual Result<std::uint64_t> size() = 0;
  /// The next stretch of data at or after `offset`: {begin, end}; begin == end == size() if there is none.
  struct DataRange {
    std::uint64_t begin, end;
  };
  virtual Result<DataRange> next_data(std::uint64_t offset) = 0;

  /// The descriptor for transfers that others submit, or -1: then nothing is mapped.
  virtual int transfer_fd() const = 0;
  virtual const std::string& path() const = 0;

  Result<void> read_bytes(std::uint64_t offset, std::span<std::byte> bytes) {
    const iovec one{bytes.data(), bytes.size()};
    return read(offset, {&one, 1});
  }
  Result<void> write_bytes(std::uint64_t offset, std::span<const std::byte> bytes) {
    const iovec one{const_cast<std::byte*>(bytes.data()), bytes.size()};
    return write(offset, {&one, 1});
  }
};

/// Opens a regular file or block device and locks it. The descriptor for transfers is O_DIRECT with CacheMode::None.
Result<std::unique_ptr<HostFile>> open_host_file(const std::string& path, const OpenOptions& options);

enum class SyncPolicy : std::uint8_t { Sync, NoSync };

/// Makes a new, empty regular file, locked for writing. Fails if it exists. NoSync: sync() does nothing, for a file
/// that nobody relies on yet; its maker syncs it once at the end.
Result<std::unique_ptr<HostFile>> create_host_file(const std::string& path, SyncPolicy policy);

}  // namespace veneer::disk
