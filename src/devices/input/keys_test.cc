// Names and characters to keys.
#include "devices/input/keys.h"

#include <gtest/gtest.h>

#include <array>

namespace veneer::devices {
namespace {

using Events = std::vector<KeyEvent>;

TEST(Keys, ChordGoesDownInOrderAndUpInReverse) {
  constexpr Key DELETE{0xd3};
  EXPECT_EQ(parse_chord("ctrl-alt-delete").value(), (Events{{Key::LeftCtrl, true},
                                                            {Key::LeftAlt, true},
                                                            {DELETE, true},
                                                            {DELETE, false},
                                                            {Key::LeftAlt, false},
                                                            {Key::LeftCtrl, false}}));
}

TEST(Keys, OneKey) { EXPECT_EQ(parse_chord("ret").value(), (Events{{Key::Enter, true}, {Key::Enter, false}})); }

TEST(Keys, OtherNames) { EXPECT_EQ(parse_chord("enter").value(), parse_chord("ret").value()); }

TEST(Keys, CharactersAreNamesToo) {
  EXPECT_EQ(parse_chord("ctrl-/").value(), parse_chord("ctrl-slash").value());
  EXPECT_EQ(parse_chord("-").value(), parse_chord("minus").value());
}

TEST(Keys, UnknownNameIsNamed) {
  const auto events = parse_chord("ctrl-bang");
  ASSERT_FALSE(events.ok());
  EXPECT_NE(events.error().message().find("\"bang\""), std::string::npos);
}

TEST(Keys, NothingIsNoKey) { EXPECT_FALSE(parse_chord("").ok()); }

TEST(Keys, ManyKeysAreTooMany) { EXPECT_FALSE(parse_chord("a-b-c-d-e-f-g-h-i-j-k").ok()); }

TEST(Keys, CapitalsNeedShift) {
  constexpr Key A{0x1e};
  EXPECT_EQ(keys_for_text("A").value(),
            (Events{{Key::LeftShift, true}, {A, true}, {A, false}, {Key::LeftShift, false}}));
}

TEST(Keys, NewlineIsEnter) { EXPECT_EQ(keys_for_text("\n").value(), parse_chord("ret").value()); }

TEST(Keys, AllOfAsciiCanBeTyped) {
  std::string text;
  for (char c = ' '; c < 0x7f; ++c) text += c;
  EXPECT_TRUE(keys_for_text(text).ok());
}

TEST(Keys, OtherCharactersCannot) {
  EXPECT_FALSE(keys_for_text("\xc3\xa4").ok());
  EXPECT_FALSE(keys_for_text(std::string(1, '\0')).ok());
}

TEST(Keys, NoTwoKeysShareACode) {
  std::array<unsigned, 512> set2{};
  std::array<unsigned, 256> set3{};
  for (unsigned number = 0; number < 256; ++number) {
    const auto codes = codes_of(static_cast<Key>(number));
    if (!codes) continue;
    ++set2[codes->set2 + (codes->extended ? 256u : 0u)];
    ++set3[codes->set3];
  }
  for (const unsigned count : set2) EXPECT_LE(count, 1u);
  for (const unsigned count : set3) EXPECT_LE(count, 1u);
}

}  // namespace
}  // namespace veneer::devices
