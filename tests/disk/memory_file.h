// A host file in memory, for tests: it can log what reaches it, and fail on demand.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "disk/host_file.h"
#include "disk/iov.h"

namespace veneer::disk::testing {

class MemoryFile final : public HostFile {
 public:
  struct Step {
    enum class Kind : std::uint8_t { Write, Discard, Truncate, Sync };
    Kind kind;
    std::uint64_t offset;  ///< Truncate: the new size
    std::uint64_t length;
    std::vector<std::byte> bytes;  ///< Write
  };

  explicit MemoryFile(std::vector<std::byte> bytes = {}) : bytes_(std::move(bytes)) {}

  Result<void> read(std::uint64_t offset, std::span<const iovec> iov) override {
    const std::lock_guard lock(mutex_);
    for (const iovec& part : iov) {
      if (part.iov_len == 0) continue;  // may be a null pointer
      std::memset(part.iov_base, 0, part.iov_len);
      if (offset < bytes_.size())
        std::memcpy(part.iov_base, bytes_.data() + offset,
                    std::min<std::uint64_t>(part.iov_len, bytes_.size() - offset));
      offset += part.iov_len;
    }
    return {};
  }
  Result<void> write(std::uint64_t offset, std::span<const iovec> iov) override {
    if (before_write) before_write();
    const std::lock_guard lock(mutex_);
    const std::uint64_t length = iov_length(iov);
    if (offset + length > limit) return Error("no space").with_code(ENOSPC);
    if (offset + length > bytes_.size()) bytes_.resize(offset + length);
    iov_copy_out(iov, bytes_.data() + offset);
    ++writes;
    if (logging)
      log.push_back({Step::Kind::Write,
                     offset,
                     length,
                     {bytes_.begin() + static_cast<std::ptrdiff_t>(offset),
                      bytes_.begin() + static_cast<std::ptrdiff_t>(offset + length)}});
    return {};
  }
  Result<void> sync() override {
    const std::lock_guard lock(mutex_);
    if (fail_sync) return Error("the disk is broken").with_code(EIO);
    if (logging) log.push_back({Step::Kind::Sync, 0, 0, {}});
    return {};
  }
  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool) override {
    return discard(offset, length);
  }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    const std::lock_guard lock(mutex_);
    apply(bytes_, {Step::Kind::Discard, offset, length, {}});
    ++writes;
    if (logging) log.push_back({Step::Kind::Discard, offset, length, {}});
    return {};
  }
  Result<void> truncate(std::uint64_t size) override {
    const std::lock_guard lock(mutex_);
    if (size > limit) return Error("no space").with_code(ENOSPC);
    bytes_.resize(size);
    ++writes;
    if (logging) log.push_back({Step::Kind::Truncate, size, 0, {}});
    return {};
  }
  Result<std::uint64_t> size() override {
    const std::lock_guard lock(mutex_);
    return std::uint64_t{bytes_.size()};
  }
  Result<DataRange> next_data(std::uint64_t offset) override {
    const std::lock_guard lock(mutex_);
    return DataRange{std::min<std::uint64_t>(offset, bytes_.size()), bytes_.size()};
  }
  int transfer_fd() const override { return fd; }
  const std::string& path() const override { return path_; }

  const std::vector<std::byte>& bytes() const { return bytes_; }
  /// A step's effect on a file's bytes.
  static void apply(std::vector<std::byte>& bytes, const Step& step) {
    switch (step.kind) {
      case Step::Kind::Write:
        if (step.offset + step.length > bytes.size()) bytes.resize(step.offset + step.length);
        std::copy(step.bytes.begin(), step.bytes.end(), bytes.begin() + static_cast<std::ptrdiff_t>(step.offset));
        return;
      case Step::Kind::Discard: {
        const std::uint64_t begin = std::min<std::uint64_t>(step.offset, bytes.size());
        const std::uint64_t end = std::min<std::uint64_t>(step.offset + step.length, bytes.size());
        std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.begin() + static_cast<std::ptrdiff_t>(end),
                  std::byte{0});
        return;
      }
      case Step::Kind::Truncate:
        bytes.resize(step.offset);
        return;
      case Step::Kind::Sync:
        return;
    }
  }

  bool logging = false;
  std::vector<Step> log;
  std::uint64_t limit = std::uint64_t{1} << 30;  ///< larger files do not fit on this disk
  std::uint64_t writes = 0;
  bool fail_sync = false;
  std::function<void()> before_write = {};  ///< called on the thread that writes
  int fd = -1;                              ///< what mappings name

 private:
  std::mutex mutex_;
  std::vector<std::byte> bytes_;
  std::string path_ = "memory.qcow2";
};

}  // namespace veneer::disk::testing
