// A disk in memory for tests of block devices: answers at once, later, or never.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "disk/io/backend.h"

namespace veneer::devices::testing {

class FakeBackend : public disk::Backend {
 public:
  explicit FakeBackend(std::size_t size) : bytes(size) {}

  std::uint64_t size_bytes() const override { return bytes.size(); }
  bool read_only() const override { return is_read_only; }
  const std::string& serial() const override { return serial_; }
  bool write_cache() const override { return true; }
  std::uint32_t physical_block_bytes() const override { return 4096; }

  void submit(disk::IoRequest request) override {
    ++requests;
    held.push_back(std::move(request));
    if (at_once) release();
  }
  void start() override {
    if (!hold && !stuck) release();
  }
  void settle() override {
    if (!stuck) release();
  }
  void cancel() override {
    settle();
    for (disk::IoRequest& request : std::exchange(held, {})) request.done(disk::IoStatus::Cancelled);
  }
  void set_resize_listener(std::function<void()> listener) override { resized_ = std::move(listener); }

  /// Carries out and answers all that is held.
  void release() {
    for (disk::IoRequest& request : std::exchange(held, {})) {
      if (answer == disk::IoStatus::Ok) carry_out(request);
      last = std::move(request);
      const auto done = last.done;  // may submit the next one, which becomes the last
      done(answer);
    }
  }
  /// Forgets what is held, as when another process takes over.
  void drop() { held.clear(); }
  void resize(std::size_t size) {
    bytes.resize(size);
    if (resized_) resized_();
  }

  std::vector<std::byte> bytes;
  bool is_read_only = false;
  bool hold = false;     ///< requests wait for release(), settle() or cancel()
  bool at_once = false;  ///< requests are answered before submit() returns
  bool stuck = false;    ///< an error of the host has stopped them
  disk::IoStatus answer = disk::IoStatus::Ok;
  std::vector<disk::IoRequest> held;
  disk::IoRequest last;  ///< the last one that was answered
  unsigned requests = 0;
  unsigned flushes = 0;

 private:
  void carry_out(const disk::IoRequest& request) {
    std::byte* at = bytes.data() + request.offset;
    if (request.kind == disk::IoKind::Flush) ++flushes;
    if (request.kind == disk::IoKind::WriteZeroes) std::memset(at, 0, request.bytes);
    for (const iovec& piece : request.buffers) {
      if (request.kind == disk::IoKind::Read)
        std::memcpy(piece.iov_base, at, piece.iov_len);
      else
        std::memcpy(at, piece.iov_base, piece.iov_len);
      at += piece.iov_len;
    }
  }
  std::string serial_ = "disk-1";
  std::function<void()> resized_;
};

}  // namespace veneer::devices::testing
