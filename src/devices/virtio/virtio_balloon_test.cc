// The balloon behind its transport, driven as a driver does it: well and badly.
#include "devices/virtio/virtio_balloon.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <vector>

#include "base/bits.h"
#include "base/manual_timers.h"
#include "devices/testing/virtio_driver.h"

namespace veneer::devices {
namespace {

using testing::Piece;
using testing::VERSION_1;
using testing::VirtioDriver;

constexpr std::uint64_t ram_bytes = 4 * MiB, rom_at = 8 * MiB, more_at = 32 * MiB, more_bytes = 32 * MiB;
constexpr std::uint64_t numbers_at = 0x40000;  // page numbers and statistics
constexpr std::uint64_t pages_at = 2 * MiB;    // what is given up
constexpr std::uint64_t usual =
    VERSION_1 | bit(BALLOON_F_STATS_VQ) | bit(BALLOON_F_DEFLATE_ON_OOM) | bit(BALLOON_F_PAGE_REPORTING);
constexpr unsigned INFLATE = 0, DEFLATE = 1, STATISTICS = 2, REPORTING = 3;

class VirtioBalloonTest : public VirtioDriver {
 protected:
  explicit VirtioBalloonTest(VirtioBalloon::Reports reports = VirtioBalloon::Reports::Discard)
      : balloon(ram, timers, reports), function("virtio-balloon", balloon, ram) {
    slot = ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).value();
    rom = ram.add("rom", GuestPhys{rom_at}, 64 * KiB, machine::SlotKind::Rom).value();
    std::memset(slot->host, 0x77, ram_bytes);
    std::memset(slot->host, 0, MiB);  // the driver's own
    std::memset(rom->host, 0x77, 64 * KiB);
    EXPECT_TRUE(ram.add("more", GuestPhys{more_at}, more_bytes, machine::SlotKind::Ram).ok());
    plug(function);
  }
  void start(std::uint64_t features = usual, unsigned queues = 4) {
    set_up_queues(features, queues);
    driver_ok();
  }

  /// The driver says that these pages come into the balloon, or out of it.
  void tell(unsigned queue, const std::vector<std::uint32_t>& pages) {
    ASSERT_TRUE(ram.write(GuestPhys{numbers_at}, std::as_bytes(std::span(pages))));
    offer(queue, 0, {{numbers_at, static_cast<std::uint32_t>(4 * pages.size()), false}});
    ring(queue);
  }
  void report(const std::vector<Piece>& free, unsigned queue = REPORTING) {
    offer(queue, 0, free);
    ring(queue);
  }
  /// The driver's buffer with its statistics.
  void answer(const std::vector<std::pair<std::uint16_t, std::uint64_t>>& statistics) {
    std::uint64_t at = numbers_at;
    for (const auto& [tag, value] : statistics) {
      poke(at, tag);
      poke(at + 2, value);
      at += 10;
    }
    offer(STATISTICS, 0, {{numbers_at, static_cast<std::uint32_t>(at - numbers_at), false}});
  }
  std::uint64_t held_bytes() {
    struct stat info {};
    EXPECT_EQ(::fstat(slot->memfd.get(), &info), 0);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  std::vector<std::byte> saved() {
    machine::SnapshotWriter out;
    function.save(out);
    return out.data();
  }
  static std::uint32_t unit(std::uint64_t address) { return static_cast<std::uint32_t>(address / page_size); }

  ManualTimers timers;
  machine::MemorySlot *slot = nullptr, *rom = nullptr;
  VirtioBalloon balloon;
  VirtioPci function;
};

TEST_F(VirtioBalloonTest, TheSizeAskedForIsInTheConfiguration) {
  start();
  balloon.set_target(3 * MiB);
  EXPECT_EQ(memory.read(config, 4), 3 * MiB / page_size);
}

TEST_F(VirtioBalloonTest, AskingForMoreOrLessInterrupts) {
  start();
  const std::uint64_t generation = memory.read(registers + 21, 1);
  balloon.set_target(MiB);
  EXPECT_NE(memory.read(registers + 21, 1), generation);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(memory.read(registers + 0x1000, 1), 2u);
}

TEST_F(VirtioBalloonTest, AskingForTheSameDoesNot) {
  start();
  balloon.set_target(0);
  EXPECT_FALSE(irq.level);
}

TEST_F(VirtioBalloonTest, TheDriverSaysHowMuchThereIs) {
  start();
  memory.write(config + 4, 4, 5);
  EXPECT_EQ(balloon.actual_bytes(), 5 * page_size);
  EXPECT_EQ(memory.read(config + 4, 4), 5u);
}

TEST_F(VirtioBalloonTest, TheDriverDoesNotSayWhatItIsAskedFor) {
  start();
  memory.write(config, 4, 5);
  EXPECT_EQ(balloon.target_bytes(), 0u);
}

TEST_F(VirtioBalloonTest, PagesInTheBalloonGoBack) {
  start();
  const std::uint64_t before = held_bytes();
  tell(INFLATE, {unit(pages_at), unit(pages_at) + 1, unit(pages_at) + 5});
  EXPECT_EQ(used(INFLATE), 1u);
  EXPECT_EQ(held_bytes(), before - 3 * page_size);
  EXPECT_EQ(peek<std::uint8_t>(pages_at + page_size), 0u);
  EXPECT_EQ(peek<std::uint8_t>(pages_at + 2 * page_size), 0x77u);
  EXPECT_EQ(peek<std::uint8_t>(pages_at + 5 * page_size), 0u);
  EXPECT_EQ(balloon.counters().inflated_bytes, 3 * page_size);
}

TEST_F(VirtioBalloonTest, OrderDoesNotMatterAndRepetitionDoesNoHarm) {
  start();
  const std::uint64_t before = held_bytes();
  tell(INFLATE, {unit(pages_at) + 2, unit(pages_at), unit(pages_at) + 1, unit(pages_at)});
  EXPECT_EQ(held_bytes(), before - 3 * page_size);
  EXPECT_EQ(balloon.counters().inflated_bytes, 3 * page_size);
}

TEST_F(VirtioBalloonTest, PagesComeBackByBeingUsed) {
  start();
  tell(INFLATE, {unit(pages_at)});
  tell(DEFLATE, {unit(pages_at)});
  EXPECT_EQ(used(DEFLATE), 1u);
  poke(pages_at, std::uint8_t{9});
  EXPECT_EQ(peek<std::uint8_t>(pages_at), 9u);
}

TEST_F(VirtioBalloonTest, WhatWasNeverInItCanBeTakenOut) {
  start();
  tell(DEFLATE, {unit(pages_at), 0xffffffff});
  EXPECT_EQ(used(DEFLATE), 1u);
  EXPECT_EQ(peek<std::uint8_t>(pages_at), 0x77u);
}

TEST_F(VirtioBalloonTest, PagesBeyondMemoryAndRomDoNoHarm) {
  start();
  tell(INFLATE, {unit(rom_at), 0xffffffff, 0xfffffffe, unit(pages_at), unit(ram_bytes)});
  EXPECT_EQ(used(INFLATE), 1u);
  EXPECT_EQ(peek<std::uint8_t>(rom_at), 0x77u);
  EXPECT_EQ(balloon.counters().inflated_bytes, page_size);
}

TEST_F(VirtioBalloonTest, TheRingItselfMayGo) {
  start();
  tell(INFLATE, {unit(driver_area(INFLATE)), unit(descriptors(INFLATE)), unit(numbers_at)});
  EXPECT_EQ(used(INFLATE), 1u);
  EXPECT_EQ(peek<std::uint16_t>(driver_area(INFLATE) + 2), 0u);
}

TEST_F(VirtioBalloonTest, AnEmptyRequestIsAnswered) {
  start();
  offer(INFLATE, 0, {{numbers_at, 3, false}});
  ring(INFLATE);
  EXPECT_EQ(used(INFLATE), 1u);
  EXPECT_EQ(balloon.counters().inflated_bytes, 0u);
}

TEST_F(VirtioBalloonTest, AHugeRequestIsNotReadToItsEnd) {
  start();
  poke(numbers_at, unit(pages_at));
  std::vector<Piece> pieces = {{numbers_at, 4, false}};
  for (unsigned i = 0; i < 8; ++i) pieces.push_back({0x100000, 0x100000, false});
  offer(INFLATE, 0, pieces);
  ring(INFLATE);
  EXPECT_EQ(used(INFLATE), 1u);
  EXPECT_EQ(peek<std::uint8_t>(pages_at), 0u);
}

TEST_F(VirtioBalloonTest, NumbersOutsideMemoryAreNone) {
  start();
  offer(INFLATE, 0, {{rom_at + MiB, 64, false}});
  ring(INFLATE);
  EXPECT_EQ(used(INFLATE), 1u);
  EXPECT_EQ(balloon.counters().inflated_bytes, 0u);
}

TEST_F(VirtioBalloonTest, ReportedPagesGoBack) {
  start();
  const std::uint64_t before = held_bytes();
  report({{pages_at, 512 * KiB, true}, {pages_at + MiB, 64 * KiB, true}});
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_EQ(held_bytes(), before - 576 * KiB);
  EXPECT_EQ(balloon.counters().reported_bytes, 576 * KiB);
  EXPECT_EQ(balloon.counters().reports, 1u);
}

TEST_F(VirtioBalloonTest, AReportOverRomAndGapsTakesTheRamOnly) {
  start();
  report({{pages_at, 0xfffff000, true}});
  timers.advance(1'000'000'000);
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_EQ(peek<std::uint8_t>(rom_at), 0x77u);
  EXPECT_EQ(balloon.counters().reported_bytes, ram_bytes - pages_at + more_bytes);
}

TEST_F(VirtioBalloonTest, ALargeReportIsDoneInSteps) {
  start();
  report({{more_at, 4 * MiB, true}, {more_at + 4 * MiB, 16 * MiB, true}});
  EXPECT_EQ(balloon.counters().reported_bytes, 8 * MiB);
  EXPECT_EQ(used(REPORTING), 0u);
  EXPECT_FALSE(irq.level);
  timers.advance(VirtioBalloon::pause_ns);
  EXPECT_EQ(balloon.counters().reported_bytes, 16 * MiB);
  EXPECT_EQ(used(REPORTING), 0u);
  timers.advance(VirtioBalloon::pause_ns);
  EXPECT_EQ(balloon.counters().reported_bytes, 20 * MiB);
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_TRUE(irq.level);
}

TEST_F(VirtioBalloonTest, OtherRequestsComeAfterALargeReport) {
  start();
  report({{more_at, 16 * MiB, true}});
  tell(INFLATE, {unit(pages_at)});
  EXPECT_EQ(balloon.counters().reported_bytes, 16 * MiB);  // the notification was a turn, too
  timers.advance(10 * VirtioBalloon::pause_ns);
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_EQ(used(INFLATE), 1u);
  EXPECT_EQ(balloon.counters().inflated_bytes, page_size);
}

TEST_F(VirtioBalloonTest, AResetEndsALargeReport) {
  start();
  report({{more_at, 16 * MiB, true}});
  memory.write(registers + 20, 1, 0);
  timers.advance(10 * VirtioBalloon::pause_ns);
  EXPECT_EQ(balloon.counters().reported_bytes, 8 * MiB);
  EXPECT_EQ(used(REPORTING), 0u);
}

TEST_F(VirtioBalloonTest, ALargeReportBeginsAgainWhenAStateWasSaved) {
  start();
  report({{more_at, 16 * MiB, true}});
  const auto state = saved();
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(saved(), state);
  timers.advance(10 * VirtioBalloon::pause_ns);
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_EQ(balloon.counters().reported_bytes, 24 * MiB);
}

TEST_F(VirtioBalloonTest, ALargeReportBeginsAgainAfterARestore) {
  start();
  report({{more_at, 16 * MiB, true}});
  const auto state = saved();
  memory.write(registers + 20, 1, 0);
  machine::SnapshotReader in(state);
  function.restore(in);
  timers.advance(10 * VirtioBalloon::pause_ns);
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_TRUE(irq.level);
}

TEST_F(VirtioBalloonTest, WorkThatWasNotBegunIsDoneAfterARestore) {
  start();
  ASSERT_TRUE(ram.write_value(GuestPhys{numbers_at}, unit(pages_at)));
  offer(INFLATE, 0, {{numbers_at, 4, false}});
  const auto state = saved();
  memory.write(registers + 20, 1, 0);
  machine::SnapshotReader in(state);
  function.restore(in);
  EXPECT_EQ(used(INFLATE), 0u);
  timers.advance(1);
  EXPECT_EQ(used(INFLATE), 1u);
}

TEST_F(VirtioBalloonTest, ReadableBuffersReportNothing) {
  start();
  report({{pages_at, 64 * KiB, false}});
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_EQ(balloon.counters().reported_bytes, 0u);
}

TEST_F(VirtioBalloonTest, WithoutStatisticsReportsComeOneQueueSooner) {
  start(usual & ~bit(BALLOON_F_STATS_VQ), 3);
  report({{pages_at, 64 * KiB, true}}, 2);
  EXPECT_EQ(used(2), 1u);
  EXPECT_EQ(balloon.counters().reported_bytes, 64 * KiB);
}

TEST_F(VirtioBalloonTest, WhatWasNotAgreedIsNotDone) {
  start(VERSION_1);
  report({{pages_at, 64 * KiB, true}});
  report({{pages_at, 64 * KiB, true}}, 2);
  EXPECT_EQ(balloon.counters().reported_bytes, 0u);
  EXPECT_EQ(peek<std::uint8_t>(pages_at), 0x77u);
}

class KeepingBalloonTest : public VirtioBalloonTest {
 protected:
  KeepingBalloonTest() : VirtioBalloonTest(VirtioBalloon::Reports::Keep) {}
};

TEST_F(KeepingBalloonTest, ReportsAreAnsweredAndThePagesStay) {
  start();
  report({{pages_at, 64 * KiB, true}});
  EXPECT_EQ(used(REPORTING), 1u);
  EXPECT_EQ(peek<std::uint8_t>(pages_at), 0x77u);
}

TEST_F(VirtioBalloonTest, ABufferFromBeforeDriverOkIsFound) {
  set_up_queues(usual, 4);
  answer({{BALLOON_S_MEMFREE, 1000}});
  ring(STATISTICS);  // as Linux does: too early to be heard
  driver_ok();
  EXPECT_EQ(balloon.statistics()[BALLOON_S_MEMFREE], 1000u);
  EXPECT_TRUE(balloon.ask_statistics([] {}));
}

TEST_F(VirtioBalloonTest, StatisticsAreAskedForAndCome) {
  start();
  answer({});
  ring(STATISTICS);
  unsigned answers = 0;
  ASSERT_TRUE(balloon.ask_statistics([&] { ++answers; }));
  EXPECT_EQ(used(STATISTICS), 1u);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(answers, 0u);
  answer({{BALLOON_S_MEMTOT, 4 * MiB}, {BALLOON_S_AVAIL, MiB}, {BALLOON_S_MAJFLT, 7}});
  ring(STATISTICS);
  EXPECT_EQ(answers, 1u);
  EXPECT_EQ(balloon.statistics()[BALLOON_S_MEMTOT], 4 * MiB);
  EXPECT_EQ(balloon.statistics()[BALLOON_S_AVAIL], MiB);
  EXPECT_EQ(balloon.statistics()[BALLOON_S_MAJFLT], 7u);
  EXPECT_EQ(balloon.statistics()[BALLOON_S_CACHES], std::nullopt);
}

TEST_F(VirtioBalloonTest, AskingTwiceIsOnce) {
  start();
  answer({});
  ring(STATISTICS);
  EXPECT_TRUE(balloon.ask_statistics([] {}));
  EXPECT_FALSE(balloon.ask_statistics([] {}));
}

TEST_F(VirtioBalloonTest, WithoutADriverThereIsNobodyToAsk) {
  EXPECT_FALSE(balloon.ask_statistics([] {}));
}

TEST_F(VirtioBalloonTest, WhoAsksDoesNotWaitBeyondAReset) {
  start();
  answer({});
  ring(STATISTICS);
  unsigned answers = 0;
  ASSERT_TRUE(balloon.ask_statistics([&] { ++answers; }));
  memory.write(registers + 20, 1, 0);
  EXPECT_EQ(answers, 1u);
  EXPECT_FALSE(balloon.ask_statistics([] {}));
}

TEST_F(VirtioBalloonTest, OfTwoBuffersTheFirstGoesBack) {
  start();
  answer({});
  answer({});
  ring(STATISTICS);
  EXPECT_EQ(used(STATISTICS), 1u);
}

TEST_F(VirtioBalloonTest, UnknownAndTornStatisticsArePassedOver) {
  start();
  answer({{0xffff, 1}, {BALLOON_S_CACHES, 5}});
  poke(descriptors(STATISTICS) + 8, 25u);
  ring(STATISTICS);
  EXPECT_EQ(balloon.statistics()[BALLOON_S_CACHES], 5u);
}

TEST_F(VirtioBalloonTest, StatisticsWithoutEndAreCut) {
  start();
  answer({{BALLOON_S_CACHES, 5}});
  poke(descriptors(STATISTICS) + 8, 0x100000u);
  ring(STATISTICS);
  EXPECT_FALSE(needs_reset());
  EXPECT_TRUE(balloon.ask_statistics([] {}));
}

TEST_F(VirtioBalloonTest, WhatIsAskedForOutlivesAReset) {
  start();
  balloon.set_target(MiB);
  memory.write(config + 4, 4, 256);
  memory.write(registers + 20, 1, 0);
  EXPECT_EQ(memory.read(config, 4), 256u);
  EXPECT_EQ(balloon.actual_bytes(), 0u);
}

TEST_F(VirtioBalloonTest, StateComesBack) {
  start();
  balloon.set_target(MiB);
  memory.write(config + 4, 4, 77);
  answer({});
  ring(STATISTICS);
  const auto state = saved();
  memory.write(registers + 20, 1, 0);
  balloon.set_target(0);
  EXPECT_NE(saved(), state);
  machine::SnapshotReader in(state);
  function.restore(in);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.left(), 0u);
  EXPECT_EQ(saved(), state);
  EXPECT_TRUE(balloon.ask_statistics([] {}));
  EXPECT_EQ(used(STATISTICS), 1u);
  report({{pages_at, 64 * KiB, true}});
  EXPECT_EQ(balloon.counters().reported_bytes, 64 * KiB);
}

TEST_F(VirtioBalloonTest, ACutStateIsRefused) {
  start();
  const auto state = saved();
  machine::SnapshotReader in(std::span<const std::byte>(state).first(state.size() - 1));
  function.restore(in);
  EXPECT_FALSE(in.ok());
}

TEST_F(VirtioBalloonTest, DamagedStatesDoNoHarm) {
  start();
  answer({});
  ring(STATISTICS);
  const auto state = saved();
  for (std::size_t i = 0; i < state.size(); ++i) {
    auto damaged = state;
    damaged[i] = std::byte{0xff};
    machine::SnapshotReader in(damaged);
    function.restore(in);
    tell(INFLATE, {unit(pages_at)});
    report({{pages_at, 64 * KiB, true}});
    (void)balloon.ask_statistics([] {});
  }
}

}  // namespace
}  // namespace veneer::devices
