// --net: values and complaints.
#include "cli/net_option.h"

#include <gmock/gmock.h>

namespace veneer::cli {
namespace {

vm::NetConfig parsed(const std::string& text) {
  auto net = parse_net(text);
  EXPECT_TRUE(net.ok()) << net.error().message();
  return net.ok() && net.value() ? *net.value() : vm::NetConfig{};
}
std::string complaint(const std::string& text) {
  const auto net = parse_net(text);
  EXPECT_FALSE(net.ok());
  return net.ok() ? "" : net.error().message();
}

TEST(NetOption, None) { EXPECT_FALSE(parse_net("none").value().has_value()); }
TEST(NetOption, User) { EXPECT_EQ(parsed("user").kind, vm::NetKind::User); }
TEST(NetOption, Tap) { EXPECT_EQ(parsed("tap,ifname=tap7").interface, "tap7"); }
TEST(NetOption, TapNeedsAName) { EXPECT_THAT(complaint("tap"), ::testing::HasSubstr("tap,ifname=tap0")); }
TEST(NetOption, Passt) {
  EXPECT_EQ(parsed("passt").kind, vm::NetKind::Passt);
  EXPECT_EQ(parsed("passt,socket=/run/p").passt_socket, "/run/p");
  EXPECT_EQ(parsed("passt,hostfwd=tcp::2222-:22").user.forwards.size(), 1u);
}
TEST(NetOption, WhatPasstCannotBeToldIsRefused) {
  EXPECT_THAT(complaint("passt,socket=/run/p,hostfwd=tcp::2222-:22"), ::testing::HasSubstr("its own command line"));
  EXPECT_THAT(complaint("passt,hostfwd=tcp::2222-10.0.2.15:22"), ::testing::HasSubstr("its one guest"));
  EXPECT_THAT(complaint("passt,isolated"), ::testing::HasSubstr("socket=, hostfwd=, ipv6="));
}
TEST(NetOption, AnInterfacesNameIsShort) {
  EXPECT_THAT(complaint("tap,ifname=abcdefghijklmnop"), ::testing::HasSubstr("15 characters"));
}
TEST(NetOption, Mac) { EXPECT_EQ(parsed("user,mac=52:56:00:00:00:07").mac->at(5), 7); }
TEST(NetOption, Queues) { EXPECT_EQ(parsed("user,queues=4").queues, 4u); }
TEST(NetOption, Model) {
  EXPECT_EQ(parsed("user").model, vm::CardModel::Virtio);
  EXPECT_EQ(parsed("user,model=e1000").model, vm::CardModel::E1000);
  EXPECT_THAT(complaint("user,model=ne2k"), ::testing::HasSubstr("virtio, e1000"));
  EXPECT_THAT(complaint("user,model=e1000,queues=2"), ::testing::HasSubstr("one queue"));
}
TEST(NetOption, TooManyQueues) { EXPECT_THAT(complaint("user,queues=17"), ::testing::HasSubstr("from 1 to 16")); }
TEST(NetOption, Isolated) { EXPECT_TRUE(parsed("user,isolated").user.isolated); }
TEST(NetOption, Forwards) {
  const auto net = parsed("user,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::53-10.0.2.9:5353");
  ASSERT_EQ(net.user.forwards.size(), 2u);
  EXPECT_EQ(net.user.forwards[0], (net::PortForward{.host_port = 2222, .guest_port = 22}));
  EXPECT_EQ(net.user.forwards[1],
            (net::PortForward{.udp = true, .host_port = 53, .guest_address = 0x0a000209, .guest_port = 5353}));
}
TEST(NetOption, AForwardListensOnLoopbackUnlessToldOtherwise) {
  EXPECT_EQ(parse_forward("tcp::80-:80").value().host_address, 0x7f000001u);
  EXPECT_EQ(parse_forward("tcp:0.0.0.0:80-:80").value().host_address, 0u);
}
TEST(NetOption, NonsenseForwardsAreShownHow) {
  for (const char* text :
       {"", "tcp", "tcp:22", "tcp::2222", "tcp::0-:22", "sctp::1-:2", "tcp::99999-:22", "tcp::22-22"})
    EXPECT_THAT(parse_forward(text).error().message(), ::testing::HasSubstr("tcp:127.0.0.1:2222-:22")) << text;
}
TEST(NetOption, ForwardsOfIpv6) {
  const auto forward = parse_forward("tcp:[::1]:2222-[fec0::15]:22").value();
  EXPECT_TRUE(forward.ipv6);
  EXPECT_EQ(net::format_ipv6(forward.host_address6), "::1");
  EXPECT_EQ(net::format_ipv6(forward.guest_address6), "fec0::15");
  EXPECT_EQ(forward.guest_port, 22);
}
TEST(NetOption, AForwardOfIpv6ListensOnLoopbackUnlessToldOtherwise) {
  EXPECT_EQ(net::format_ipv6(parse_forward("tcp::80-[fec0::15]:80").value().host_address6), "::1");
  EXPECT_EQ(net::format_ipv6(parse_forward("tcp:[::]:80-:80").value().host_address6), "::");
}
TEST(NetOption, VersionsOfIpDoNotMix) {
  EXPECT_THAT(complaint("user,hostfwd=tcp:127.0.0.1:80-[fec0::15]:80"), ::testing::HasSubstr("IPv6 to IPv6"));
  EXPECT_THAT(complaint("user,hostfwd=tcp:[::1]:80-:80,ipv6=off"), ::testing::HasSubstr("ipv6=on"));
}
TEST(NetOption, PortsInAnotherNotationGetAHint) {
  EXPECT_THAT(complaint("user,hostfwd=2222:22"), ::testing::HasSubstr("did you mean hostfwd=tcp:127.0.0.1:2222-:22?"));
  EXPECT_THAT(complaint("user,hostfwd=udp:5353-:53"), ::testing::HasSubstr("hostfwd=udp:127.0.0.1:5353-:53?"));
}
TEST(NetOption, Ipv6IsOnUnlessSwitchedOff) {
  EXPECT_TRUE(parsed("user").user.ipv6);
  EXPECT_FALSE(parsed("user,ipv6=off").user.ipv6);
  EXPECT_THAT(complaint("user,ipv6=no"), ::testing::HasSubstr("on or off"));
}
TEST(NetOption, RestrictIsAnotherNameOfIsolated) { EXPECT_TRUE(parsed("user,restrict=on").user.isolated); }
TEST(NetOption, BootingFromTheNetwork) {
  const auto net = parsed("user,tftp=/srv/tftp,bootfile=pxelinux.0,rom=none");
  EXPECT_EQ(net.user.tftp_directory, "/srv/tftp");
  EXPECT_EQ(net.user.bootfile, "pxelinux.0");
  EXPECT_EQ(net.boot_rom, "none");
  EXPECT_THAT(complaint("user,tftp="), ::testing::HasSubstr("directory"));
}
TEST(NetOption, ADoubleCommaIsOneInAName) { EXPECT_EQ(parsed("user,tftp=/a,,b").user.tftp_directory, "/a,b"); }
TEST(NetOption, NamesOfHostsAreRefused) {
  EXPECT_THAT(parse_forward("tcp:localhost:1-:2").error().message(), ::testing::HasSubstr("localhost"));
}
TEST(NetOption, UnknownKinds) { EXPECT_THAT(complaint("bridge"), ::testing::HasSubstr("user, passt, tap, none")); }
TEST(NetOption, UnknownKeys) { EXPECT_THAT(complaint("user,ifname=x"), ::testing::HasSubstr("hostfwd=")); }

}  // namespace
}  // namespace veneer::cli
