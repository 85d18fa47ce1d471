// The control queue of the virtio network device (Virtio 1.2 5.1.6.5).
#include <array>
#include <cstring>

#include "base/bits.h"
#include "devices/virtio/virtio_net.h"
#include "devices/virtio/virtio_net_defs.h"

namespace veneer::devices {
namespace {

/// Class and command.
constexpr std::size_t command_bytes = 2;
/// The longest command is a table of addresses; drivers that have more set "all".
constexpr std::size_t command_bytes_max = 4096;

template <typename T>
bool read_as(std::span<const std::byte> data, T& value) {
  if (data.size() != sizeof value) return false;
  std::memcpy(&value, data.data(), sizeof value);
  return true;
}

}  // namespace

void VirtioNet::control(VirtQueue& queue) {
  while (const auto chain = queue.pop()) {
    if (chain->writable_bytes == 0) return queue.refuse("a network command without room for its answer");
    std::array<std::byte, command_bytes_max> bytes;
    const std::size_t size =
        chain->readable_bytes > bytes.size()
            ? 0
            : copy_from_chain(memory_, *chain, 0,
                              std::span(bytes).first(static_cast<std::size_t>(chain->readable_bytes)));
    const bool good = size >= command_bytes && size == chain->readable_bytes &&
                      command(std::to_integer<std::uint8_t>(bytes[0]), std::to_integer<std::uint8_t>(bytes[1]),
                              std::span(bytes).subspan(command_bytes, size - command_bytes));
    const std::byte answer{good ? NET_OK : NET_ERR};
    if (copy_to_chain(memory_, *chain, 0, std::span(&answer, 1)) != 1)
      return queue.refuse("the answer to a network command outside RAM");
    queue.push(chain->head, 1);
  }
}

bool VirtioNet::command(std::uint8_t command_class, std::uint8_t command, std::span<const std::byte> data) {
  switch (command_class) {
    case NET_CTRL_RX:
      return receive_mode(command, data);
    case NET_CTRL_MAC:
      if (command == NET_CTRL_MAC_TABLE_SET) return set_addresses(data);
      return command == NET_CTRL_MAC_ADDR_SET && read_as(data, mac_);
    case NET_CTRL_ANNOUNCE:
      if (command != NET_CTRL_ANNOUNCE_ACK) return false;
      announce_wanted_ = false;
      return true;
    case NET_CTRL_MQ:
      return command == NET_CTRL_MQ_VQ_PAIRS_SET && set_pairs(data);
    case NET_CTRL_GUEST_OFFLOADS:
      return command == NET_CTRL_GUEST_OFFLOADS_SET && set_offloads(data);
    default:
      return false;
  }
}

bool VirtioNet::receive_mode(std::uint8_t command, std::span<const std::byte> data) {
  std::uint8_t on = 0;
  const std::array<bool*, 6> modes = {&filter_.promiscuous,  &filter_.all_multicast, &filter_.all_unicast,
                                      &filter_.no_multicast, &filter_.no_unicast,    &filter_.no_broadcast};
  static_assert(NET_CTRL_RX_PROMISC == 0 && NET_CTRL_RX_NOBCAST == 5);
  if (command >= modes.size() || !read_as(data, on) || on > 1) return false;
  *modes[command] = on == 1;
  return true;
}

/// Two tables, unicast and multicast, each with its count in front. Nothing changes when one makes no sense.
bool VirtioNet::set_addresses(std::span<const std::byte> data) {
  std::vector<net::MacAddress> addresses;
  for (unsigned table = 0; table < 2; ++table) {
    std::uint32_t count = 0;
    if (data.size() < sizeof count || !read_as(data.first(sizeof count), count)) return false;
    data = data.subspan(sizeof count);
    if (count > filter_addresses_max || data.size() < count * sizeof(net::MacAddress)) return false;
    for (std::uint32_t i = 0; i < count; ++i) {
      std::memcpy(addresses.emplace_back().data(), data.data(), sizeof(net::MacAddress));
      data = data.subspan(sizeof(net::MacAddress));
    }
  }
  if (!data.empty()) return false;
  filter_.addresses = std::move(addresses);
  return true;
}

bool VirtioNet::set_offloads(std::span<const std::byte> data) {
  std::uint64_t wanted = 0;
  constexpr std::uint64_t known = bit(NET_F_GUEST_CSUM) | bit(NET_F_GUEST_TSO4) | bit(NET_F_GUEST_TSO6) |
                                  bit(NET_F_GUEST_ECN) | bit(NET_F_GUEST_UFO);
  if (!read_as(data, wanted) || (wanted & ~(agreed_features_ & known)) != 0) return false;
  offloads_ = wanted;
  return true;
}

bool VirtioNet::set_pairs(std::span<const std::byte> data) {
  std::uint16_t pairs = 0;
  if (!agreed(NET_F_MQ) || !read_as(data, pairs) || pairs < 1 || pairs > pairs_) return false;
  active_pairs_ = pairs;
  next_pair_ = 0;
  port_.wake();
  return true;
}

}  // namespace veneer::devices
