// Leases: which transfers are under way, so that a freed cluster is not reused under one that still writes to it.
//
// Thread-safe by a leaf lock of its own, because a transfer ends where nobody may wait for the image's lock, which is
// held while tables are written. A transfer begins, and an epoch ends, with the image's lock held: what is freed in
// between is what no later transfer can find.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>

namespace veneer::disk::qcow2 {

class Leases {
 public:
  /// A transfer begins; give the answer back to end().
  std::uint64_t begin() {
    const std::lock_guard hold(mutex_);
    ++counts_.back();
    return first_ + counts_.size() - 1;
  }
  void end(std::uint64_t epoch) {
    const std::lock_guard hold(mutex_);
    --counts_[epoch - first_];
    drop_drained();
  }
  /// Starts a new epoch and answers with the one that ends: what is freed now may be reused once drained(epoch).
  std::uint64_t next_epoch() {
    const std::lock_guard hold(mutex_);
    counts_.push_back(0);
    const std::uint64_t ended = first_ + counts_.size() - 2;
    drop_drained();
    return ended;
  }
  /// No transfer that began in this epoch or before is under way.
  bool drained(std::uint64_t epoch) const {
    const std::lock_guard hold(mutex_);
    return first_ > epoch;
  }

 private:
  void drop_drained() {
    while (counts_.size() > 1 && counts_.front() == 0) {
      counts_.pop_front();
      ++first_;
    }
  }

  mutable std::mutex mutex_;
  std::deque<std::uint64_t> counts_{0};  ///< transfers under way, by epoch; the last is the current one
  std::uint64_t first_ = 0;              ///< the epoch of counts_.front()
};

}  // namespace veneer::disk::qcow2
