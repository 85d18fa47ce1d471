// Disk: an image with an engine around it that carries out requests side by side.
//
// A transfer whose place in a host file is known goes to io_uring, if the host permits that; everything else (metadata,
// flushes, discards) and all transfers without io_uring go to worker threads. docs/disk-io.md has the reasons.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "disk/image.h"
#include "disk/io/backend.h"
#include "disk/io/token_bucket.h"
#include "disk/io/uring.h"
#include "disk/io/worker_pool.h"

namespace veneer::disk {

/// What happens when the host fails to carry out a request.
enum class ErrorPolicy : std::uint8_t {
  Report,        ///< the guest gets an I/O error
  Stop,          ///< the machine pauses; resuming it tries again
  StopIfNoSpace  ///< Stop when the host has no room, else Report
};

/// Who moves the data.
enum class IoEngine : std::uint8_t {
  Auto,     ///< io_uring where the host permits it and it serves, else worker threads
  Threads,  ///< worker threads only
};

struct DiskOptions {
  std::string label = {};   ///< for messages: "vda", "nvme0n1"
  std::string serial = {};  ///< printable ASCII, at most 20 characters
  bool write_cache = true;
  ErrorPolicy write_errors = ErrorPolicy::StopIfNoSpace;
  ErrorPolicy read_errors = ErrorPolicy::Report;
  std::uint64_t iops = 0;              ///< requests a second; 0: no limit
  std::uint64_t bytes_per_second = 0;  ///< 0: no limit
  IoEngine engine = IoEngine::Auto;
};

/// What was done so far. Requests that the guest sees completed count.
struct DiskCounters {
  std::uint64_t reads = 0, writes = 0, flushes = 0, discards = 0, errors = 0;
  std::uint64_t read_bytes = 0, written_bytes = 0;
  std::uint64_t by_uring = 0, by_workers = 0;
};

/// Locks: the board lock guards everything but the list of finished jobs, which has a leaf lock of its own. Requests
/// complete on whatever thread has the board lock: a worker, the event loop, or the vCPU that submitted them.
class Disk final : public Backend {
 public:
  /// `pause_machine` is called when an error stops the disk. All that is passed by reference outlives the disk. Fails
  /// when the host gives no thread.
  static Result<std::unique_ptr<Disk>> create(std::unique_ptr<Image> image, DiskOptions options, EventLoop& events,
                                              std::recursive_mutex& board_lock, std::function<void()> pause_machine);
  /// Not with the board lock held. What has not completed by then is never reported to anybody.
  ~Disk() override;
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // Backend
  std::uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return image_->read_only(); }
  const std::string& serial() const override { return options_.serial; }
  bool write_cache() const override { return options_.write_cache; }
  std::uint32_t physical_block_bytes() const override { return image_->limits().physical_block_bytes; }
  void submit(IoRequest request) override;
  void start() override;
  void settle() override;
  void cancel() override;
  void set_resize_listener(std::function<void()> listener) override { resized_ = std::move(listener); }

  // All with the board lock held.
  /// Tries again what an error had stopped: the machine goes on.
  void resume();
  /// The guest's new disk size; a multiple of the sector size. Growing only.
  Result<void> grow(std::uint64_t size_bytes);
  /// Looks whether the image has been grown from outside; for raw images this happens by itself every few seconds. An
  /// error says that it was made smaller.
  Result<void> refresh_size();
  /// Settles, flushes and closes the image: the last call. Errors say what may be lost.
  Result<void> close();

  const DiskOptions& options() const { return options_; }
  const Image& image() const { return *image_; }
  const DiskCounters& counters() const { return counters_; }
  bool uses_uring() const { return uring_ != nullptr; }
  std::size_t running() const { return running_; }
  std::size_t stopped() const { return stopped_.size(); }
  std::size_t waiting() const { return throttled_.size(); }

 private:
  Disk(std::unique_ptr<Image> image, DiskOptions options, EventLoop& events, std::recursive_mutex& board_lock,
       std::function<void()> pause_machine);
  Result<void> start_engine();

  struct Job;
  using JobPtr = std::unique_ptr<Job>;

  void dispatch(JobPtr job);
  bool dispatch_to_uring(JobPtr& job);
  void dispatch_to_workers(JobPtr job);
  static Result<void> carry_out(Image& image, const IoRequest& request);
  void worker_finished(JobPtr job);
  void run_finished();
  void reap();
  void complete(JobPtr job);
  bool stops(const Job& job) const;
  void stop(JobPtr job);
  void count(const IoRequest& request);
  void run_throttled();
  void set_size(std::uint64_t size_bytes);
  void look_at_size();

  const std::unique_ptr<Image> image_;
  const DiskOptions options_;
  EventLoop& events_;
  std::recursive_mutex& board_lock_;
  const std::function<void()> pause_machine_;
  std::function<void()> resized_;
  std::uint64_t size_bytes_ = 0;
  DiskCounters counters_;
  LogLimiter complaints_;
  bool closed_ = false;

  TokenBucket requests_, bytes_;
  std::deque<JobPtr> throttled_;  // in order of arrival
  std::unique_ptr<Timer> throttle_timer_;
  std::unique_ptr<Timer> size_timer_;
  bool cut_ = false;  // it was said that the image has become smaller

  std::vector<JobPtr> stopped_;
  std::size_t running_ = 0;   // in the ring, with the workers, or finished and not completed
  std::size_t in_uring_ = 0;  // jobs in the ring
  std::unique_ptr<Uring> uring_;

  std::mutex finished_mutex_;
  std::condition_variable finished_changed_;
  std::vector<JobPtr> finished_;  // guarded by finished_mutex_, as the next
  bool completer_waits_ = false;  // somebody is about to take the board lock and complete them
  std::atomic<bool> ending_{false};
  std::unique_ptr<WorkerPool> workers_;  // last: its threads use the rest
};

}  // namespace veneer::disk
