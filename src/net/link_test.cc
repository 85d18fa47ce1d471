// The link between a card and an end that tests play: what arrives, what waits, what a pause holds back.
#include "net/link.h"

#include <gtest/gtest.h>

#include <sys/eventfd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "net/test_packets.h"

namespace veneer::net {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

/// Everything under one lock: the board's.
struct World {
  std::recursive_mutex lock;
  std::condition_variable_any changed;
};

struct FakeCard final : Card {
  explicit FakeCard(World& in) : world(in) {}
  bool take(Frame& out) override {
    if (to_send.empty()) return false;
    out.assign(to_send.front());
    out.offload = {};
    to_send.pop_front();
    return true;
  }
  Given give(const Frame& frame) override {
    if (room == 0) {
      ++refused;
      world.changed.notify_all();
      return Given::Full;
    }
    --room;
    received.emplace_back(frame.bytes().begin(), frame.bytes().end());
    offloads.push_back(frame.offload);
    world.changed.notify_all();
    return Given::Done;
  }
  CardAbilities abilities() const override { return can; }
  void announce() override { ++announcements; }

  World& world;
  CardAbilities can;
  std::deque<std::vector<std::byte>> to_send;
  std::size_t room = 1000;
  std::vector<std::vector<std::byte>> received;
  std::vector<Offload> offloads;
  unsigned refused = 0, announcements = 0;
};

/// Sends back what it gets, large packets as libslirp's would be.
struct Echo final : HostEnd {
  explicit Echo(World& in) : world(in), ready(::eventfd(0, EFD_NONBLOCK)) {}
  void send(Frame& frame) override {
    const std::lock_guard hold(world.lock);
    sent.emplace_back(frame.bytes().begin(), frame.bytes().end());
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(ready.get(), &one, sizeof one), 8);
    world.changed.notify_all();
  }
  void prepare(std::vector<pollfd>& watched, int&) override { watched.push_back({ready.get(), POLLIN, 0}); }
  void handle(std::span<const pollfd> watched, const FrameSink& sink) override {
    if (watched.front().revents == 0) return;
    std::uint64_t count = 0;
    EXPECT_EQ(::read(ready.get(), &count, sizeof count), 8);
    std::vector<std::vector<std::byte>> frames;
    {
      const std::lock_guard hold(world.lock);
      frames.assign(sent.begin() + static_cast<std::ptrdiff_t>(echoed), sent.end());
      echoed = sent.size();
    }
    for (const auto& bytes : frames) sink(bytes, offload);
  }
  std::string describe() const override { return "echo"; }
  World& world;
  Fd ready;
  std::vector<std::vector<std::byte>> sent;
  std::size_t echoed = 0;
  Offload offload;
};

class LinkTest : public ::testing::Test {
 protected:
  LinkTest() {
    auto end = std::make_unique<Echo>(world);
    echo = end.get();
    link = std::make_unique<Link>(std::move(end), world.lock);
    link->plug(card);
  }
  void start() {
    ASSERT_TRUE(link->start(0).ok());
    const std::lock_guard hold(world.lock);
    link->resume();
  }
  void send(std::size_t size) {
    const std::lock_guard hold(world.lock);
    card.to_send.emplace_back(size, std::byte{0x11});
    link->wake();
  }
  template <typename Condition>
  bool wait_for(Condition condition) {
    std::unique_lock hold(world.lock);
    return world.changed.wait_for(hold, 20s, condition);
  }
  World world;
  FakeCard card{world};
  Echo* echo = nullptr;
  std::unique_ptr<Link> link;
};

TEST_F(LinkTest, FramesGoThereAndBack) {
  start();
  send(60);
  send(700);
  ASSERT_TRUE(wait_for([&] { return card.received.size() == 2; }));
  EXPECT_EQ(card.received[1].size(), 700u);
}

TEST_F(LinkTest, ManyFramesKeepTheirOrder) {
  card.room = 100'000;
  start();
  for (std::size_t i = 0; i < 3000; ++i) send(60 + i % 1000);
  ASSERT_TRUE(wait_for([&] { return card.received.size() == 3000; }));
  for (std::size_t i = 0; i < 3000; ++i) ASSERT_EQ(card.received[i].size(), 60 + i % 1000);
}

TEST_F(LinkTest, NothingMovesBeforeItIsResumed) {
  ASSERT_TRUE(link->start(0).ok());
  send(60);
  std::this_thread::sleep_for(50ms);
  const std::lock_guard hold(world.lock);
  EXPECT_TRUE(echo->sent.empty());
}

TEST_F(LinkTest, NothingMovesWhilePaused) {
  start();
  send(60);
  ASSERT_TRUE(wait_for([&] { return card.received.size() == 1; }));
  {
    const std::lock_guard hold(world.lock);
    link->pause();
  }
  send(60);
  std::this_thread::sleep_for(50ms);
  {
    const std::lock_guard hold(world.lock);
    EXPECT_EQ(card.received.size(), 1u);
    link->resume();
  }
  EXPECT_TRUE(wait_for([&] { return card.received.size() == 2; }));
}

TEST_F(LinkTest, AFullCardGetsItsFramesLater) {
  card.room = 1;
  start();
  send(60);
  send(61);
  ASSERT_TRUE(wait_for([&] { return card.refused > 0; }));
  {
    const std::lock_guard hold(world.lock);
    card.room = 10;
    link->wake();
  }
  EXPECT_TRUE(wait_for([&] { return card.received.size() == 2; }));
}

TEST_F(LinkTest, AResetForgetsWhatWaits) {
  card.room = 0;
  start();
  send(60);
  ASSERT_TRUE(wait_for([&] { return card.refused > 0; }));
  {
    const std::lock_guard hold(world.lock);
    link->forget_waiting();
    card.room = 10;
    card.to_send.emplace_back(99);
    link->wake();
  }
  ASSERT_TRUE(wait_for([&] { return !card.received.empty(); }));
  EXPECT_EQ(card.received[0].size(), 99u);
}

TEST_F(LinkTest, LargePacketsAreCutForACardThatCannot) {
  echo->offload = {.segmentation = Segmentation::Tcp4, .segment_bytes = 1000};
  start();
  {
    const std::lock_guard hold(world.lock);
    card.to_send.push_back(testing::make_packet({.payload_bytes = 2500}));
    link->wake();
  }
  ASSERT_TRUE(wait_for([&] { return card.received.size() == 3; }));
  for (const auto& frame : card.received) EXPECT_TRUE(testing::checksums_right(frame));
}

TEST_F(LinkTest, LargePacketsStayWholeForACardThatCan) {
  echo->offload = {.needs_checksum = true,
                   .checksum_start = 34,
                   .checksum_offset = 16,
                   .segmentation = Segmentation::Tcp4,
                   .segment_bytes = 1000};
  card.can = {.checksum = true, .tcp4 = true};
  start();
  {
    const std::lock_guard hold(world.lock);
    card.to_send.push_back(testing::make_packet({.payload_bytes = 2500}));
    link->wake();
  }
  ASSERT_TRUE(wait_for([&] { return card.received.size() == 1; }));
  EXPECT_EQ(card.offloads[0].segmentation, Segmentation::Tcp4);
}

TEST_F(LinkTest, WhatIsNotWhatItsOffloadSaysIsDropped) {
  echo->offload = {.segmentation = Segmentation::Tcp4, .segment_bytes = 1};  // and it will be no TCP
  start();
  send(100);
  for (int tries = 0; tries < 2000; ++tries) {
    std::this_thread::sleep_for(10ms);
    const std::lock_guard hold(world.lock);
    if (link->counters().dropped_frames == 1) return;
  }
  FAIL() << "it was not dropped";
}

}  // namespace
}  // namespace veneer::net
