// TokenBucket: a rate limit that lets short bursts through.
#pragma once

#include <algorithm>
#include <cstdint>

namespace veneer::disk {

/// So many units (requests, bytes) a second, with a tenth of a second saved up at most. A request larger than what can
/// be saved goes through once the bucket is full, and the debt is waited off by those behind it.
class TokenBucket {
 public:
  /// 0: no limit.
  explicit TokenBucket(std::uint64_t per_second = 0)
      : per_second_(per_second), burst_(std::max(1.0, static_cast<double>(per_second) / 10)), tokens_(burst_) {}

  bool limited() const { return per_second_ != 0; }

  /// When the next request may start: now_ns or later.
  std::uint64_t ready_ns(std::uint64_t now_ns) {
    refill(now_ns);
    if (!limited() || tokens_ > 0) return now_ns;
    const double missing = 1 - tokens_;
    return now_ns + static_cast<std::uint64_t>(missing * 1e9 / static_cast<double>(per_second_)) + 1;
  }
  /// Charges a request that starts at now_ns.
  void take(std::uint64_t now_ns, std::uint64_t units) {
    refill(now_ns);
    if (limited()) tokens_ -= static_cast<double>(units);
  }

 private:
  void refill(std::uint64_t now_ns) {
    if (limited() && now_ns > last_ns_)
      tokens_ =
          std::min(burst_, tokens_ + static_cast<double>(now_ns - last_ns_) * 1e-9 * static_cast<double>(per_second_));
    last_ns_ = std::max(last_ns_, now_ns);
  }

  std::uint64_t per_second_;
  double burst_;
  double tokens_;
  std::uint64_t last_ns_ = 0;
};

}  // namespace veneer::disk
