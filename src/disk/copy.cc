// Copying images.
#include "disk/copy.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include "base/bits.h"
#include "base/units.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk {
namespace {

constexpr std::uint64_t chunk_bytes = 4 * MiB;  ///< what a thread takes at a time; at least one cluster of any format

class Copier {
 public:
  Copier(Image& source, Image& target, const CopyOptions& options)
      : source_(source), target_(target), options_(options), end_(std::min(source.size(), target.size())) {}

  Result<void> run();

 private:
  using Kind = Image::Status::Kind;

  void work();
  Result<void> copy_chunk(std::uint64_t begin, std::uint64_t end, std::byte* buffer);
  Result<void> copy_data(std::uint64_t begin, std::uint64_t end, std::byte* buffer);
  Result<void> copy_compressed(std::uint64_t begin, std::uint64_t end, std::byte* buffer);
  Result<void> put(std::uint64_t begin, std::uint64_t end, std::byte* bytes);
  Result<void> put_zeroes(std::uint64_t begin, std::uint64_t end);
  Result<Image::Status> status(std::uint64_t offset, std::uint64_t length);
  void report();

  Image& source_;
  Image& target_;
  const CopyOptions& options_;
  std::uint64_t end_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<std::uint64_t> done_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  ///< the two below
  std::optional<Error> error_;
  std::chrono::steady_clock::time_point reported_{};
};

/// The source's state with its backing images taken into account, unless only the top layer counts.
Result<Image::Status> Copier::status(std::uint64_t offset, std::uint64_t length) {
  Image* layer = &source_;
  while (true) {
    TRY(Image::Status state, layer->status(offset, std::min(length, layer->size() - offset)));
    length = state.length;
    if (state.kind != Kind::Backing || options_.top_layer_only) return state;
    layer = layer->backing();
    if (layer == nullptr) return Image::Status{Kind::Data, length};
  }
}

Result<void> Copier::put(std::uint64_t begin, std::uint64_t end, std::byte* bytes) {
  if (begin == end) return {};
  const iovec iov{bytes, static_cast<std::size_t>(end - begin)};
  return target_.write(begin, {&iov, 1});
}

Result<void> Copier::put_zeroes(std::uint64_t begin, std::uint64_t end) {
  if (begin == end || options_.target_is_zero) return {};
  return target_.write_zeroes(begin, end - begin, ZeroMode::MayUnmap);
}

/// Reads [begin, end) and writes what is not zero.
Result<void> Copier::copy_data(std::uint64_t begin, std::uint64_t end, std::byte* buffer) {
  const iovec iov{buffer, static_cast<std::size_t>(end - begin)};
  TRY_VOID(source_.read(begin, {&iov, 1}));
  std::uint64_t run = begin;  // start of the current run, which is zero or not
  bool run_zero = false;
  for (std::uint64_t at = begin; at < end;) {
    const std::uint64_t next = std::min(align_down(at, options_.zero_granularity) + options_.zero_granularity, end);
    const bool zero = all_zero(buffer + (at - begin), next - at);
    if (at == begin) run_zero = zero;
    if (zero != run_zero) {
      TRY_VOID(run_zero ? put_zeroes(run, at) : put(run, at, buffer + (run - begin)));
      run = at;
      run_zero = zero;
    }
    at = next;
  }
  return run_zero ? put_zeroes(run, end) : put(run, end, buffer + (run - begin));
}

Result<void> Copier::copy_compressed(std::uint64_t begin, std::uint64_t end, std::byte* buffer) {
  auto& target = static_cast<qcow2::Qcow2Image&>(target_);
  const std::uint64_t cluster = options_.compress_cluster;
  std::memset(buffer, 0, align_up(end - begin, cluster));
  const iovec iov{buffer, static_cast<std::size_t>(end - begin)};
  TRY_VOID(source_.read(begin, {&iov, 1}));
  for (std::uint64_t at = begin; at < end; at += cluster) {
    const std::byte* bytes = buffer + (at - begin);
    if (all_zero(bytes, cluster)) continue;
    TRY(const bool packed, target.write_compressed(at, {bytes, cluster}));
    if (!packed) TRY_VOID(put(at, std::min(at + cluster, end), buffer + (at - begin)));
  }
  return {};
}

Result<void> Copier::copy_chunk(std::uint64_t begin, std::uint64_t end, std::byte* buffer) {
  if (options_.compress_cluster != 0) {
    // Whole clusters, wherever the source's stretches end; holes of the source are skipped as a whole.
    TRY(const Image::Status state, status(begin, end - begin));
    if (state.kind == Kind::Zero && state.length == end - begin) return {};
    return copy_compressed(begin, end, buffer);
  }
  for (std::uint64_t at = begin; at < end;) {
    TRY(const Image::Status state, status(at, end - at));
    const std::uint64_t next = at + state.length;
    if (state.kind == Kind::Data) {
      TRY_VOID(copy_data(at, next, buffer));
    } else if (state.kind == Kind::Zero) {
      TRY_VOID(put_zeroes(at, next));
    }
    at = next;
  }
  return {};
}

void Copier::report() {
  if (!options_.progress) return;
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (now - reported_ < std::chrono::milliseconds(100)) return;
  reported_ = now;
  if (options_.progress(done_.load())) return;
  stop_ = true;
  if (!error_) error_ = Error("stopped").with_code(ECANCELED);
}

void Copier::work() {
  const std::unique_ptr<std::byte, void (*)(void*)> buffer(
      static_cast<std::byte*>(std::aligned_alloc(4096, chunk_bytes)), std::free);
  while (!stop_) {
    const std::uint64_t begin = next_.fetch_add(chunk_bytes);
    if (begin >= end_) return;
    const std::uint64_t end = std::min(begin + chunk_bytes, end_);
    if (auto copied = copy_chunk(begin, end, buffer.get()); !copied) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::move(copied).error();
      stop_ = true;
      return;
    }
    done_ += end - begin;
    report();
  }
}

Result<void> Copier::run() {
  std::vector<std::thread> helpers;
  for (unsigned i = 1; i < options_.threads; ++i) helpers.emplace_back([this] { work(); });
  work();
  for (std::thread& helper : helpers) helper.join();
  if (error_) return std::move(*error_);
  if (options_.progress) options_.progress(end_);
  return {};
}

}  // namespace

bool all_zero(const std::byte* bytes, std::size_t length) {
  constexpr std::size_t block = 256;
  while (length >= block) {
    std::uint64_t words[block / 8];
    std::memcpy(words, bytes, block);
    std::uint64_t any = 0;
    for (const std::uint64_t word : words) any |= word;
    if (any != 0) return false;
    bytes += block;
    length -= block;
  }
  return std::all_of(bytes, bytes + length, [](std::byte b) { return b == std::byte{0}; });
}

Result<void> copy_image(Image& source, Image& target, const CopyOptions& options) {
  return Copier(source, target, options).run();
}

}  // namespace veneer::disk
