// The keyboard: scan codes of the three sets, repetition, commands.
#include "devices/input/ps2_keyboard.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"

namespace veneer::devices {
namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr Key A{0x1e}, LEFT{0xcb}, ESC{0x01};
constexpr std::uint64_t ms = 1'000'000;

class KeyboardTest : public ::testing::Test {
 protected:
  Bytes output() {
    Bytes bytes;
    while (keyboard.has_output()) bytes.push_back(keyboard.take());
    return bytes;
  }
  Bytes command(std::initializer_list<std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) keyboard.receive(byte);
    return output();
  }
  Bytes press(Key key) {
    keyboard.key(key, true);
    return output();
  }
  Bytes release(Key key) {
    keyboard.key(key, false);
    return output();
  }

  ManualTimers timers;
  Ps2Keyboard keyboard{timers};
};

TEST_F(KeyboardTest, Set2) {
  EXPECT_EQ(press(A), (Bytes{0x1c}));
  EXPECT_EQ(release(A), (Bytes{0xf0, 0x1c}));
}

TEST_F(KeyboardTest, Set2GrayKey) {
  EXPECT_EQ(press(LEFT), (Bytes{0xe0, 0x6b}));
  EXPECT_EQ(release(LEFT), (Bytes{0xe0, 0xf0, 0x6b}));
}

TEST_F(KeyboardTest, Set1) {
  command({0xf0, 1});
  EXPECT_EQ(press(A), (Bytes{0x1e}));
  EXPECT_EQ(release(A), (Bytes{0x9e}));
  EXPECT_EQ(press(LEFT), (Bytes{0xe0, 0x4b}));
  EXPECT_EQ(release(LEFT), (Bytes{0xe0, 0xcb}));
}

TEST_F(KeyboardTest, Set3HasNoPrefix) {
  command({0xf0, 3});
  EXPECT_EQ(press(LEFT), (Bytes{0x61}));
  EXPECT_EQ(release(LEFT), (Bytes{0xf0, 0x61}));
}

TEST_F(KeyboardTest, Set3KeysCanBeMakeOnly) {
  command({0xf0, 3});
  EXPECT_EQ(command({0xfd, 0x1c}), (Bytes{0xfa, 0xfa}));
  EXPECT_EQ(press(A), (Bytes{0x1c}));
  EXPECT_EQ(release(A), Bytes{});
}

TEST_F(KeyboardTest, Set3AllKeysBackToEverything) {
  command({0xf0, 3});
  command({0xf9});
  command({0xfa});
  press(A);
  EXPECT_EQ(release(A), (Bytes{0xf0, 0x1c}));
}

TEST_F(KeyboardTest, SetCanBeAsked) {
  command({0xf0, 3});
  EXPECT_EQ(command({0xf0, 0}), (Bytes{0xfa, 0xfa, 3}));
}

TEST_F(KeyboardTest, PauseIsASequence) {
  EXPECT_EQ(press(Key::Pause), (Bytes{0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77}));
  EXPECT_EQ(release(Key::Pause), Bytes{});
}

TEST_F(KeyboardTest, PrintScreen) {
  EXPECT_EQ(press(Key::PrintScreen), (Bytes{0xe0, 0x12, 0xe0, 0x7c}));
  EXPECT_EQ(release(Key::PrintScreen), (Bytes{0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12}));
}

TEST_F(KeyboardTest, AltPrintScreenIsSystemRequest) {
  press(Key::LeftAlt);
  EXPECT_EQ(press(Key::PrintScreen), (Bytes{0x84}));
}

TEST_F(KeyboardTest, HeldKeyRepeatsAfterHalfASecond) {
  press(A);
  timers.advance(499 * ms);
  EXPECT_EQ(output(), Bytes{});
  timers.advance(2 * ms);
  EXPECT_EQ(output(), (Bytes{0x1c}));
}

TEST_F(KeyboardTest, RateAndDelayCanBeSet) {
  command({0xf3, 0x00});  // 250 ms, then every 33 ms
  press(A);
  unsigned count = 0;
  for (unsigned i = 0; i < 1000; ++i) {
    timers.advance(ms);
    count += static_cast<unsigned>(output().size());
  }
  EXPECT_EQ(count, 23u);
}

TEST_F(KeyboardTest, ReleaseEndsRepetition) {
  press(A);
  release(A);
  timers.advance(5000 * ms);
  EXPECT_EQ(output(), Bytes{});
}

TEST_F(KeyboardTest, OnlyTheLastKeyRepeats) {
  press(A);
  press(ESC);
  timers.advance(510 * ms);
  EXPECT_EQ(output(), (Bytes{0x76}));
}

TEST_F(KeyboardTest, HostsRepetitionIsIgnored) {
  press(A);
  EXPECT_EQ(press(A), Bytes{});
}

TEST_F(KeyboardTest, GuestThatDoesNotReadGetsOneRepetition) {
  keyboard.key(A, true);
  timers.advance(10'000 * ms);
  EXPECT_EQ(output(), (Bytes{0x1c}));
}

TEST_F(KeyboardTest, DefaultsBringSet2Back) {
  command({0xf0, 1});
  EXPECT_EQ(command({0xf6}), (Bytes{0xfa}));
  EXPECT_EQ(press(A), (Bytes{0x1c}));
}

TEST_F(KeyboardTest, LedsAreRemembered) {
  command({0xed, 0x04});
  EXPECT_EQ(keyboard.leds(), 4);
}

TEST_F(KeyboardTest, ResetPassesItsTest) {
  command({0xed, 0x04});
  EXPECT_EQ(command({0xff}), (Bytes{0xfa, 0xaa}));
  EXPECT_EQ(keyboard.leds(), 0);
}

TEST_F(KeyboardTest, CommandInPlaceOfAnArgumentStartsOver) {
  EXPECT_EQ(command({0xed, 0xf2}), (Bytes{0xfa, 0xfa, 0xab, 0x83}));
}

TEST_F(KeyboardTest, ResendsTheLastReply) {
  command({0xee});
  EXPECT_EQ(command({0xfe}), (Bytes{0xee}));
}

TEST_F(KeyboardTest, FullBufferTakesNoHalfSequences) {
  for (unsigned i = 0; i < 40; ++i) {
    keyboard.key(LEFT, true);
    keyboard.key(LEFT, false);
  }
  const Bytes bytes = output();
  ASSERT_FALSE(bytes.empty());
  EXPECT_EQ(bytes.back(), 0x6b);
}

TEST_F(KeyboardTest, RestoredKeyboardGoesOnRepeating) {
  press(A);
  timers.advance(100 * ms);
  machine::SnapshotWriter out;
  keyboard.save(out);
  Ps2Keyboard other(timers);
  machine::SnapshotReader in(out.data());
  other.restore(in);
  ASSERT_TRUE(in.ok());
  timers.advance(401 * ms);
  ASSERT_TRUE(other.has_output());
  EXPECT_EQ(other.take(), 0x1c);
}

}  // namespace
}  // namespace veneer::devices
