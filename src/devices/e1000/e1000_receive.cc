// Receive descriptors and filters of the 82540EM (manual chapter 3.2).
#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "devices/e1000/e1000.h"
#include "net/packet.h"

namespace veneer::devices {

using namespace e1000;

namespace {

constexpr std::size_t frame_bytes_min = 60, checksum_bytes = 4;
/// Without "long packet enable": with a VLAN tag, without the checksum (13.4.22).
constexpr std::size_t frame_bytes_usual_max = 1518;

/// IEEE 802.3 3.2.9.
std::uint32_t ethernet_checksum(std::span<const std::byte> bytes, std::size_t zeros_behind) {
  static constexpr auto table = [] {
    std::array<std::uint32_t, 256> out{};
    for (std::uint32_t i = 0; i < out.size(); ++i) {
      std::uint32_t value = i;
      for (int step = 0; step < 8; ++step) value = (value >> 1) ^ ((value & 1) ? 0xedb8'8320 : 0);
      out[i] = value;
    }
    return out;
  }();
  std::uint32_t crc = ~0u;
  for (const std::byte byte : bytes) crc = (crc >> 8) ^ table[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
  for (; zeros_behind > 0; --zeros_behind) crc = (crc >> 8) ^ table[crc & 0xff];
  return ~crc;
}

}  // namespace

bool E1000::wanted(std::span<const std::byte> bytes) const {
  if (bytes.size() < net::ethernet_header_bytes) return false;
  const std::uint32_t control = at(RCTL);
  if (bytes.size() > frame_bytes_usual_max && !(control & RCTL_LPE)) return false;
  std::array<std::uint8_t, 6> to{};
  std::memcpy(to.data(), bytes.data(), to.size());
  const bool group = (to[0] & 1) != 0;
  if (control & (group ? RCTL_MPE : RCTL_UPE)) return true;
  if (std::all_of(to.begin(), to.end(), [](std::uint8_t byte) { return byte == 0xff; }))
    return (control & RCTL_BAM) != 0;
  const std::uint32_t low =
      to[0] | (std::uint32_t{to[1]} << 8) | (std::uint32_t{to[2]} << 16) | (std::uint32_t{to[3]} << 24);
  const std::uint32_t high = to[4] | (std::uint32_t{to[5]} << 8);
  for (std::uint32_t i = 0; i < RECEIVE_ADDRESSES; ++i) {
    const std::uint32_t pair = RAL0 + 8 * i;
    if ((at(pair + 4) & RAH_AV) && at(pair) == low && (at(pair + 4) & 0xffff) == high) return true;
  }
  if (!group) return false;
  // The multicast table's index are 12 bits of the address, which ones RCTL.MO says (13.5.1).
  static constexpr std::array<unsigned, 4> shifts = {4, 3, 2, 0};
  const std::uint32_t hash = (high >> shifts[Bits<13, 12>::get(control)]) & 0xfff;
  return (at(MTA + 4 * (hash >> 5)) >> (hash & 31)) & 1;
}

/// 13.4.22, BSIZE and BSEX.
std::uint32_t E1000::buffer_bytes() const {
  const auto code = static_cast<unsigned>(Bits<17, 16>::get(at(RCTL)));
  if (at(RCTL) & RCTL_BSEX) return code == 0 ? 2048 : 32768u >> code;
  return 2048u >> code;
}

std::uint32_t E1000::free_descriptors() const {
  const std::uint32_t count = at(RDLEN) / static_cast<std::uint32_t>(descriptor_bytes);
  if (at(RDH) >= count || at(RDT) >= count) return 0;
  return (at(RDT) + count - at(RDH)) % count;
}

net::Given E1000::give(const net::Frame& frame) {
  if (!(at(RCTL) & RCTL_EN) || !bus_master() || !link_up_ || !wanted(frame.bytes())) return net::Given::Dropped;
  const std::size_t padded = std::max(frame.size(), frame_bytes_min);
  const bool with_checksum = !(at(RCTL) & RCTL_SECRC);
  const std::size_t total = padded + (with_checksum ? checksum_bytes : 0);
  const std::size_t needed = (total + buffer_bytes() - 1) / buffer_bytes();
  const std::uint32_t ring = at(RDLEN) / static_cast<std::uint32_t>(descriptor_bytes);
  if (needed >= ring) return net::Given::Dropped;  // no such ring has room
  if (needed > free_descriptors()) return net::Given::Full;

  std::vector<std::byte>& bytes = outgoing_;
  bytes.assign(frame.bytes().begin(), frame.bytes().end());
  bytes.resize(total);
  if (with_checksum) {
    const std::uint32_t crc = ethernet_checksum(frame.bytes(), padded - frame.size());
    std::memcpy(bytes.data() + padded, &crc, sizeof crc);
  }
  std::uint8_t status = RX_IXSM;
  const auto packet = net::find_headers(frame.bytes(), net::Lengths::FromHeader);
  if (frame.offload.checksum_good && packet && !packet->ipv6 && (at(RXCSUM) & (RXCSUM_IPOFL | RXCSUM_TUOFL))) {
    status = 0;
    if (at(RXCSUM) & RXCSUM_IPOFL) status |= RX_IPCS;
    const bool transport = packet->protocol == net::PROTOCOL_TCP || packet->protocol == net::PROTOCOL_UDP;
    if ((at(RXCSUM) & RXCSUM_TUOFL) && transport && !packet->fragment) status |= RX_TCPCS;
  }
  if (!put(bytes, status)) return net::Given::Dropped;
  at(GPRC) += 1;
  at(TPR) += 1;
  count(GORCL, total);
  // Few free descriptors: half, a quarter or an eighth of the ring (RDMTS).
  if (free_descriptors() <= ring >> (1 + Bits<9, 8>::get(at(RCTL)))) raise(CAUSE_RXDMT0);
  raise(CAUSE_RXT0);
  return net::Given::Done;
}

/// Into the next descriptors, of which there are enough. False when a buffer or the ring is not RAM.
bool E1000::put(std::span<const std::byte> bytes, std::uint8_t status) {
  const std::uint32_t count = at(RDLEN) / static_cast<std::uint32_t>(descriptor_bytes);
  while (!bytes.empty()) {
    const std::uint32_t head = at(RDH);
    const GuestPhys place{(at(RDBAL) | (std::uint64_t{at(RDBAH)} << 32)) + head * descriptor_bytes};
    ReceiveDescriptor descriptor{};
    if (!memory_.read_value(place, descriptor)) return false;
    const std::size_t piece = std::min<std::size_t>(bytes.size(), buffer_bytes());
    const bool written = memory_.write(GuestPhys{descriptor.address}, bytes.first(piece));
    bytes = bytes.subspan(piece);
    descriptor.length = static_cast<std::uint16_t>(piece);
    descriptor.checksum = 0;
    descriptor.errors = 0;
    descriptor.special = 0;
    descriptor.status = static_cast<std::uint8_t>(RX_DD | (bytes.empty() ? RX_EOP | status : 0));
    // The status byte last: the driver looks at it without waiting for an interrupt.
    const std::uint64_t data = descriptor.length;
    if (!memory_.write_value(place + 8, static_cast<std::uint32_t>(data)) ||
        !memory_.write_value(place + 12, static_cast<std::uint32_t>(descriptor.status)))
      return false;
    at(RDH) = head + 1 == count ? 0 : head + 1;
    if (!written) return false;
  }
  return true;
}

}  // namespace veneer::devices
