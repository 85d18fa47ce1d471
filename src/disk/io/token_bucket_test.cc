// Rates, bursts and debts.
#include "disk/io/token_bucket.h"

#include <gtest/gtest.h>

namespace veneer::disk {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

/// Requests that start in the first `seconds`, taken as soon as each may.
std::uint64_t served(TokenBucket bucket, std::uint64_t seconds, std::uint64_t units) {
  std::uint64_t count = 0;
  for (std::uint64_t now = 0; (now = bucket.ready_ns(now)) < seconds * second; ++count) bucket.take(now, units);
  return count;
}

TEST(TokenBucket, WithoutALimitAllIsReadyAtOnce) { EXPECT_EQ(TokenBucket().ready_ns(5), 5u); }
TEST(TokenBucket, KeepsTheRate) { EXPECT_NEAR(static_cast<double>(served(TokenBucket(100), 10, 1)), 1000, 15); }
TEST(TokenBucket, KeepsTheRateOfLargeRequests) {
  EXPECT_NEAR(static_cast<double>(served(TokenBucket(1 << 20), 20, 1 << 19)), 40, 2);
}
TEST(TokenBucket, LetsABurstThrough) {
  TokenBucket bucket(100);
  unsigned burst = 0;
  for (; bucket.ready_ns(0) == 0; ++burst) bucket.take(0, 1);
  EXPECT_EQ(burst, 10u);
}
TEST(TokenBucket, ALongPauseSavesUpOneBurstOnly) {
  TokenBucket bucket(100);
  unsigned burst = 0;
  const std::uint64_t later = 1000 * second;
  for (; bucket.ready_ns(later) == later; ++burst) bucket.take(later, 1);
  EXPECT_EQ(burst, 10u);
}
TEST(TokenBucket, OneASecondStillServes) { EXPECT_GT(served(TokenBucket(1), 10, 1), 8u); }

}  // namespace
}  // namespace veneer::disk
