// Leases: which transfers are under way, so that a freed cluster is not reused under one that still writes to it.
//
// Not thread-safe: the image's lock is held around every call.
#pragma once

#include <cstdint>
#include <deque>

namespace veneer::disk::qcow2 {

class Leases {
 public:
  /// A transfer begins; give the answer back to end().
  std::uint64_t begin() {
    ++counts_.back();
    return first_ + counts_.size() - 1;
  }
  void end(std::uint64_t epoch) {
    --counts_[epoch - first_];
    while (counts_.size() > 1 && counts_.front() == 0) {
      counts_.pop_front();
      ++first_;
    }
  }
  /// Starts a new epoch and answers with the one that ends: what is freed now may be reused once drained(epoch).
  std::uint64_t next_epoch() {
    counts_.push_back(0);
    const std::uint64_t ended = first_ + counts_.size() - 2;
    while (counts_.size() > 1 && counts_.front() == 0) {
      counts_.pop_front();
      ++first_;
    }
    return ended;
  }
  /// No transfer that began in this epoch or before is under way.
  bool drained(std::uint64_t epoch) const { return first_ > epoch; }

 private:
  std::deque<std::uint64_t> counts_{0};  ///< transfers under way, by epoch; the last is the current one
  std::uint64_t first_ = 0;              ///< the epoch of counts_.front()
};

}  // namespace veneer::disk::qcow2
