// The other end of the cables: takes what the cards send, as the host's networks do, and gives them frames.
#include <algorithm>

#include "drivers.h"
#include "net/offload.h"

namespace veneer::devices_fuzz {
namespace {

class NetworkDriver final : public Driver {
 public:
  const char* name() const override { return "network"; }

  void step(Bench& bench, Choices& choices) override {
    const std::lock_guard hold(bench.lock);
    const std::vector<net::Card*> cards = bench.board->network().cards();
    net::Card& card = *cards[choices.below(cards.size())];
    if (choices.one_in(2))
      take(bench, card);
    else
      give(bench, card, choices);
    card.announce();
    if (choices.one_in(64))
      (void)bench.board->network().set_link("net" + std::to_string(choices.below(2)), !choices.wrong(2));
  }

 private:
  static void take(Bench& bench, net::Card& card) {
    net::Frame frame;
    for (unsigned n = 0; n < 64 && card.take(frame); ++n) {
      ++bench.frames_sent;
      if (frame.size() > net::frame_bytes_max) broken("a frame is longer than any may be");
      std::size_t pieces = 0;
      (void)net::cut(frame, [&pieces](const net::Frame& piece) {
        if (piece.size() > net::mtu_bytes + net::ethernet_header_bytes + 4 && ++pieces > 0x1'0000)
          broken("too many pieces");
      });
      if (frame.offload.segmentation != net::Segmentation::None)
        (void)net::make_whole(frame);
      else if (frame.offload.needs_checksum)
        net::complete_checksum(frame);
    }
  }

  static void give(Bench& bench, net::Card& card, Choices& choices) {
    net::Frame frame;
    frame.assign(make_frame(choices, choices.one_in(4) ? net::frame_bytes_max : 1514));
    if (!net::mark_large(frame)) return;
    const net::CardAbilities abilities = card.abilities();
    if (frame.offload.segmentation != net::Segmentation::None &&
        !(abilities.takes(frame.offload.segmentation) && frame.offload.needs_checksum)) {
      (void)net::cut(frame, [&card](const net::Frame& piece) { (void)card.give(piece); });
      return;
    }
    if (frame.offload.needs_checksum && !abilities.checksum) net::complete_checksum(frame);
    if (card.give(frame) == net::Given::Done) ++bench.frames_received;
  }
};

}  // namespace

std::vector<std::byte> make_frame(Choices& choices, std::size_t most) {
  const bool large = choices.one_in(4);
  const std::size_t size = std::min<std::size_t>(most, large ? choices.below(most + 1) : 14 + choices.below(120));
  std::vector<std::byte> frame(size);
  const auto put = [&](std::size_t at, std::uint64_t value) {
    if (at < size) frame[at] = static_cast<std::byte>(value);
  };
  for (std::size_t i = 0; i < 6; ++i) put(i, choices.one_in(2) ? 0xff : 0x52);
  const bool ipv6 = choices.one_in(4);
  put(12, ipv6 ? 0x86 : 0x08);
  put(13, ipv6 ? 0xdd : 0x00);
  const std::size_t payload = size > 14 ? size - 14 : 0;
  if (ipv6) {
    put(14, 0x60);
    put(18, (payload - 40) >> 8);
    put(19, payload - 40);
    put(20, choices.pick({6, 17, 0, 44, 43}));
    put(54 + 12, 0x50);
  } else {
    put(14, choices.one_in(8) ? choices.bits(8) : 0x45);
    put(16, payload >> 8);
    put(17, payload);
    put(20, choices.one_in(8) ? choices.bits(8) : 0x40);
    put(23, choices.pick({6, 17, 1}));
    put(34 + 12, choices.one_in(8) ? choices.bits(8) : 0x50);
    put(34 + 4, payload >> 8);
    put(34 + 5, payload);
  }
  for (std::uint64_t n = choices.one_in(2) ? 0 : choices.below(4); n != 0; --n) put(choices.below(64), choices.bits(8));
  return frame;
}

std::unique_ptr<Driver> make_network_driver() { return std::make_unique<NetworkDriver>(); }

}  // namespace veneer::devices_fuzz
