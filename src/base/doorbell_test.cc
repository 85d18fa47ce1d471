// Doorbell: nothing is missed, and patience ends.
#include "base/doorbell.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace veneer {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
constexpr std::uint64_t long_ns = 60'000'000'000;

TEST(Doorbell, WhatRangBeforeTheWaitEndsIt) {
  Doorbell bell;
  const std::uint32_t seen = bell.rings();
  bell.ring();
  const auto begun = Clock::now();
  bell.wait(seen, long_ns);
  EXPECT_LT(Clock::now() - begun, 30s);
}

TEST(Doorbell, PatienceEnds) {
  Doorbell bell;
  const auto begun = Clock::now();
  bell.wait(bell.rings(), 20'000'000);
  EXPECT_GE(Clock::now() - begun, 20ms);
}

TEST(Doorbell, EveryRingIsHeard) {
  Doorbell there, back;
  constexpr std::uint32_t rounds = 20'000;
  std::thread other([&] {
    for (std::uint32_t i = 0; i < rounds; i++) {
      while (there.rings() == i) there.wait(i, long_ns);
      back.ring();
    }
  });
  const auto begun = Clock::now();
  for (std::uint32_t i = 0; i < rounds; i++) {
    there.ring();
    while (back.rings() == i) back.wait(i, long_ns);
  }
  other.join();
  EXPECT_LT(Clock::now() - begun, 50s) << "a ring that is missed is waited for until patience ends";
}

}  // namespace
}  // namespace veneer
