// Changing one TCP option and the checksum that covers it.
#include "net/mss.h"

#include <utility>

#include "net/checksum.h"
#include "net/frame.h"
#include "net/packet.h"

namespace veneer::net {
namespace {

/// What the guest's driver says when its MTU is that of our wire: MTU without IP's and TCP's headers (RFC 9293 3.7.1).
constexpr std::uint16_t usual_mss = mtu_bytes - 40, usual_mss6 = mtu_bytes - 60;
constexpr std::uint16_t raised_mss = 65480, raised_mss6 = 65460;

/// Where the value of the MSS option of a SYN is (RFC 9293 3.1), or 0.
std::size_t find_mss(std::span<const std::byte> frame, const Packet& packet) {
  for (std::size_t at = packet.transport + tcp_header_bytes; at < packet.payload;) {
    const auto kind = std::to_integer<unsigned>(frame[at]);
    if (kind == 0) return 0;
    if (kind == 1) {
      ++at;
      continue;
    }
    if (at + 1 >= packet.payload) return 0;
    const auto length = std::to_integer<std::size_t>(frame[at + 1]);
    if (length < 2 || at + length > packet.payload) return 0;
    if (kind == 2 && length == 4) return at + 2;
    at += length;
  }
  return 0;
}

}  // namespace

void raise_mss(std::span<std::byte> frame) {
  const auto packet = find_headers(frame, Lengths::FromHeader);
  if (!packet || packet->fragment || packet->protocol != PROTOCOL_TCP) return;
  if ((std::to_integer<unsigned>(frame[packet->transport + TCP_FLAGS]) & TCP_SYN) == 0) return;
  const std::size_t at = find_mss(frame, *packet);
  const std::uint16_t usual = packet->ipv6 ? usual_mss6 : usual_mss;
  const std::uint16_t raised = packet->ipv6 ? raised_mss6 : raised_mss;
  if (at == 0 || load_be16(frame, at) != usual) return;
  store_be16(frame, at, raised);
  // The option may stand at an odd address: then its bytes count in the other halves of the sum's words.
  std::byte before[2], after[2];
  store_be16(before, 0, usual);
  store_be16(after, 0, raised);
  if ((at - packet->transport) % 2 != 0) {
    std::swap(before[0], before[1]);
    std::swap(after[0], after[1]);
  }
  const std::size_t field = packet->transport + TCP_CHECKSUM;
  store_raw16(frame, field,
              checksum_after_change(load_raw16(frame, field), load_raw16(before, 0), load_raw16(after, 0)));
}

}  // namespace veneer::net
