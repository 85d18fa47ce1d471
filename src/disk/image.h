// Image: an open disk image, whatever its format: what block devices and the `veneer disk` tools read and write.
//
// Threads: every method may be called from any thread, several at once, unless its comment says "alone". Nothing orders
// overlapping requests that run at the same time (as on hardware, a reader may see part of each); requests that do not
// overlap never disturb each other, whatever clusters of the format they share. docs/disk.md has the lock model.
//
// Two ways to move data:
//  * read() and write() block and always work: they may allocate, copy from a backing file, decompress. Call them from
//  a
//    worker thread.
//  * map_for_read() and map_for_write() never block on data and answer with places in host files, so that the caller
//  can
//    submit the transfer itself (io_uring). They say no whenever metadata has to be read or changed first; the
//    caller then falls back to read() or write(). The Mapping has to live until the transfer has completed.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace veneer::disk {

enum class Format : std::uint8_t { Raw, Qcow2, Nbd };
std::string_view format_name(Format format);  ///< "raw", "qcow2", "nbd"
/// The format of that name. An error lists those that can be opened.
Result<Format> parse_format(std::string_view name);

/// How the host's page cache takes part.
enum class CacheMode : std::uint8_t {
  Writeback,     ///< through the page cache; flush() makes it durable
  None,          ///< O_DIRECT for data where alignment allows; flush() makes it durable
  Writethrough,  ///< through the page cache; every write is durable when it returns
};

/// What becomes of a guest's discards.
enum class DiscardPolicy : std::uint8_t { Ignore, Unmap };

/// Locks against a second writer, on the byte ranges that QEMU uses (src/disk/file_lock.h).
enum class LockPolicy : std::uint8_t { Auto, Off };

struct OpenOptions {
  /// Unset: looked up in the file. A raw image should always be named as such: what a guest writes into its first
  /// sectors decides the next probe (src/disk/probe.h). A raw image that was found by probing refuses such writes.
  std::optional<Format> format = {};
  bool read_only = false;
  CacheMode cache = CacheMode::Writeback;
  DiscardPolicy discard = DiscardPolicy::Unmap;
  LockPolicy lock = LockPolicy::Auto;
  std::uint64_t metadata_cache_bytes = 0;  ///< bound of the format's table cache; 0: the default (32 MiB)
};

/// What a device should tell its guest, and what the fast path needs.
struct Limits {
  std::uint32_t logical_block_bytes = 512;    ///< smallest unit that the image can address
  std::uint32_t physical_block_bytes = 4096;  ///< smallest unit that is written without reading
  std::uint32_t optimal_io_bytes = 4096;      ///< the cluster size of a format that has one
  std::uint32_t discard_granularity = 4096;   ///< smaller discards free nothing
  std::uint32_t direct_alignment = 1;         ///< of host offset, length and memory in mapped transfers (O_DIRECT)
};

/// A stretch of a guest range as it lies in a host file.
struct HostExtent {
  static constexpr int zeroes = -1;
  int fd = zeroes;                ///< submit to this descriptor, or `zeroes`: reads as zeros, nothing to submit
  std::uint64_t host_offset = 0;  ///< bytes
  std::uint64_t length = 0;       ///< bytes
};

class Image;

/// Where a guest range lies. While it lives, the image will not reuse these places for anything else. Reuse one object
/// for many requests: its vector keeps its memory. Not thread-safe by itself.
class Mapping {
 public:
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping(Mapping&& other) noexcept
      : extents(std::move(other.extents)), owner_(std::exchange(other.owner_, nullptr)), lease_(other.lease_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    release();
    extents = std::move(other.extents);
    owner_ = std::exchange(other.owner_, nullptr);
    lease_ = other.lease_;
    return *this;
  }
  ~Mapping() { release(); }

  /// The transfer has completed (well or badly). From any thread; never waits for the host.
  inline void release();

  std::vector<HostExtent> extents;  ///< in guest order, together as long as the range

 private:
  friend class Image;
  Image* owner_ = nullptr;
  std::uint64_t lease_ = 0;
};

/// Flags of write_zeroes().
enum class ZeroMode : std::uint8_t {
  MayUnmap,       ///< the space may be given back
  KeepAllocated,  ///< the range shall stay writable on a full disk, where the format can say so
};

/// The sizes of images are multiples of this (bytes); but for NBD, where a server decides.
inline constexpr std::uint64_t sector_bytes = 512;

class Image {
 public:
  virtual ~Image() = default;
  Image() = default;
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  virtual Format format() const = 0;
  virtual const std::string& name() const = 0;  ///< its path or URI, for messages
  virtual bool read_only() const = 0;
  /// Bytes; changes with resize() and refresh_size().
  virtual std::uint64_t size() const = 0;
  virtual Limits limits() const = 0;

  /// Reads iov's total length at `offset`. Beyond size() is an error. Error::code() is an errno value (EIO by default).
  virtual Result<void> read(std::uint64_t offset, std::span<const iovec> iov) = 0;
  /// Writes likewise. Durable after the next flush() that was called after this returned (at once with Writethrough).
  /// ENOSPC means that nothing of the image was harmed and the same write may be tried again.
  virtual Result<void> write(std::uint64_t offset, std::span<const iovec> iov) = 0;
  /// Makes every write that completed before this call durable, with all metadata that it needs.
  virtual Result<void> flush() = 0;
  /// The content of the range no longer matters; what is read from it afterwards is old content or zeros until it
  /// is written. Only whole clusters are freed. Does nothing under DiscardPolicy::Ignore.
  virtual Result<void> discard(std::uint64_t offset, std::uint64_t length) = 0;
  /// The range reads as zeros afterwards.
  virtual Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroMode mode) = 0;

  /// Fills `mapping` when all of the range can be read from host files as it stands; false: use read(). Never waits for
  /// the host: false, too, while another thread is at the image's tables.
  bool map_for_read(std::uint64_t offset, std::uint64_t length, Mapping& mapping) {
    return map(offset, length, false, mapping);
  }
  /// Fills `mapping` when overwriting these places is all there is to do (allocated, not shared); false: use write().
  /// Never waits either. Always false in Writethrough mode. The write counts as completed once the transfer has
  /// completed and the mapping is released: release it before calling flush() for it.
  bool map_for_write(std::uint64_t offset, std::uint64_t length, Mapping& mapping) {
    return map(offset, length, true, mapping);
  }

  /// Changes the virtual size. Growing may run beside other calls; shrinking alone, and only with `allow_shrink`.
  virtual Result<void> resize(std::uint64_t new_size, bool allow_shrink) = 0;
  /// Looks whether somebody else has grown the image (a raw file or block device); answers with the size.
  virtual Result<std::uint64_t> refresh_size() { return size(); }

  /// How a stretch of the image is stored: for sparse copies and for `map`.
  struct Status {
    enum class Kind : std::uint8_t {
      Data,     ///< has content
      Zero,     ///< reads as zeros
      Backing,  ///< not in this layer: comes from the backing image
    };
    Kind kind = Kind::Data;
    std::uint64_t length = 0;  ///< bytes from the offset asked for, at least 1
  };
  /// The state of the stretch that begins at `offset`, at most `length` long. Reads metadata, may block.
  virtual Result<Status> status(std::uint64_t offset, std::uint64_t length) = 0;
  /// The image below this one, or null.
  virtual Image* backing() { return nullptr; }

  /// Writes out everything and gives up the locks; alone, at most once, nothing may be called afterwards. The
  /// destructor does it too but can only log an error.
  virtual Result<void> close() = 0;

 protected:
  friend class Mapping;
  /// The implementation of both map calls: false, or `mapping.extents` filled and the lease returned by value.
  virtual bool map_extents(std::uint64_t offset, std::uint64_t length, bool for_write, std::vector<HostExtent>& extents,
                           std::uint64_t& lease) = 0;
  virtual void end_lease(std::uint64_t lease) = 0;

 private:
  bool map(std::uint64_t offset, std::uint64_t length, bool for_write, Mapping& mapping) {
    mapping.release();
    mapping.extents.clear();
    std::uint64_t lease = 0;
    if (!map_extents(offset, length, for_write, mapping.extents, lease)) return false;
    mapping.owner_ = this;
    mapping.lease_ = lease;
    return true;
  }
};

inline void Mapping::release() {
  if (owner_ != nullptr) std::exchange(owner_, nullptr)->end_lease(lease_);
}

/// Opens an image: a path, or an NBD URI ("nbd://host/export", "nbd+unix:///export?socket=path"). Errors are whole
/// sentences: what failed, why, and what to do.
Result<std::unique_ptr<Image>> open_image(const std::string& path, const OpenOptions& options);

}  // namespace veneer::disk
