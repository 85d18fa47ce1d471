// Disk: where requests go, how they come back, and what happens when the host fails.
#include "disk/io/disk.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "disk/iov.h"

namespace veneer::disk {
namespace {

constexpr unsigned uring_entries = 256;
constexpr std::size_t worker_count = 4;
constexpr std::uint64_t size_poll_ns = 3'000'000'000;  // of raw images, which others can grow
/// Cached transfers above this go to a worker, because copying them would keep the vCPU that submits them.
constexpr std::uint64_t uring_cached_bytes_max = 64 * 1024;

bool moves_data(IoKind kind) { return kind == IoKind::Read || kind == IoKind::Write; }

IoStatus status_of(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return IoStatus::NoSpace;
    case EROFS:
      return IoStatus::ReadOnly;
    default:
      return IoStatus::Failed;
  }
}

/// Is this image, or one below it, on a server?
bool talks_to_a_server(Image& image) {
  for (Image* layer = &image; layer != nullptr; layer = layer->backing())
    if (layer->format() == Format::Nbd) return true;
  return false;
}

}  // namespace

/// A request on its way. Its address is its tag in the ring.
struct Disk::Job {
  explicit Job(IoRequest what) : request(std::move(what)) {}
  IoRequest request;
  Mapping mapping;                         // keeps the places in the host file while the ring uses them
  std::vector<std::vector<iovec>> pieces;  // of each extent, when there is more than one
  unsigned transfers_left = 0;             // in the ring
  bool ring_failed = false;                // in whole or in part: a worker does it again, and knows why
  std::uint64_t transfer_bytes = 0;        // what the ring should move
  IoStatus status = IoStatus::Ok;
  std::string error;
};

Disk::Disk(std::unique_ptr<Image> image, DiskOptions options, EventLoop& events, std::recursive_mutex& board_lock,
           std::function<void()> pause_machine)
    : image_(std::move(image)),
      options_(std::move(options)),
      events_(events),
      board_lock_(board_lock),
      pause_machine_(std::move(pause_machine)),
      size_bytes_(align_down(image_->size(), sector_bytes)),
      requests_(options_.iops),
      bytes_(options_.bytes_per_second) {
  throttle_timer_ = events_.make_timer([this] { run_throttled(); });
  size_timer_ = events_.make_timer([this] { look_at_size(); });
  if (image_->format() == Format::Raw) size_timer_->arm(events_.clock().now_ns() + size_poll_ns);
}

Result<std::unique_ptr<Disk>> Disk::create(std::unique_ptr<Image> image, DiskOptions options, EventLoop& events,
                                           std::recursive_mutex& board_lock, std::function<void()> pause_machine) {
  std::unique_ptr<Disk> disk(
      new Disk(std::move(image), std::move(options), events, board_lock, std::move(pause_machine)));
  TRY_VOID(disk->start_engine());
  return disk;
}

Result<void> Disk::start_engine() {
  TRY(workers_, WorkerPool::create(fmt::format("_{}:", options_.label.substr(0, 11)), worker_count,
                                   talks_to_a_server(*image_) ? ThreadKind::Remote : ThreadKind::Worker));
  if (options_.engine == IoEngine::Threads) return {};
  auto uring = Uring::create(uring_entries);
  if (!uring) {
    log_debug("disk {}: {}; worker threads do the transfers", options_.label, uring.error().message());
    return {};
  }
  uring_ = std::move(uring).value();
  events_.add_fd(uring_->event_fd(), EPOLLIN, [this](std::uint32_t) {
    uring_->clear_event();
    reap();
  });
  return {};
}

Disk::~Disk() {
  ending_ = true;
  if (uring_) events_.remove_fd(uring_->event_fd());
  workers_.reset();  // waits for what they do
  const std::lock_guard hold(board_lock_);
  while (in_uring_ > 0) {
    uring_->wait();
    void* tag = nullptr;
    int result = 0;
    while (uring_->reap(tag, result)) {
      Job* job = static_cast<Job*>(tag);
      if (--job->transfers_left > 0) continue;
      --in_uring_;
      delete job;
    }
  }
}

// ---- Requests come ------------------------------------------------------------------------------------------------

void Disk::submit(IoRequest request) {
  auto job = std::make_unique<Job>(std::move(request));
  if (!requests_.limited() && !bytes_.limited()) return dispatch(std::move(job));
  throttled_.push_back(std::move(job));
  run_throttled();
}

void Disk::start() {
  if (!uring_) return;
  uring_->submit();
  reap();
}

/// Starts what the rates allow, and sets the timer for what they do not.
void Disk::run_throttled() {
  const std::uint64_t now = events_.clock().now_ns();
  bool any = false;
  while (!throttled_.empty()) {
    const std::uint64_t ready = std::max(requests_.ready_ns(now), bytes_.ready_ns(now));
    if (ready > now) {
      throttle_timer_->arm(ready);
      break;
    }
    JobPtr job = std::move(throttled_.front());
    throttled_.pop_front();
    requests_.take(now, 1);
    if (moves_data(job->request.kind)) bytes_.take(now, job->request.bytes);
    dispatch(std::move(job));
    any = true;
  }
  if (any) start();
}

void Disk::dispatch(JobPtr job) {
  ++running_;
  if (!dispatch_to_uring(job)) dispatch_to_workers(std::move(job));
}

/// False, and the job is still the caller's, when the ring is not the way.
bool Disk::dispatch_to_uring(JobPtr& job) {
  const IoRequest& request = job->request;
  if (!uring_ || !moves_data(request.kind) || request.force_unit_access) return false;
  const Limits limits = image_->limits();
  const bool direct = limits.direct_alignment > 1;
  // A cached write may have to wait for the file system, which the kernel would do on a thread of its own: then better
  // on one of ours. A cached read that finds its page is done when submit() returns.
  if (!direct && (request.kind == IoKind::Write || request.bytes > uring_cached_bytes_max)) return false;
  const bool read = request.kind == IoKind::Read;
  if (!(read ? image_->map_for_read(request.offset, request.bytes, job->mapping)
             : image_->map_for_write(request.offset, request.bytes, job->mapping)))
    return false;

  std::uint64_t aligned_bits = 0;
  for (const HostExtent& extent : job->mapping.extents) aligned_bits |= extent.host_offset | extent.length;
  for (const iovec& piece : request.buffers)
    aligned_bits |= reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len;
  const bool fits = !direct || aligned_bits % limits.direct_alignment == 0;
  if (!fits || job->mapping.extents.size() > uring_entries / 4) {
    job->mapping.release();
    return false;
  }

  job->pieces.resize(job->mapping.extents.size());
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < job->pieces.size(); ++i) {
    const HostExtent& extent = job->mapping.extents[i];
    iov_slice(request.buffers, at, extent.length, job->pieces[i]);
    at += extent.length;
    if (extent.fd == HostExtent::zeroes) {
      iov_fill_zero(job->pieces[i]);
      continue;
    }
    const auto transfer = read ? Uring::Transfer::Read : Uring::Transfer::Write;
    if (!uring_->prepare(transfer, extent.fd, extent.host_offset, job->pieces[i], job.get())) {
      job->ring_failed = true;  // full: what is already in comes back first
      break;
    }
    ++job->transfers_left;
    job->transfer_bytes += extent.length;
  }
  if (job->transfers_left == 0) {
    if (job->ring_failed) {
      job->ring_failed = false;
      job->mapping.release();
      return false;
    }
    job->mapping.release();
    worker_finished(std::move(job));  // all zeroes
    return true;
  }
  ++in_uring_;
  ++counters_.by_uring;
  (void)job.release();  // the ring's now; reap() gets it back by its tag
  return true;
}

void Disk::dispatch_to_workers(JobPtr job) {
  ++counters_.by_workers;
  // std::function wants to copy what it holds.
  workers_->post([this, raw = job.release()] {
    JobPtr mine(raw);
    if (const Result<void> result = carry_out(*image_, mine->request); !result) {
      mine->status = status_of(result.error().code());
      mine->error = result.error().message();
    }
    worker_finished(std::move(mine));
  });
}

/// The blocking way, on a worker.
Result<void> Disk::carry_out(Image& image, const IoRequest& request) {
  switch (request.kind) {
    case IoKind::Read:
      return image.read(request.offset, request.buffers);
    case IoKind::Write:
      TRY_VOID(image.write(request.offset, request.buffers));
      break;
    case IoKind::Flush:
      return image.flush();
    case IoKind::Discard:
      return image.discard(request.offset, request.bytes);
    case IoKind::WriteZeroes:
      TRY_VOID(image.write_zeroes(request.offset, request.bytes,
                                  request.may_unmap ? ZeroMode::MayUnmap : ZeroMode::KeepAllocated));
      break;
  }
  return request.force_unit_access ? image.flush() : Result<void>();
}

// ---- Requests end -------------------------------------------------------------------------------------------------

/// Any thread. One waits for the board lock and completes what is there then; the others only append. If each who finds
/// the list empty waited, all workers could wait for somebody who holds the lock and waits for them in settle().
void Disk::worker_finished(JobPtr job) {
  {
    const std::lock_guard hold(finished_mutex_);
    finished_.push_back(std::move(job));
    finished_changed_.notify_all();
    if (std::exchange(completer_waits_, true)) return;
  }
  if (ending_) return;
  const std::lock_guard hold(board_lock_);
  {
    const std::lock_guard hold_list(finished_mutex_);
    completer_waits_ = false;  // what comes from here on may be too late for us
  }
  if (!ending_) run_finished();
}

void Disk::run_finished() {
  for (;;) {
    std::vector<JobPtr> jobs;
    {
      const std::lock_guard hold(finished_mutex_);
      jobs.swap(finished_);
    }
    if (jobs.empty()) return;
    for (JobPtr& job : jobs) {
      --running_;
      complete(std::move(job));
    }
  }
}

/// Takes back what the ring has finished.
void Disk::reap() {
  void* tag = nullptr;
  int result = 0;
  while (uring_->reap(tag, result)) {
    Job* job = static_cast<Job*>(tag);
    if (result < 0)
      job->ring_failed = true;
    else
      job->transfer_bytes -= static_cast<std::uint64_t>(result);
    if (--job->transfers_left > 0) continue;
    --in_uring_;
    JobPtr owned(job);
    owned->mapping.release();
    // Short transfers (a read across the end of the file), errors, and what the kernel cancelled because the thread
    // that submitted it has ended: all done once more by a worker, whose word counts.
    if (owned->ring_failed || owned->transfer_bytes != 0) {
      dispatch_to_workers(std::move(owned));
      continue;
    }
    --running_;
    complete(std::move(owned));
  }
}

void Disk::complete(JobPtr job) {
  if (job->status == IoStatus::Ok) {
    count(job->request);
  } else {
    ++counters_.errors;
    if (const LogLimiter::Verdict verdict = complaints_.admit(); verdict.admitted)
      log_error("disk {}: {} {} bytes at {}: {}", options_.label, io_kind_name(job->request.kind), job->request.bytes,
                job->request.offset, job->error);
    if (stops(*job)) return stop(std::move(job));
  }
  VENEER_TRACE(Disk, "{}: {} {} bytes at {}: status {}", options_.label, io_kind_name(job->request.kind),
               job->request.bytes, job->request.offset, static_cast<int>(job->status));
  job->request.done(job->status);
}

void Disk::count(const IoRequest& request) {
  switch (request.kind) {
    case IoKind::Read:
      ++counters_.reads;
      counters_.read_bytes += request.bytes;
      break;
    case IoKind::Write:
    case IoKind::WriteZeroes:
      ++counters_.writes;
      counters_.written_bytes += request.bytes;
      break;
    case IoKind::Flush:
      ++counters_.flushes;
      break;
    case IoKind::Discard:
      ++counters_.discards;
      break;
  }
}

bool Disk::stops(const Job& job) const {
  const ErrorPolicy policy = job.request.kind == IoKind::Read ? options_.read_errors : options_.write_errors;
  return policy == ErrorPolicy::Stop || (policy == ErrorPolicy::StopIfNoSpace && job.status == IoStatus::NoSpace);
}

void Disk::stop(JobPtr job) {
  if (stopped_.empty()) {
    log_error("disk {}: the machine is paused, nothing is lost. {}, then let it go on (Ctrl-A c, resume)",
              options_.label,
              job->status == IoStatus::NoSpace ? "Make room on the host" : "Mend what the message above says");
    pause_machine_();
  }
  stopped_.push_back(std::move(job));
}

void Disk::resume() {
  for (JobPtr& job : std::exchange(stopped_, {})) {
    auto again = std::make_unique<Job>(std::move(job->request));
    dispatch(std::move(again));
  }
  start();
}

// ---- Standing still -----------------------------------------------------------------------------------------------

void Disk::settle() {
  for (JobPtr& job : std::exchange(throttled_, {})) dispatch(std::move(job));
  throttle_timer_->cancel();
  start();
  run_finished();
  while (running_ > 0) {
    if (running_ > in_uring_) {
      {
        std::unique_lock hold(finished_mutex_);
        finished_changed_.wait(hold, [this] { return !finished_.empty(); });
      }
      run_finished();
    } else {
      uring_->wait();
    }
    if (uring_) reap();
  }
}

void Disk::cancel() {
  settle();
  for (JobPtr& job : std::exchange(stopped_, {})) job->request.done(IoStatus::Cancelled);
}

Result<void> Disk::close() {
  if (std::exchange(closed_, true)) return {};
  settle();
  Result<void> closed = image_->close();
  if (!closed) return std::move(closed).error().context(fmt::format("disk {}", options_.label));
  if (!stopped_.empty())
    return Error(
        fmt::format("disk {}: {} writes could not be carried out, because the host failed; the guest was "
                    "never told that they were done",
                    options_.label, stopped_.size()));
  return {};
}

// ---- Size ---------------------------------------------------------------------------------------------------------

Result<void> Disk::grow(std::uint64_t size) {
  if (size % sector_bytes != 0 || size < size_bytes_)
    return Error(
        fmt::format("disk {}: a size of {} bytes is not possible: it is to be a multiple of {} and not below "
                    "the present {}",
                    options_.label, size, sector_bytes, size_bytes_));
  TRY_VOID(image_->resize(size, false));
  set_size(image_->size());
  return {};
}

Result<void> Disk::refresh_size() {
  TRY(const std::uint64_t now, image_->refresh_size());
  const std::uint64_t size = align_down(now, sector_bytes);
  if (size >= size_bytes_) {
    cut_ = false;
    if (size > size_bytes_) log_info("disk {}: {} has grown to {} bytes", options_.label, image_->name(), size);
    set_size(size);
    return {};
  }
  // The guest's disk keeps its size, since no guest expects a disk to shrink; what it asks for beyond the end fails.
  return Error(
      fmt::format("disk {}: {} was made smaller by somebody else ({} bytes; the guest has a disk of {}): what "
                  "lay beyond is lost, and requests there fail",
                  options_.label, image_->name(), size, size_bytes_));
}

/// Nothing tells when a file or a device has grown.
void Disk::look_at_size() {
  if (closed_) return;
  if (const Result<void> result = refresh_size(); !result && !std::exchange(cut_, true))
    log_error("{}", result.error().message());
  size_timer_->arm(events_.clock().now_ns() + size_poll_ns);
}

void Disk::set_size(std::uint64_t size) {
  size = align_down(size, sector_bytes);
  if (std::exchange(size_bytes_, size) != size && resized_) resized_();
}

}  // namespace veneer::disk
