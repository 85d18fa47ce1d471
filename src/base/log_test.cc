// Log: levels, limiter, trace categories.
#include "base/log.h"

#include <gtest/gtest.h>

#include <vector>

namespace veneer {
namespace {

class LogTest : public testing::Test {
 protected:
  LogTest() {
    set_log_sink([this](LogLevel, std::string_view line) { lines.emplace_back(line); });
  }
  ~LogTest() override {
    set_log_sink({});
    set_log_level(LogLevel::Info);
    (void)set_trace("");
  }
  std::vector<std::string> lines;
};

TEST_F(LogTest, LineCarriesItsLevel) {
  log_warning("disk {} is full", 3);
  EXPECT_EQ(lines, std::vector<std::string>{"veneer: warning: disk 3 is full"});
}

TEST_F(LogTest, LinesAboveTheLevelAreNotMade) {
  set_log_level(LogLevel::Error);
  log_info("nobody sees this");
  EXPECT_TRUE(lines.empty());
}

TEST_F(LogTest, ParsesLevelNames) { EXPECT_EQ(parse_log_level("debug"), LogLevel::Debug); }

TEST_F(LogTest, RefusesUnknownLevelNames) { EXPECT_EQ(parse_log_level("chatty"), std::nullopt); }

TEST_F(LogTest, GuestLinesAreLimitedToABurst) {
  LogLimiter limiter;
  for (int i = 0; i < 1000; ++i) log_guest(limiter, "bad register {}", i);
  EXPECT_LE(lines.size(), 12u);
}

TEST(LogLimiter, TellsHowManyLinesWereDropped) {
  LogLimiter limiter;
  constexpr std::uint64_t second = 1'000'000'000;
  for (int i = 0; i < 15; ++i) (void)limiter.admit_at(100 * second);
  const LogLimiter::Verdict verdict = limiter.admit_at(101 * second);
  EXPECT_TRUE(verdict.admitted);
  EXPECT_EQ(verdict.dropped, 5u);
}

TEST_F(LogTest, TraceIsSilentUntilSwitchedOn) {
  VENEER_TRACE(Irq, "vector {}", 1);
  EXPECT_TRUE(lines.empty());
}

TEST_F(LogTest, TraceShowsItsCategory) {
  ASSERT_TRUE(set_trace("timer,irq").ok());
  VENEER_TRACE(Irq, "vector {}", 1);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("irq: vector 1"), std::string::npos);
}

TEST_F(LogTest, UnknownTraceCategoryIsRefusedWithTheNamesThereAre) {
  const auto result = set_trace("irq,nonsense");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("virtio"), std::string::npos);
}

}  // namespace
}  // namespace veneer
