// Questions to 10.0.2.3 and the answers.
#include "net/name_server.h"

#include <gtest/gtest.h>

#include "net/test_packets.h"

namespace veneer::net {
namespace {

constexpr Ipv4 shown = 0x0a000203, real = 0x7f000035, guest = 0x0a00020f;

std::vector<std::byte> question(std::uint8_t protocol, Ipv4 to, std::uint16_t port = 53) {
  return testing::make_packet({.protocol = protocol,
                               .source = guest,
                               .destination = to,
                               .source_port = 999,
                               .destination_port = port,
                               .payload_bytes = 31});
}
std::vector<std::byte> answer(std::uint8_t protocol, std::uint16_t guest_port = 999) {
  return testing::make_packet({.protocol = protocol,
                               .source = real,
                               .destination = guest,
                               .source_port = 53,
                               .destination_port = guest_port,
                               .payload_bytes = 32});
}
Ipv4 source(const std::vector<std::byte>& frame) { return load_be32(frame, 14 + IPV4_SOURCE); }
Ipv4 destination(const std::vector<std::byte>& frame) { return load_be32(frame, 14 + IPV4_DESTINATION); }

class Both : public ::testing::TestWithParam<std::uint8_t> {};
INSTANTIATE_TEST_SUITE_P(Protocols, Both, ::testing::Values(PROTOCOL_TCP, PROTOCOL_UDP));

TEST_P(Both, QuestionsGoToTheRealOne) {
  NameServer server(shown, real);
  auto frame = question(GetParam(), shown);
  server.outward(frame);
  EXPECT_EQ(destination(frame), real);
  EXPECT_TRUE(testing::checksums_right(frame));
}
TEST_P(Both, AnswersComeFromTheShownOne) {
  NameServer server(shown, real);
  auto asked = question(GetParam(), shown);
  server.outward(asked);
  auto frame = answer(GetParam());
  server.inward(frame);
  EXPECT_EQ(source(frame), shown);
  EXPECT_TRUE(testing::checksums_right(frame));
}
TEST_P(Both, WhoAsksTheRealOneGetsAnswersFromIt) {
  NameServer server(shown, real);
  auto asked = question(GetParam(), real);
  server.outward(asked);
  auto frame = answer(GetParam());
  server.inward(frame);
  EXPECT_EQ(source(frame), real);
}
TEST_P(Both, OtherPortsAreLeftAlone) {
  NameServer server(shown, real);
  auto frame = question(GetParam(), shown, 80);
  server.outward(frame);
  EXPECT_EQ(destination(frame), shown);
}
TEST(NameServer, WithoutARealOneNothingChanges) {
  NameServer server(shown, std::nullopt);
  auto frame = question(PROTOCOL_UDP, shown);
  server.outward(frame);
  EXPECT_EQ(destination(frame), shown);
}
TEST(NameServer, ADatagramWithoutAChecksumKeepsNone) {
  NameServer server(shown, real);
  auto frame = question(PROTOCOL_UDP, shown);
  store_raw16(frame, 34 + UDP_CHECKSUM, 0);
  server.outward(frame);
  EXPECT_EQ(load_raw16(frame, 34 + UDP_CHECKSUM), 0u);
}
TEST(NameServer, CutFramesAreLeftAlone) {
  NameServer server(shown, real);
  const auto whole = question(PROTOCOL_UDP, shown);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> frame(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    server.outward(frame);
    EXPECT_TRUE(std::equal(frame.begin(), frame.end(), whole.begin()));
  }
}
TEST(NameServer, TheFirstOfTheFile) {
  EXPECT_EQ(first_name_server("# x\nsearch a b\nnameserver fe80::1\n nameserver\t1.2.3.4\nnameserver 5.6.7.8\n"),
            0x01020304u);
}
TEST(NameServer, NoneInTheFile) { EXPECT_EQ(first_name_server("search here\nnameserver nonsense\n"), std::nullopt); }

}  // namespace
}  // namespace veneer::net
