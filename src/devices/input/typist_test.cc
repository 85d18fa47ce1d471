// The typist's pace.
#include "devices/input/typist.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"

namespace veneer::devices {
namespace {

class TypistTest : public ::testing::Test {
 protected:
  std::vector<std::uint8_t> taken() {
    std::vector<std::uint8_t> bytes;
    while (keyboard.has_output()) bytes.push_back(keyboard.take());
    return bytes;
  }
  ManualTimers timers;
  Ps2Keyboard keyboard{timers};
  Typist typist{timers, keyboard, [this] { return !keyboard.has_output(); }};
};

TEST_F(TypistTest, TypesAsTheGuestTakes) {
  std::vector<std::uint8_t> all;
  ASSERT_TRUE(typist.type(keys_for_text("ab").value()).ok());
  for (unsigned i = 0; i < 10; ++i) {
    for (const std::uint8_t byte : taken()) all.push_back(byte);
    timers.advance(Typist::pause_ns);
  }
  EXPECT_EQ(all, (std::vector<std::uint8_t>{0x1c, 0xf0, 0x1c, 0x32, 0xf0, 0x32}));
  EXPECT_FALSE(typist.busy());
}

TEST_F(TypistTest, WaitsForASlowGuest) {
  ASSERT_TRUE(typist.type(keys_for_text("ab").value()).ok());
  timers.advance(100 * Typist::pause_ns);
  EXPECT_TRUE(typist.busy());
  EXPECT_EQ(taken().front(), 0x1c);
}

TEST_F(TypistTest, GivesUpOnAGuestThatNeverTakes) {
  ASSERT_TRUE(typist.type(keys_for_text("ab").value()).ok());
  timers.advance((Typist::patience + 10) * Typist::pause_ns);
  EXPECT_FALSE(typist.busy());
}

TEST_F(TypistTest, TooMuchIsRefused) {
  EXPECT_FALSE(typist.type(keys_for_text(std::string(10'000, 'a')).value()).ok());
}

TEST_F(TypistTest, SavedTypingGoesOn) {
  ASSERT_TRUE(typist.type(keys_for_text("a").value()).ok());
  machine::SnapshotWriter out;
  typist.save(out);
  Ps2Keyboard other_keyboard(timers);
  Typist other(timers, other_keyboard, [] { return true; });
  machine::SnapshotReader in(out.data());
  other.restore(in);
  EXPECT_TRUE(in.ok());
  EXPECT_TRUE(other.busy());
}

}  // namespace
}  // namespace veneer::devices
