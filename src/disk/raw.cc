// Raw images.
#include "disk/raw.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "base/bits.h"
#include "base/log.h"
#include "disk/iov.h"
#include "disk/probe.h"

namespace veneer::disk {
namespace {

/// Where the file ends within a sector, the rest of that reads as zeros, and writing it makes the file that much
/// longer.
class RawImage final : public Image {
 public:
  RawImage(std::unique_ptr<HostFile> file, const OpenOptions& options, bool probed, std::uint64_t size)
      : file_(std::move(file)),
        options_(options),
        guard_head_(probed && !options.read_only),
        size_(align_up(size, sector_bytes)) {}
  ~RawImage() override {
    if (file_ == nullptr) return;
    if (const auto result = close(); !result) log_error("closing: {}", result.error().message());
  }

  Format format() const override { return Format::Raw; }
  const std::string& name() const override { return file_->path(); }
  bool read_only() const override { return options_.read_only; }
  std::uint64_t size() const override { return size_.load(std::memory_order_relaxed); }
  Limits limits() const override {
    Limits limits;
    if (options_.cache == CacheMode::None) limits.direct_alignment = 4096;
    return limits;
  }

  Result<void> read(std::uint64_t offset, std::span<const iovec> iov) override {
    TRY_VOID(check_range(offset, iov_length(iov)));
    return file_->read(offset, iov);
  }
  Result<void> write(std::uint64_t offset, std::span<const iovec> iov) override {
    TRY_VOID(check_writable(offset, iov_length(iov)));
    if (guard_head_ && offset < probe_bytes) return write_guarded(offset, iov);
    TRY_VOID(file_->write(offset, iov));
    return after_write();
  }
  Result<void> flush() override {
    if (options_.read_only) return {};
    return file_->sync();
  }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    TRY_VOID(check_writable(offset, length));
    if (options_.discard == DiscardPolicy::Ignore) return {};
    return file_->discard(offset, length);
  }
  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroMode mode) override {
    TRY_VOID(check_writable(offset, length));
    const bool unmap = mode == ZeroMode::MayUnmap && options_.discard == DiscardPolicy::Unmap;
    TRY_VOID(file_->write_zeroes(offset, length, unmap));
    return after_write();
  }
  Result<void> resize(std::uint64_t new_size, bool allow_shrink) override;
  Result<std::uint64_t> refresh_size() override {
    TRY(const std::uint64_t now, file_->size());
    size_.store(align_up(now, sector_bytes), std::memory_order_relaxed);
    return size();
  }
  Result<Status> status(std::uint64_t offset, std::uint64_t length) override;
  Result<void> close() override {
    Result<void> flushed = flush();
    file_.reset();
    return flushed;
  }

 protected:
  bool map_extents(std::uint64_t offset, std::uint64_t length, bool for_write, std::vector<HostExtent>& extents,
                   std::uint64_t& lease) override {
    if (length == 0 || !in_range(offset, length) || file_->transfer_fd() < 0) return false;
    if (for_write &&
        (options_.read_only || options_.cache == CacheMode::Writethrough || (guard_head_ && offset < probe_bytes)))
      return false;
    extents.push_back({file_->transfer_fd(), offset, length});
    lease = 0;
    return true;
  }
  void end_lease(std::uint64_t) override {}  // places never change their meaning

 private:
  bool in_range(std::uint64_t offset, std::uint64_t length) const {
    const std::uint64_t end = size();
    return offset <= end && length <= end - offset;
  }
  Result<void> check_range(std::uint64_t offset, std::uint64_t length) const {
    if (in_range(offset, length)) return {};
    return Error(fmt::format("{}: bytes {} to {} are beyond its end ({})", name(), offset, offset + length, size()))
        .with_code(EINVAL);
  }
  Result<void> check_writable(std::uint64_t offset, std::uint64_t length) const {
    if (options_.read_only) return Error(fmt::format("{} is open read-only", name())).with_code(EROFS);
    return check_range(offset, length);
  }
  Result<void> after_write() { return options_.cache == CacheMode::Writethrough ? flush() : Result<void>(); }
  Result<void> write_guarded(std::uint64_t offset, std::span<const iovec> iov);

  std::unique_ptr<HostFile> file_;
  OpenOptions options_;
  bool guard_head_;
  std::mutex head_mutex_;  ///< serializes writes to the first sector while guard_head_
  std::atomic<std::uint64_t> size_;
};

Result<void> RawImage::write_guarded(std::uint64_t offset, std::span<const iovec> iov) {
  const std::lock_guard lock(head_mutex_);
  std::array<std::byte, probe_bytes> head;
  TRY_VOID(file_->read_bytes(0, head));
  std::vector<iovec> first;
  iov_slice(iov, 0, probe_bytes - offset, first);
  iov_copy_out(first, head.data() + offset);
  if (looks_formatted(head))
    return Error(
               fmt::format("{}: the guest wrote the mark of an image format into the first sector of a disk whose "
                           "format was guessed as raw; refused, since the next start would believe it. Say format=raw "
                           "if that is what it is",
                           name()))
        .with_code(EPERM);
  TRY_VOID(file_->write(offset, iov));
  return after_write();
}

Result<void> RawImage::resize(std::uint64_t new_size, bool allow_shrink) {
  TRY_VOID(check_writable(0, 0));
  if (new_size < size() && !allow_shrink)
    return Error(fmt::format("{}: making it smaller ({} to {} bytes) loses what lies beyond; allow it with --shrink",
                             name(), size(), new_size))
        .with_code(EINVAL);
  TRY_VOID(file_->truncate(new_size));
  size_.store(align_up(new_size, sector_bytes), std::memory_order_relaxed);
  return {};
}

Result<Image::Status> RawImage::status(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return Error(fmt::format("{}: status of nothing", name())).with_code(EINVAL);
  TRY_VOID(check_range(offset, length));
  TRY(const HostFile::DataRange data, file_->next_data(offset));
  if (data.begin > offset || data.begin == data.end) {
    const std::uint64_t end = data.begin == data.end ? size() : data.begin;
    return Status{Status::Kind::Zero, std::min(length, std::max(end, offset + 1) - offset)};
  }
  return Status{Status::Kind::Data, std::min(length, data.end - offset)};
}

}  // namespace

Result<std::unique_ptr<Image>> open_raw(std::unique_ptr<HostFile> file, const OpenOptions& options, bool probed) {
  TRY(const std::uint64_t size, file->size());
  if (const std::uint64_t over = size % sector_bytes; over != 0)
    log_warning("{}: its size ({} bytes) is no multiple of {}: the last sector reads with {} zeros at its end{}",
                file->path(), size, sector_bytes, sector_bytes - over,
                options.read_only ? "" : ", and a write to it makes the file longer");
  return std::unique_ptr<Image>(std::make_unique<RawImage>(std::move(file), options, probed, size));
}

}  // namespace veneer::disk
