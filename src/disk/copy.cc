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
/// What is read, looked through and written at once: small enough to stay in a core's cache on the way.
constexpr std::uint64_t step_bytes = 512 * KiB;

class Copier {
 public:
  Copier(Image& source, Image& target, const CopyOptions& options)
      : source_(source), target_(target), options_(options), end_(std::min(source.size(), target.size())) {}

  Result<void> run();

 private:
  using Kind = Image::Status::Kind;

  /// A chunk for one thread, or several that are known to be one stretch of zeros.
  struct Portion {
    std::uint64_t begin = 0, end = 0;
    std::optional<Kind> kind = {};  ///< of all of it, if that is known
  };

  void work();
  Result<Portion> next_portion();
  Result<void> copy_portion(const Portion& portion, std::byte* buffer);
  Result<void> copy_stretch(Kind kind, std::uint64_t begin, std::uint64_t end, std::byte* buffer);
  Result<void> copy_data(std::uint64_t begin, std::uint64_t end, std::byte* buffer);
  Result<void> copy_step(std::uint64_t begin, std::uint64_t end, std::byte* buffer);
  Result<void> copy_compressed(std::uint64_t begin, std::uint64_t end, std::byte* buffer);
  Result<void> put(std::uint64_t begin, std::uint64_t end, std::byte* bytes);
  Result<void> put_zeroes(std::uint64_t begin, std::uint64_t end);
  Result<Image::Status> status(std::uint64_t offset, std::uint64_t length);
  void report();

  Image& source_;
  Image& target_;
  const CopyOptions& options_;
  std::uint64_t end_;
  std::atomic<std::uint64_t> done_{0};
  std::atomic<bool> stop_{false};
  std::mutex portions_mutex_;  ///< the three below
  std::uint64_t next_ = 0;     ///< where the next portion begins; on a chunk's boundary
  std::uint64_t known_end_ = 0;
  Kind known_kind_ = Kind::Data;  ///< of what lies from next_ to known_end_
  std::mutex mutex_;              ///< the two below
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
  const std::uint64_t step = std::max(step_bytes, options_.zero_granularity);
  while (begin < end) {
    const std::uint64_t next = std::min(align_down(begin, step) + step, end);
    TRY_VOID(copy_step(begin, next, buffer));
    begin = next;
  }
  return {};
}

Result<void> Copier::copy_step(std::uint64_t begin, std::uint64_t end, std::byte* buffer) {
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

/// Empty at the end. A long hole is passed over here, by one look at the source.
Result<Copier::Portion> Copier::next_portion() {
  const std::lock_guard lock(portions_mutex_);
  while (next_ < end_) {
    const std::uint64_t begin = next_;
    const std::uint64_t chunk_end = std::min(begin + chunk_bytes, end_);
    if (known_end_ < chunk_end) {
      TRY(const Image::Status state, status(begin, end_ - begin));
      known_end_ = begin + state.length;
      known_kind_ = state.kind;
    }
    if (known_end_ < chunk_end || known_kind_ == Kind::Data) {
      next_ = chunk_end;
      return Portion{begin, chunk_end,
                     known_end_ < chunk_end ? std::optional<Kind>() : std::optional<Kind>(known_kind_)};
    }
    const std::uint64_t hole_end = known_end_ == end_ ? end_ : align_down(known_end_, chunk_bytes);
    next_ = hole_end;
    if (known_kind_ == Kind::Zero && !options_.target_is_zero) return Portion{begin, hole_end, Kind::Zero};
    done_ += hole_end - begin;
  }
  return Portion{};
}

Result<void> Copier::copy_stretch(Kind kind, std::uint64_t begin, std::uint64_t end, std::byte* buffer) {
  if (kind == Kind::Data) return copy_data(begin, end, buffer);
  if (kind == Kind::Zero) return put_zeroes(begin, end);
  return {};
}

Result<void> Copier::copy_portion(const Portion& portion, std::byte* buffer) {
  // Whole clusters, wherever the source's stretches end.
  if (options_.compress_cluster != 0 && portion.kind != Kind::Zero)
    return copy_compressed(portion.begin, portion.end, buffer);
  if (portion.kind) return copy_stretch(*portion.kind, portion.begin, portion.end, buffer);
  for (std::uint64_t at = portion.begin; at < portion.end;) {
    TRY(const Image::Status state, status(at, portion.end - at));
    TRY_VOID(copy_stretch(state.kind, at, at + state.length, buffer));
    at += state.length;
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
    auto portion = next_portion();
    if (portion.ok() && portion.value().begin == portion.value().end) return;
    Result<void> copied = portion.ok() ? copy_portion(portion.value(), buffer.get()) : std::move(portion).error();
    if (!copied) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::move(copied).error();
      stop_ = true;
      return;
    }
    done_ += portion.value().end - portion.value().begin;
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
