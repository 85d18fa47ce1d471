// libslirp behind its interface: the gateway answers, ports are refused with a reason.
#include "net/user.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "net/mac_address.h"
#include "net/test_packets.h"

namespace veneer::net {
namespace {

constexpr MacAddress card = {0x52, 0x56, 0, 0, 0, 1};

/// Asks for the hardware address of the gateway (RFC 826).
std::vector<std::byte> who_has_gateway() {
  std::vector<std::byte> frame(60);
  for (std::size_t i = 0; i < 6; ++i) frame[i] = std::byte{0xff};
  frame[6] = std::byte{0x52};
  store_be16(frame, 12, 0x0806);
  store_be16(frame, 14, 1);
  store_be16(frame, 16, 0x0800);
  frame[18] = std::byte{6};
  frame[19] = std::byte{4};
  store_be16(frame, 20, 1);
  frame[22] = std::byte{0x52};
  store_be32(frame, 28, user_guest);
  store_be32(frame, 38, user_gateway);
  return frame;
}

std::vector<std::vector<std::byte>> answers(HostEnd& end, const std::vector<std::byte>& bytes) {
  Frame frame = testing::as_frame(bytes);
  end.send(frame);
  std::vector<std::vector<std::byte>> out;
  std::vector<pollfd> watched;
  int timeout = 0;
  end.prepare(watched, timeout);
  ::poll(watched.data(), watched.size(), 0);
  end.handle(watched, [&](std::span<const std::byte> answer, const Offload&) {
    out.emplace_back(answer.begin(), answer.end());
  });
  return out;
}

TEST(User, TheGatewayAnswersArp) {
  auto end = make_user_end({}, "test", card);
  ASSERT_TRUE(end.ok()) << end.error().message();
  const auto got = answers(*end.value(), who_has_gateway());
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(load_be16(got[0], 20), 2u);
  EXPECT_EQ(load_be32(got[0], 28), user_gateway);
}

TEST(User, AnyFrameIsSurvived) {
  auto end = make_user_end({.forwards = {}, .isolated = true}, "test", card);
  ASSERT_TRUE(end.ok());
  std::uint32_t random = 3;
  const auto next = [&random] { return (random = random * 1664525 + 1013904223) >> 8; };
  for (int round = 0; round < 2000; ++round) {
    auto frame = next() % 4 == 0 ? who_has_gateway()
                                 : testing::make_packet({.protocol = next() % 2 ? PROTOCOL_TCP : PROTOCOL_UDP,
                                                         .tcp_flags = TCP_SYN,
                                                         .tcp_options = {2, 4, 5, 0xb4},
                                                         .payload_bytes = next() % 300});
    for (unsigned i = next() % 4; i > 0; --i) frame[next() % frame.size()] = static_cast<std::byte>(next());
    frame.resize(14 + next() % frame.size());
    (void)answers(*end.value(), frame);
  }
}

TEST(User, APortInUseIsNamed) {
  const Fd taken(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(taken.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(taken.get(), 1), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(::getsockname(taken.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  PortForward forward;
  forward.host_port = ntohs(address.sin_port);
  forward.guest_port = 22;
  const auto end = make_user_end({.forwards = {forward}, .isolated = false}, "test", card);
  ASSERT_FALSE(end.ok());
  EXPECT_THAT(end.error().message(), ::testing::HasSubstr("the port is in use"));
  EXPECT_THAT(end.error().message(), ::testing::HasSubstr(std::to_string(forward.host_port)));
}

TEST(User, AForeignAddressIsRefused) {
  PortForward forward;
  forward.host_address = 0xc000'0201;  // 192.0.2.1, for documentation
  forward.host_port = 23456;
  forward.guest_port = 22;
  const auto end = make_user_end({.forwards = {forward}, .isolated = false}, "test", card);
  ASSERT_FALSE(end.ok());
  EXPECT_THAT(end.error().message(), ::testing::HasSubstr("192.0.2.1"));
}

TEST(MacAddress, IsTheSameForTheSameName) { EXPECT_EQ(mac_for("web", 0), mac_for("web", 0)); }
TEST(MacAddress, DiffersByNameAndCard) {
  EXPECT_NE(mac_for("web", 0), mac_for("web", 1));
  EXPECT_NE(mac_for("web", 0), mac_for("db", 0));
}
TEST(MacAddress, IsLocalAndOfOneStation) { EXPECT_EQ(mac_for("web", 0)[0] & 3, 2); }
TEST(MacAddress, ComesBackFromItsText) { EXPECT_EQ(parse_mac(format_mac(mac_for("a", 2))).value(), mac_for("a", 2)); }
TEST(MacAddress, NonsenseIsRefused) {
  for (const char* text : {"", "52:56:00:12:34", "52:56:00:12:34:5g", "52-56-00-12-34-56", "ff:ff:ff:ff:ff:ff",
                           "00:00:00:00:00:00", "52:56:00:12:34:567"})
    EXPECT_FALSE(parse_mac(text).ok()) << text;
}

}  // namespace
}  // namespace veneer::net
