// Frames between a guest's rings and the link.
#include "devices/virtio/virtio_net.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/virtio/virtio_net_defs.h"
#include "net/packet.h"

namespace veneer::devices {

/// 5.1.6. The last field is there with VERSION_1 or MRG_RXBUF.
struct VirtioNet::Header {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t hdr_len = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
  std::uint16_t num_buffers = 0;
};

namespace {

constexpr std::size_t short_header_bytes = 10;
/// What the guest may be left to do; CTRL_GUEST_OFFLOADS changes these (5.1.6.5.6).
constexpr std::uint64_t guest_offloads =
    bit(NET_F_GUEST_CSUM) | bit(NET_F_GUEST_TSO4) | bit(NET_F_GUEST_TSO6) | bit(NET_F_GUEST_ECN) | bit(NET_F_GUEST_UFO);

struct Config {
  net::MacAddress mac;
  std::uint16_t status;
  std::uint16_t max_virtqueue_pairs;
  std::uint16_t mtu;
};
static_assert(sizeof(Config) == 12);

std::uint8_t gso_type(net::Segmentation kind) {
  switch (kind) {
    case net::Segmentation::None:
      return NET_HDR_GSO_NONE;
    case net::Segmentation::Tcp4:
      return NET_HDR_GSO_TCPV4;
    case net::Segmentation::Tcp6:
      return NET_HDR_GSO_TCPV6;
    case net::Segmentation::Udp:
      return NET_HDR_GSO_UDP;
  }
  return NET_HDR_GSO_NONE;
}

/// The same for both directions of a connection.
std::uint8_t flow_hash(std::span<const std::byte> bytes) {
  const auto packet = net::find_headers(bytes, net::Lengths::FromFrame);
  if (!packet) return 0;
  std::uint32_t hash = packet->protocol;
  const std::size_t addresses = packet->ip + (packet->ipv6 ? net::IPV6_SOURCE : net::IPV4_SOURCE);
  for (std::size_t at = addresses; at < addresses + (packet->ipv6 ? 32 : 8); at += 4) hash ^= net::load_be32(bytes, at);
  if (packet->payload > packet->transport)
    hash ^= static_cast<std::uint32_t>(net::load_be16(bytes, packet->transport) ^
                                       net::load_be16(bytes, packet->transport + 2))
            << 8;
  hash *= 0x9e37'79b1;
  return static_cast<std::uint8_t>(hash >> 24);
}

}  // namespace

VirtioNet::VirtioNet(const machine::DmaSpace& memory, net::CardPort& port, const net::MacAddress& mac, unsigned pairs)
    : memory_(memory), port_(port), factory_mac_(mac), pairs_(pairs), mac_(mac) {
  static_assert(sizeof(Header) == 12);
  VENEER_ASSERT(pairs >= 1 && pairs <= pairs_max);
}

std::uint64_t VirtioNet::features() const {
  std::uint64_t offered = guest_offloads | bit(NET_F_CSUM) | bit(NET_F_CTRL_GUEST_OFFLOADS) | bit(NET_F_MTU) |
                          bit(NET_F_MAC) | bit(NET_F_HOST_TSO4) | bit(NET_F_HOST_TSO6) | bit(NET_F_HOST_ECN) |
                          bit(NET_F_HOST_UFO) | bit(NET_F_MRG_RXBUF) | bit(NET_F_STATUS) | bit(NET_F_CTRL_VQ) |
                          bit(NET_F_CTRL_RX) | bit(NET_F_CTRL_RX_EXTRA) | bit(NET_F_GUEST_ANNOUNCE) |
                          bit(NET_F_CTRL_MAC_ADDR);
  if (pairs_ > 1) offered |= bit(NET_F_MQ);
  return offered;
}

std::uint8_t VirtioNet::read_config(unsigned offset) {
  Config config{};
  config.mac = mac_;
  config.status = static_cast<std::uint16_t>((link_up_ ? NET_S_LINK_UP : 0) | (announce_wanted_ ? NET_S_ANNOUNCE : 0));
  config.max_virtqueue_pairs = static_cast<std::uint16_t>(pairs_);
  config.mtu = net::mtu_bytes;
  std::array<std::uint8_t, sizeof config> bytes{};
  std::memcpy(bytes.data(), &config, sizeof config);
  return offset < bytes.size() ? bytes[offset] : std::uint8_t{0};
}

void VirtioNet::set_link(bool up) {
  if (link_up_ == up) return;
  link_up_ = up;
  if (!up) port_.forget_waiting();
  transport().config_changed();
  port_.wake();
}

void VirtioNet::start(std::uint64_t features) {
  agreed_features_ = features;
  offloads_ = features & guest_offloads;
  started_ = true;
  port_.wake();
}

void VirtioNet::notify(unsigned index, VirtQueue& queue) {
  if (index == control_queue())
    control(queue);
  else
    port_.wake();
}

void VirtioNet::reset() {
  started_ = false;
  agreed_features_ = offloads_ = 0;
  mac_ = factory_mac_;
  announce_wanted_ = false;
  active_pairs_ = 1;
  filter_ = {};
  used_queues_ = 0;
  flows_.fill(0);
  port_.forget_waiting();
}

std::size_t VirtioNet::header_bytes() const {
  return agreed(VIRTIO_F_VERSION_1) || agreed(NET_F_MRG_RXBUF) ? sizeof(Header) : short_header_bytes;
}

/// 5.1.2: behind the pairs there are, which without MQ is one.
unsigned VirtioNet::control_queue() const { return agreed(NET_F_MQ) ? 2 * pairs_ : 2; }

net::CardAbilities VirtioNet::abilities() const {
  const auto has = [this](unsigned feature) { return (offloads_ & bit(feature)) != 0; };
  return {.checksum = has(NET_F_GUEST_CSUM),
          .tcp4 = has(NET_F_GUEST_TSO4),
          .tcp6 = has(NET_F_GUEST_TSO6),
          .udp = has(NET_F_GUEST_UFO)};
}

// ---- From the guest -------------------------------------------------------------------------------------------------

bool VirtioNet::take(net::Frame& out) {
  if (!started_) return false;
  for (unsigned i = 0; i < active_pairs_; ++i) {
    const unsigned pair = (next_pair_ + i) % active_pairs_;
    if (!take_from(pair, out)) continue;
    next_pair_ = (pair + 1) % active_pairs_;
    return true;
  }
  return false;
}

bool VirtioNet::take_from(unsigned pair, net::Frame& out) {
  VirtQueue& queue = transport().queue(2 * pair + 1);
  if (chains_.empty()) chains_.resize(1);
  VirtChain& chain = chains_.front();
  // Frames that nobody can send go back as if they had been sent; a ring holds a bounded number of them.
  for (unsigned tries = 0; tries <= queue_size && queue.pop(chain); ++tries) {
    const bool good = read_frame(chain, out);
    queue.push(chain.head, 0);
    used_queues_ |= bit(2 * pair + 1);
    if (!good || !link_up_) continue;
    if (active_pairs_ > 1) remember_flow(out.bytes(), pair);
    return true;
  }
  if (queue.broken()) used_queues_ |= bit(2 * pair + 1);  // announce() lets the transport see it
  return false;
}

/// False for what is no frame.
bool VirtioNet::read_frame(const VirtChain& chain, net::Frame& out) const {
  Header header{};
  const std::size_t skip = header_bytes();
  if (chain.readable_bytes < skip + net::ethernet_header_bytes || chain.readable_bytes > skip + net::frame_bytes_max)
    return false;
  if (copy_from_chain(memory_, chain, 0, std::as_writable_bytes(std::span(&header, 1)).first(skip)) < skip)
    return false;
  const std::span<std::byte> bytes = out.resize(static_cast<std::size_t>(chain.readable_bytes - skip));
  if (copy_from_chain(memory_, chain, skip, bytes) < bytes.size()) return false;

  out.offload = {};
  if (header.flags & NET_HDR_F_NEEDS_CSUM) {
    if (!agreed(NET_F_CSUM) || std::size_t{header.csum_start} + header.csum_offset + 2 > bytes.size()) return false;
    out.offload.needs_checksum = true;
    out.offload.checksum_start = header.csum_start;
    out.offload.checksum_offset = header.csum_offset;
  }
  const auto kind = static_cast<std::uint8_t>(header.gso_type & ~NET_HDR_GSO_ECN);
  if (kind == NET_HDR_GSO_NONE) return true;
  out.offload.segment_bytes = header.gso_size;
  if (header.gso_size == 0 || !out.offload.needs_checksum) return false;  // 5.1.6.2.1
  if (kind == NET_HDR_GSO_TCPV4 && agreed(NET_F_HOST_TSO4))
    out.offload.segmentation = net::Segmentation::Tcp4;
  else if (kind == NET_HDR_GSO_TCPV6 && agreed(NET_F_HOST_TSO6))
    out.offload.segmentation = net::Segmentation::Tcp6;
  else if (kind == NET_HDR_GSO_UDP && agreed(NET_F_HOST_UFO))
    out.offload.segmentation = net::Segmentation::Udp;
  else
    return false;
  return true;
}

void VirtioNet::announce() {
  const std::uint64_t queues = std::exchange(used_queues_, 0);
  for (unsigned i = 0; i < 2 * pairs_; ++i)
    if (queues & bit(i)) transport().queue_used(i);
}

void VirtioNet::remember_flow(std::span<const std::byte> bytes, unsigned pair) {
  flows_[flow_hash(bytes)] = static_cast<std::uint8_t>(pair);
}

// ---- To the guest ---------------------------------------------------------------------------------------------------

unsigned VirtioNet::pair_for(std::span<const std::byte> bytes) const {
  return active_pairs_ > 1 ? flows_[flow_hash(bytes)] % active_pairs_ : 0;
}

bool VirtioNet::wanted(std::span<const std::byte> bytes) const {
  if (bytes.size() < net::ethernet_header_bytes) return false;
  net::MacAddress to{};
  std::memcpy(to.data(), bytes.data(), to.size());
  constexpr net::MacAddress broadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  if (filter_.promiscuous) return true;
  if (to == broadcast) return !filter_.no_broadcast;
  const bool listed = std::find(filter_.addresses.begin(), filter_.addresses.end(), to) != filter_.addresses.end();
  if ((to[0] & 1) != 0) return !filter_.no_multicast && (filter_.all_multicast || listed);
  return !filter_.no_unicast && (to == mac_ || filter_.all_unicast || listed);
}

net::Given VirtioNet::give(const net::Frame& frame) {
  if (!started_ || !link_up_ || !wanted(frame.bytes())) return net::Given::Dropped;
  const unsigned index = 2 * pair_for(frame.bytes());
  VirtQueue& queue = transport().queue(index);
  if (!queue.setup().enabled || queue.broken()) return net::Given::Dropped;

  const std::size_t needed = header_bytes() + frame.size();
  std::size_t room = 0, count = 0;
  while (room < needed) {
    if (chains_.size() == count) chains_.emplace_back();
    if (!queue.pop(chains_[count])) break;
    room += chains_[count++].writable_bytes;
    if (!agreed(NET_F_MRG_RXBUF)) break;
  }
  if (queue.broken()) {
    used_queues_ |= bit(index);
    return net::Given::Dropped;
  }
  if (room >= needed) {
    const bool written = write_frame(queue, frame, count);
    used_queues_ |= bit(index);
    return written ? net::Given::Done : net::Given::Dropped;
  }
  queue.put_back(static_cast<unsigned>(count));
  // Waiting helps only if there can be more room.
  const bool never = agreed(NET_F_MRG_RXBUF) ? count >= queue.setup().size : count == 1;
  return never ? net::Given::Dropped : net::Given::Full;
}

VirtioNet::Header VirtioNet::header_for(const net::Frame& frame, std::size_t buffers) const {
  Header header;
  const net::Offload& offload = frame.offload;
  if (offload.needs_checksum) {
    header.flags = NET_HDR_F_NEEDS_CSUM;
    header.csum_start = offload.checksum_start;
    header.csum_offset = offload.checksum_offset;
  } else if (offload.checksum_good && (offloads_ & bit(NET_F_GUEST_CSUM))) {
    header.flags = NET_HDR_F_DATA_VALID;
  }
  header.gso_type = gso_type(offload.segmentation);
  if (offload.segmentation != net::Segmentation::None) {
    header.gso_size = offload.segment_bytes;
    if (const auto packet = net::find_headers(frame.bytes(), net::Lengths::FromFrame))
      header.hdr_len = static_cast<std::uint16_t>(packet->payload);
  }
  header.num_buffers = static_cast<std::uint16_t>(buffers);
  return header;
}

/// Header and frame into the first `count` chains, which have room. False when a buffer is not RAM: the queue is broken
/// then.
bool VirtioNet::write_frame(VirtQueue& queue, const net::Frame& frame, std::size_t count) {
  const Header header = header_for(frame, count);
  const std::span<const std::byte> head = std::as_bytes(std::span(&header, 1)).first(header_bytes());
  std::span<const std::byte> left = frame.bytes();
  for (std::size_t i = 0; i < count; ++i) {
    const VirtChain& chain = chains_[i];
    std::size_t at = 0;
    if (i == 0) {
      // 5.1.6.3.1: a receive buffer has room for the header at least.
      if (chain.writable_bytes < head.size() || copy_to_chain(memory_, chain, 0, head) < head.size()) {
        queue.refuse("a receive buffer without room for its header");
        return false;
      }
      at = head.size();
    }
    const auto piece = std::min(left.size(), static_cast<std::size_t>(chain.writable_bytes - at));
    if (copy_to_chain(memory_, chain, at, left.first(piece)) < piece) {
      queue.refuse("a receive buffer outside RAM");
      return false;
    }
    left = left.subspan(piece);
    queue.push(chain.head, static_cast<std::uint32_t>(at + piece));
  }
  return true;
}

// ---- Saving ---------------------------------------------------------------------------------------------------------

void VirtioNet::save(machine::SnapshotWriter& out) const {
  out.section("virtio-net");
  out.put(static_cast<std::uint8_t>(started_));
  out.put(agreed_features_);
  out.put(offloads_);
  out.put(mac_);
  out.put(static_cast<std::uint8_t>(link_up_));
  out.put(static_cast<std::uint8_t>(announce_wanted_));
  out.put(static_cast<std::uint16_t>(active_pairs_));
  for (const bool flag : {filter_.promiscuous, filter_.all_multicast, filter_.all_unicast, filter_.no_multicast,
                          filter_.no_unicast, filter_.no_broadcast})
    out.put(static_cast<std::uint8_t>(flag));
  out.put(static_cast<std::uint16_t>(filter_.addresses.size()));
  for (const net::MacAddress& address : filter_.addresses) out.put(address);
}

void VirtioNet::restore(machine::SnapshotReader& in) {
  in.section("virtio-net");
  started_ = in.get<std::uint8_t>() != 0;
  in.get(agreed_features_);
  in.get(offloads_);
  in.get(mac_);
  link_up_ = in.get<std::uint8_t>() != 0;
  announce_wanted_ = in.get<std::uint8_t>() != 0;
  active_pairs_ = in.get<std::uint16_t>();
  for (bool* flag : {&filter_.promiscuous, &filter_.all_multicast, &filter_.all_unicast, &filter_.no_multicast,
                     &filter_.no_unicast, &filter_.no_broadcast})
    *flag = in.get<std::uint8_t>() != 0;
  const auto count = in.get<std::uint16_t>();
  if (active_pairs_ < 1 || active_pairs_ > pairs_ || count > 2 * filter_addresses_max ||
      (agreed_features_ & ~(features() | bit(VIRTIO_F_INDIRECT_DESC) | bit(VIRTIO_F_EVENT_IDX) |
                            bit(VIRTIO_F_VERSION_1) | bit(VIRTIO_F_ACCESS_PLATFORM))) != 0) {
    in.fail();
    return reset();
  }
  filter_.addresses.assign(count, {});
  for (net::MacAddress& address : filter_.addresses) in.get(address);
  offloads_ &= agreed_features_ & guest_offloads;
  flows_.fill(0);
  used_queues_ = 0;
  next_pair_ = 0;
  port_.forget_waiting();
  port_.wake();
}

}  // namespace veneer::devices
