// Sizes as people write them.
#include "cli/size.h"

#include <gtest/gtest.h>

#include <string>

#include "base/units.h"

namespace veneer::cli {
namespace {

std::uint64_t size_of(std::string_view text) {
  const auto result = parse_size(text);
  EXPECT_TRUE(result.ok()) << text << ": " << (result.ok() ? "" : result.error().message());
  return result.ok() ? result.value() : 0;
}

std::string error_of(std::string_view text) {
  const auto result = parse_size(text);
  EXPECT_FALSE(result.ok()) << text;
  return result.ok() ? "" : result.error().message();
}

TEST(ParseSize, BareNumberIsBytes) { EXPECT_EQ(size_of("65536"), 65536u); }
TEST(ParseSize, MegabytesWithOneLetter) { EXPECT_EQ(size_of("512M"), 512 * MiB); }
TEST(ParseSize, GigabytesSpelledOut) { EXPECT_EQ(size_of("4GiB"), 4 * GiB); }
TEST(ParseSize, LowerCase) { EXPECT_EQ(size_of("64kb"), 64 * KiB); }
TEST(ParseSize, FractionIsExact) { EXPECT_EQ(size_of("1.5G"), GiB + 512 * MiB); }
TEST(ParseSize, SpaceBeforeTheUnit) { EXPECT_EQ(size_of("2 G"), 2 * GiB); }
TEST(ParseSize, LargestValue) { EXPECT_EQ(size_of("18446744073709551615"), ~std::uint64_t{0}); }
TEST(ParseSize, RefusesNothing) { EXPECT_NE(error_of("").find("must begin with a number"), std::string::npos); }
TEST(ParseSize, RefusesNegative) { EXPECT_NE(error_of("-1M").find("must begin with a number"), std::string::npos); }
TEST(ParseSize, RefusesUnknownUnit) { EXPECT_NE(error_of("5Q").find("unknown unit \"Q\""), std::string::npos); }
TEST(ParseSize, RefusesOverflowOfTheNumber) {
  EXPECT_NE(error_of("18446744073709551616").find("larger"), std::string::npos);
}
TEST(ParseSize, RefusesOverflowOfTheUnit) { EXPECT_NE(error_of("99999999T").find("larger"), std::string::npos); }
TEST(ParseSize, RefusesPartsOfBytes) { EXPECT_NE(error_of("0.5").find("whole number of bytes"), std::string::npos); }
TEST(ParseSize, RefusesPointWithoutDigits) { EXPECT_NE(error_of("1.G").find("digits must follow"), std::string::npos); }
TEST(ParseSize, RefusesTrailingText) { EXPECT_NE(error_of("1G more").find("unknown unit"), std::string::npos); }

TEST(FormatSize, WholeUnits) { EXPECT_EQ(format_size(512 * MiB), "512 MiB"); }
TEST(FormatSize, PartsOfUnits) { EXPECT_EQ(format_size(GiB + 512 * MiB), "1.5 GiB"); }
TEST(FormatSize, Bytes) { EXPECT_EQ(format_size(37), "37 bytes"); }

}  // namespace
}  // namespace veneer::cli
