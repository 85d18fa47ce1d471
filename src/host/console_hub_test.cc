// ConsoleHub: history, several readers, slow ones.
#include "host/console_hub.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace veneer::host {
namespace {

struct Collector final : machine::CharSink {
  void write(std::span<const std::uint8_t> bytes) override { text.append(bytes.begin(), bytes.end()); }
  std::string text;
};

class ConsoleHubTest : public testing::Test {
 protected:
  void say(const std::string& text) { hub.write({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}); }
  std::string heard(ConsoleHub::Tap& tap) {
    std::vector<std::uint8_t> bytes;
    hub.take(tap, ConsoleHub::tap_bytes * 2, bytes);
    return {bytes.begin(), bytes.end()};
  }
  Collector backend;
  ConsoleHub hub{backend, std::chrono::milliseconds(50)};
};

TEST_F(ConsoleHubTest, EverythingReachesTheBackend) {
  say("hello");
  EXPECT_EQ(backend.text, "hello");
}

TEST_F(ConsoleHubTest, ANewTapBeginsWithTheHistory) {
  say("before ");
  const auto tap = hub.attach();
  say("after");
  EXPECT_EQ(heard(*tap), "before after");
}

TEST_F(ConsoleHubTest, HistoryIsBounded) {
  say(std::string(ConsoleHub::history_bytes, 'a') + "end");
  const auto tap = hub.attach();
  const std::string text = heard(*tap);
  EXPECT_EQ(text.size(), ConsoleHub::history_bytes);
  EXPECT_TRUE(text.ends_with("aend"));
}

TEST_F(ConsoleHubTest, TapsAreIndependent) {
  const auto first = hub.attach();
  const auto second = hub.attach();
  say("x");
  EXPECT_EQ(heard(*first), "x");
  EXPECT_EQ(heard(*second), "x");
}

TEST_F(ConsoleHubTest, ATapThatStandsStillIsCutOff) {
  const auto tap = hub.attach();
  say(std::string(ConsoleHub::tap_bytes, 'a'));
  say("more");  // waits 50 ms
  std::vector<std::uint8_t> bytes;
  EXPECT_FALSE(hub.take(*tap, 1, bytes));
  EXPECT_TRUE(backend.text.ends_with("more"));
}

TEST_F(ConsoleHubTest, ASlowTapGetsEverything) {
  const auto tap = hub.attach();
  std::string got;
  std::thread reader([&] {
    std::vector<std::uint8_t> bytes;
    while (!got.ends_with('z')) {
      hub.take(*tap, 8192, bytes);
      got.append(bytes.begin(), bytes.end());
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  std::string said;
  for (int i = 0; i < 1000; ++i) {
    const std::string part(1000, static_cast<char>('a' + i % 20));
    say(part);
    said += part;
  }
  say("z");
  reader.join();
  EXPECT_EQ(got, said + "z");
}

TEST_F(ConsoleHubTest, NobodyIsWaitedForAfterAbandon) {
  const auto tap = hub.attach();
  hub.abandon();
  for (int i = 0; i < 100; ++i) say(std::string(ConsoleHub::tap_bytes, 'a'));
  EXPECT_EQ(backend.text.size(), 100 * ConsoleHub::tap_bytes);
}

TEST_F(ConsoleHubTest, ADetachedTapHearsNothing) {
  const auto tap = hub.attach();
  hub.detach(tap);
  say("x");
  EXPECT_EQ(heard(*tap), "");
}

}  // namespace
}  // namespace veneer::host
