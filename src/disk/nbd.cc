// Images served over NBD, through libnbd.
#include "disk/nbd.h"

#include <fmt/format.h>
#include <libnbd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "disk/iov.h"

namespace veneer::disk {
namespace {

/// Servers must take requests of 32 MiB; smaller ones let others in between.
constexpr std::uint64_t max_request = 4 * 1024 * 1024;

struct Closer {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};
using Handle = std::unique_ptr<nbd_handle, Closer>;

Error nbd_failed(const std::string& uri, std::string_view what) {
  const int code = nbd_get_errno();
  return Error(fmt::format("{} {}: {}", what, uri, nbd_get_error())).with_code(code != 0 ? code : EIO);
}

class NbdImage final : public Image {
 public:
  NbdImage(Handle handle, std::string uri, const OpenOptions& options, std::uint64_t size)
      : handle_(std::move(handle)), uri_(std::move(uri)), options_(options), size_(size) {}
  ~NbdImage() override {
    if (handle_ == nullptr) return;
    if (const auto result = close(); !result) log_error("closing: {}", result.error().message());
  }

  Format format() const override { return Format::Nbd; }
  const std::string& name() const override { return uri_; }
  bool read_only() const override { return options_.read_only; }
  std::uint64_t size() const override { return size_; }
  Limits limits() const override { return {}; }

  Result<void> read(std::uint64_t offset, std::span<const iovec> iov) override {
    TRY_VOID(check(offset, iov_length(iov), false));
    for (const iovec& part : iov) {
      for (std::uint64_t done = 0; done < part.iov_len; done += max_request) {
        const std::size_t now = std::min<std::uint64_t>(part.iov_len - done, max_request);
        const std::lock_guard lock(mutex_);
        if (nbd_pread(handle_.get(), static_cast<std::byte*>(part.iov_base) + done, now, offset + done, 0) != 0)
          return nbd_failed(uri_, "reading");
      }
      offset += part.iov_len;
    }
    return {};
  }
  Result<void> write(std::uint64_t offset, std::span<const iovec> iov) override {
    TRY_VOID(check(offset, iov_length(iov), true));
    for (const iovec& part : iov) {
      for (std::uint64_t done = 0; done < part.iov_len; done += max_request) {
        const std::size_t now = std::min<std::uint64_t>(part.iov_len - done, max_request);
        const std::lock_guard lock(mutex_);
        if (nbd_pwrite(handle_.get(), static_cast<std::byte*>(part.iov_base) + done, now, offset + done, 0) != 0)
          return nbd_failed(uri_, "writing");
      }
      offset += part.iov_len;
    }
    return options_.cache == CacheMode::Writethrough ? flush() : Result<void>();
  }
  Result<void> flush() override {
    const std::lock_guard lock(mutex_);
    if (options_.read_only || nbd_can_flush(handle_.get()) != 1) return {};
    if (nbd_flush(handle_.get(), 0) != 0) return nbd_failed(uri_, "flushing");
    return {};
  }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    TRY_VOID(check(offset, length, true));
    if (options_.discard == DiscardPolicy::Ignore) return {};
    for (std::uint64_t done = 0; done < length; done += max_request) {
      const std::lock_guard lock(mutex_);
      if (nbd_can_trim(handle_.get()) != 1) return {};
      if (nbd_trim(handle_.get(), std::min(length - done, max_request), offset + done, 0) != 0)
        return nbd_failed(uri_, "discarding in");
    }
    return {};
  }
  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroMode mode) override {
    TRY_VOID(check(offset, length, true));
    const std::uint32_t flags = mode == ZeroMode::KeepAllocated ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
    std::vector<std::byte> zeroes;
    for (std::uint64_t done = 0; done < length; done += max_request) {
      const std::uint64_t now = std::min(length - done, max_request);
      {
        const std::lock_guard lock(mutex_);
        if (nbd_can_zero(handle_.get()) == 1) {
          if (nbd_zero(handle_.get(), now, offset + done, flags) != 0) return nbd_failed(uri_, "writing zeros to");
          continue;
        }
      }
      zeroes.resize(max_request);
      const iovec iov{zeroes.data(), static_cast<std::size_t>(now)};
      TRY_VOID(write(offset + done, {&iov, 1}));
    }
    return {};
  }
  Result<void> resize(std::uint64_t, bool) override {
    return Error(fmt::format("{}: the size of an NBD export is its server's business", uri_)).with_code(ENOTSUP);
  }
  Result<Status> status(std::uint64_t offset, std::uint64_t length) override {
    TRY_VOID(check(offset, length, false));
    return Status{Status::Kind::Data, length};
  }
  Result<void> close() override {
    Result<void> result = flush();
    {
      const std::lock_guard lock(mutex_);
      nbd_shutdown(handle_.get(), 0);
    }
    handle_.reset();
    return result;
  }

 protected:
  bool map_extents(std::uint64_t, std::uint64_t, bool, std::vector<HostExtent>&, std::uint64_t&) override {
    return false;
  }
  void end_lease(std::uint64_t) override {}

 private:
  Result<void> check(std::uint64_t offset, std::uint64_t length, bool for_write) const {
    if (for_write && options_.read_only) return Error(fmt::format("{} is open read-only", uri_)).with_code(EROFS);
    if (offset <= size_ && length <= size_ - offset) return {};
    return Error(fmt::format("{}: bytes {} to {} are beyond its end ({})", uri_, offset, offset + length, size_))
        .with_code(EINVAL);
  }

  std::mutex mutex_;  ///< the handle
  Handle handle_;
  std::string uri_;
  OpenOptions options_;
  std::uint64_t size_;
};

}  // namespace

bool is_nbd_uri(std::string_view name) {
  for (const std::string_view scheme : {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"})
    if (name.starts_with(scheme)) return true;
  return false;
}

Result<std::unique_ptr<Image>> open_nbd(const std::string& uri, const OpenOptions& options) {
  Handle handle(nbd_create());
  if (handle == nullptr) return nbd_failed(uri, "preparing a connection to");
  nbd_set_uri_allow_local_file(handle.get(), false);
  if (nbd_connect_uri(handle.get(), uri.c_str()) != 0) return nbd_failed(uri, "connecting to");
  const std::int64_t size = nbd_get_size(handle.get());
  if (size < 0) return nbd_failed(uri, "asking for the size of");
  if (!options.read_only && nbd_is_read_only(handle.get()) == 1)
    return Error(fmt::format("{} is served read-only. Open it read-only", uri)).with_code(EROFS);
  return std::unique_ptr<Image>(
      std::make_unique<NbdImage>(std::move(handle), uri, options, static_cast<std::uint64_t>(size)));
}

}  // namespace veneer::disk
