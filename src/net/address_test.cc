// Addresses: text to numbers and back, and the one that a card's address makes.
#include "net/address.h"

#include <gtest/gtest.h>

namespace veneer::net {
namespace {

TEST(Address, Ipv4ComesBackFromItsText) { EXPECT_EQ(format_ipv4(parse_ipv4("10.0.2.15").value()), "10.0.2.15"); }
TEST(Address, Ipv6ComesBackFromItsText) { EXPECT_EQ(format_ipv6(parse_ipv6("fec0::2").value()), "fec0::2"); }
TEST(Address, NamesAreNone) {
  EXPECT_FALSE(parse_ipv4("localhost").has_value());
  EXPECT_FALSE(parse_ipv6("localhost").has_value());
}
TEST(Address, OfACard) {
  EXPECT_EQ(format_ipv6(ipv6_of_card(parse_ipv6("fe80::").value(), {0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde})),
            "fe80::3656:78ff:fe9a:bcde");
}

}  // namespace
}  // namespace veneer::net
