// What passt is told, and who is not there.
#include "net/passt.h"

#include <gmock/gmock.h>

namespace veneer::net {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

TEST(Passt, IsGivenItsSocket) { EXPECT_THAT(passt_arguments({}, 3), ElementsAre("--quiet", "--fd", "3")); }
TEST(Passt, WithoutIpv6) { EXPECT_THAT(passt_arguments({.ipv6 = false}, 3), Contains("--ipv4-only")); }
TEST(Passt, ForwardsInItsNotation) {
  PasstOptions options;
  options.forwards = {{.host_port = 2222, .guest_port = 22}, {.udp = true, .host_port = 53, .guest_port = 53}};
  EXPECT_THAT(passt_arguments(options, 3),
              ElementsAre("--quiet", "--fd", "3", "--tcp-ports", "127.0.0.1/2222:22", "--udp-ports", "127.0.0.1/53"));
}
TEST(Passt, NobodyListens) {
  const auto end = make_passt_end({.socket = "/nowhere/passt.socket"});
  ASSERT_FALSE(end.ok());
  EXPECT_THAT(end.error().message(), ::testing::HasSubstr("passt --socket /nowhere/passt.socket"));
}

}  // namespace
}  // namespace veneer::net
