// HostFile on a regular file or block device of the host.
#include "disk/host_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <vector>

#include "base/fd.h"
#include "disk/file_lock.h"
#include "disk/iov.h"

namespace veneer::disk {
namespace {

/// What every O_DIRECT transfer is aligned to. Many disks could do 512, but nothing asks them in a portable way.
constexpr std::uint64_t direct_alignment = 4096;

enum class Direction : std::uint8_t { Read, Write };

class PosixFile final : public HostFile {
 public:
  PosixFile(Fd fd, Fd direct, std::string path, bool block_device, SyncPolicy policy)
      : fd_(std::move(fd)),
        direct_(std::move(direct)),
        path_(std::move(path)),
        block_device_(block_device),
        policy_(policy) {}
  Result<void> read(std::uint64_t offset, std::span<const iovec> iov) override {
    return transfer(Direction::Read, offset, iov);
  }
  Result<void> write(std::uint64_t offset, std::span<const iovec> iov) override {
    return transfer(Direction::Write, offset, iov);
  }
  Result<void> sync() override {
    if (policy_ == SyncPolicy::NoSync) return {};
    if (fdatasync(fd_.get()) != 0) return failed("flushing", errno);
    return {};
  }
  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool unmap) override;
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
  Result<void> truncate(std::uint64_t size) override {
    if (ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) return failed("changing the size of", errno);
    return {};
  }
  Result<std::uint64_t> size() override;
  Result<DataRange> next_data(std::uint64_t offset) override;
  int transfer_fd() const override { return direct_.valid() ? direct_.get() : fd_.get(); }
  const std::string& path() const override { return path_; }

 private:
  Result<void> transfer(Direction direction, std::uint64_t offset, std::span<const iovec> iov);
  Error failed(std::string_view what, int error) const {
    return Error::from_errno(fmt::format("{} {}", what, path_), error);
  }

  Fd fd_;
  Fd direct_;  ///< O_DIRECT, or not open. The kernel keeps the two coherent.
  std::string path_;
  bool block_device_;
  SyncPolicy policy_;
};

bool aligned(std::uint64_t offset, std::span<const iovec> iov) {
  std::uint64_t bits = offset;
  for (const iovec& part : iov) bits |= reinterpret_cast<std::uintptr_t>(part.iov_base) | part.iov_len;
  return bits % direct_alignment == 0;
}

Result<void> PosixFile::transfer(Direction direction, std::uint64_t offset, std::span<const iovec> iov) {
  const int fd = direct_.valid() && aligned(offset, iov) ? direct_.get() : fd_.get();
  const std::uint64_t total = iov_length(iov);
  std::uint64_t done = 0;
  std::vector<iovec> rest;
  while (done < total) {
    std::span<const iovec> now = iov;
    if (done != 0) {
      iov_slice(iov, done, total - done, rest);
      now = rest;
    }
    const int count = static_cast<int>(std::min<std::size_t>(now.size(), IOV_MAX));
    const off_t at = static_cast<off_t>(offset + done);
    const ssize_t moved =
        direction == Direction::Read ? preadv(fd, now.data(), count, at) : pwritev(fd, now.data(), count, at);
    if (moved < 0) {
      if (errno == EINTR) continue;
      return failed(direction == Direction::Read ? "reading" : "writing", errno);
    }
    if (moved == 0) {
      if (direction == Direction::Write) return failed("writing", EIO);
      iov_slice(iov, done, total - done, rest);  // beyond the end
      iov_fill_zero(rest);
      return {};
    }
    done += static_cast<std::uint64_t>(moved);
    // A short direct read that ends off its alignment is the end of the file.
    if (direction == Direction::Read && fd == direct_.get() && done % direct_alignment != 0 && done < total) {
      iov_slice(iov, done, total - done, rest);
      iov_fill_zero(rest);
      return {};
    }
  }
  return {};
}

Result<void> PosixFile::write_zeroes(std::uint64_t offset, std::uint64_t length, bool unmap) {
  if (length == 0) return {};
  if (block_device_) {
    const std::array<std::uint64_t, 2> range{offset, length};
    if (((offset | length) % 512) == 0 && ioctl(fd_.get(), BLKZEROOUT, range.data()) == 0) return {};
  } else {
    const int mode = (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
    if (fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) return {};
    if (errno == ENOSPC || errno == EIO) return failed("writing zeros to", errno);
  }
  static constexpr std::size_t chunk = 256 * 1024;
  static const std::vector<std::byte> zeroes(chunk);
  while (length != 0) {
    const std::uint64_t now = std::min<std::uint64_t>(length, chunk);
    TRY_VOID(write_bytes(offset, std::span(zeroes).first(now)));
    offset += now;
    length -= now;
  }
  return {};
}

Result<void> PosixFile::discard(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return {};
  if (block_device_) {
    const std::array<std::uint64_t, 2> range{offset, length};
    // Devices differ in what they can discard; only a broken one is an error.
    if (ioctl(fd_.get(), BLKDISCARD, range.data()) != 0 && errno == EIO) return failed("discarding in", errno);
    return {};
  }
  if (fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(length)) != 0 &&
      errno == EIO)
    return failed("discarding in", errno);
  return {};
}

Result<std::uint64_t> PosixFile::size() {
  if (block_device_) {
    std::uint64_t bytes = 0;
    if (ioctl(fd_.get(), BLKGETSIZE64, &bytes) != 0) return failed("asking for the size of", errno);
    return bytes;
  }
  struct stat about {};
  if (fstat(fd_.get(), &about) != 0) return failed("asking for the size of", errno);
  return static_cast<std::uint64_t>(about.st_size);
}

Result<HostFile::DataRange> PosixFile::next_data(std::uint64_t offset) {
  TRY(const std::uint64_t end_of_file, size());
  if (offset >= end_of_file) return DataRange{end_of_file, end_of_file};
  const off_t begin = lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
  if (begin < 0) {
    if (errno == ENXIO) return DataRange{end_of_file, end_of_file};
    return DataRange{offset, end_of_file};  // a file system that cannot say
  }
  const off_t end = lseek(fd_.get(), begin, SEEK_HOLE);
  if (end <= begin) return DataRange{static_cast<std::uint64_t>(begin), end_of_file};
  return DataRange{static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end)};
}

Error cannot_open(const std::string& path, int error, bool read_only) {
  if (error == EBUSY)
    return Error(fmt::format("{} is in use by this host: a mounted file system, swap, or another program. Unmount it "
                             "or stop that program first, or open it read-only",
                             path))
        .with_code(error);
  const char* advice = "";
  if (error == ENOENT) advice = " (veneer disk create makes a new one)";
  if (!read_only && (error == EACCES || error == EROFS || error == EPERM)) advice = " (open it read-only?)";
  return Error(fmt::format("{}{}", Error::from_errno(fmt::format("opening {}", path), error).message(), advice))
      .with_code(error);
}

}  // namespace

Result<std::unique_ptr<HostFile>> open_host_file(const std::string& path, const OpenOptions& options) {
  const int access = options.read_only ? O_RDONLY : O_RDWR;
  struct stat before {};
  const bool block_device = ::stat(path.c_str(), &before) == 0 && S_ISBLK(before.st_mode);
  // To write to a block device that the host has mounted would destroy its file system: O_EXCL without O_CREAT claims
  // the device, and fails when somebody else has it (open(2)). For files it would mean nothing good.
  const int claim = block_device && !options.read_only && options.lock == LockPolicy::Auto ? O_EXCL : 0;
  // O_NONBLOCK: opening a FIFO by mistake must not hang; it means nothing to files and block devices.
  Fd fd(open(path.c_str(), access | claim | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return cannot_open(path, errno, options.read_only);
  struct stat about {};
  if (fstat(fd.get(), &about) != 0) return cannot_open(path, errno, options.read_only);
  if (S_ISDIR(about.st_mode)) return Error(fmt::format("{} is a directory, not a disk image", path)).with_code(EISDIR);
  if (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode))
    return Error(fmt::format("{} is neither a regular file nor a block device", path)).with_code(EINVAL);
  if (options.lock == LockPolicy::Auto)
    TRY_VOID(lock_image_file(fd.get(), options.read_only ? LockKind::Reader : LockKind::Writer, path));
  Fd direct;
  if (options.cache == CacheMode::None) {
    // A second description of the same file: through /proc, so that a rename in between cannot lead elsewhere.
    direct = Fd(open(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), access | O_CLOEXEC | O_DIRECT));
    if (!direct.valid()) {
      const int error = errno;
      return Error(fmt::format("{}: its file system does not do direct I/O ({}). Use cache=writeback", path,
                               Error::from_errno("O_DIRECT", error).message()))
          .with_code(error);
    }
  }
  return std::unique_ptr<HostFile>(
      std::make_unique<PosixFile>(std::move(fd), std::move(direct), path, S_ISBLK(about.st_mode), SyncPolicy::Sync));
}

Result<std::unique_ptr<HostFile>> create_host_file(const std::string& path, SyncPolicy policy) {
  Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd.valid()) return Error::from_errno(fmt::format("creating {}", path), errno);
  TRY_VOID(lock_image_file(fd.get(), LockKind::Writer, path));
  return std::unique_ptr<HostFile>(std::make_unique<PosixFile>(std::move(fd), Fd(), path, false, policy));
}

}  // namespace veneer::disk
