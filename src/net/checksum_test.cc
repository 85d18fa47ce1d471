// The Internet checksum against the definition, word by word.
#include "net/checksum.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

namespace veneer::net {
namespace {

/// RFC 1071, literally: big-endian words, end-around carry.
std::uint16_t by_definition(const std::vector<std::byte>& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const auto high = std::to_integer<std::uint32_t>(bytes[i]);
    const auto low = i + 1 < bytes.size() ? std::to_integer<std::uint32_t>(bytes[i + 1]) : 0;
    sum += (high << 8) | low;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<std::uint16_t>(~sum);
}

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i * 151 + 17);
  return out;
}

class Lengths : public ::testing::TestWithParam<std::size_t> {};
TEST_P(Lengths, AsDefined) {
  const auto bytes = pattern(GetParam());
  EXPECT_EQ(ntohs(checksum(add_bytes(0, bytes))), by_definition(bytes));
}
INSTANTIATE_TEST_SUITE_P(Sizes, Lengths, ::testing::Values(1, 2, 3, 7, 8, 9, 20, 63, 64, 1459, 65535));

TEST(Checksum, AllOnes) {
  const std::vector<std::byte> bytes(65536, std::byte{0xff});
  EXPECT_EQ(checksum(add_bytes(0, bytes)), 0u);
}

TEST(Checksum, TheExampleOfTheRfc) {  // RFC 1071 3
  const std::array<std::uint8_t, 8> example = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(ntohs(fold(add_bytes(0, std::as_bytes(std::span(example))))), 0xddf2);
}

TEST(Checksum, AChangeIsFollowed) {
  auto bytes = pattern(40);
  const std::uint16_t before_sum = checksum(add_bytes(0, bytes));
  std::uint16_t before = 0;
  const std::uint16_t after = 0xbeef;
  std::memcpy(&before, &bytes[10], 2);
  std::memcpy(&bytes[10], &after, 2);
  EXPECT_EQ(checksum_after_change(before_sum, before, after), checksum(add_bytes(0, bytes)));
}

}  // namespace
}  // namespace veneer::net
