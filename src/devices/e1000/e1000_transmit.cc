// Transmit descriptors of the 82540EM, and what it does to packets on their way (manual chapter 3.3 to 3.5).
#include <algorithm>

#include "base/bits.h"
#include "devices/e1000/e1000.h"
#include "net/checksum.h"
#include "net/offload.h"
#include "net/packet.h"

namespace veneer::devices {

using namespace e1000;

namespace {

/// Descriptors looked at in one call: a ring of contexts without packets ends somewhere.
constexpr unsigned descriptors_at_once = 4096;
constexpr std::size_t mac_addresses_bytes = 12, vlan_tag_bytes = 4;

}  // namespace

bool E1000::take(net::Frame& out) {
  for (unsigned i = 0; i < descriptors_at_once; ++i) {
    bool complete = false;
    if (!transmit_one(out, complete)) return false;
    if (complete) return true;
  }
  port_.wake();
  return false;
}

/// One descriptor. False when there is none; `complete` when `out` is a frame.
bool E1000::transmit_one(net::Frame& out, bool& complete) {
  const std::uint32_t count = at(TDLEN) / static_cast<std::uint32_t>(descriptor_bytes);
  const std::uint32_t head = at(TDH);
  if (!(at(TCTL) & TCTL_EN) || !bus_master() || head == at(TDT) || head >= count) return false;
  const GuestPhys place{(at(TDBAL) | (std::uint64_t{at(TDBAH)} << 32)) + head * descriptor_bytes};
  TransmitDescriptor descriptor{};
  if (!memory_.read_value(place, descriptor)) return false;

  const auto command = static_cast<std::uint8_t>(descriptor.lower >> 24);
  const bool extended = (command & TX_DEXT) != 0;
  if (extended && Bits<23, 20>::get(descriptor.lower) == 0) {
    load_context(descriptor);
  } else {
    if (packet_.empty() && !packet_broken_) {
      packet_segmented_ = extended && (command & TX_TSE) != 0;
      packet_options_ = extended ? static_cast<std::uint8_t>(descriptor.upper >> 8) : 0;
    }
    const auto length =
        static_cast<std::uint32_t>(extended ? Bits<19, 0>::get(descriptor.lower) : Bits<15, 0>::get(descriptor.lower));
    if (!gather(descriptor, length)) packet_broken_ = true;
    if (command & TX_EOP) {
      complete = !packet_broken_ && finish_packet(descriptor, out);
      packet_.clear();
      packet_broken_ = false;
    }
  }
  if (command & TX_RS) {
    descriptor.upper |= TX_DD;
    (void)memory_.write_value(place + 12, descriptor.upper);
    raise(CAUSE_TXDW);
  }
  at(TDH) = head + 1 == count ? 0 : head + 1;
  if (at(TDH) == at(TDT)) raise(CAUSE_TXQE);
  return true;
}

void E1000::load_context(const TransmitDescriptor& descriptor) {
  const std::uint64_t fields = descriptor.address;
  context_.ip_start = static_cast<std::uint8_t>(Bits<7, 0>::get(fields));
  context_.ip_offset = static_cast<std::uint8_t>(Bits<15, 8>::get(fields));
  context_.ip_end = static_cast<std::uint16_t>(Bits<31, 16>::get(fields));
  context_.transport_start = static_cast<std::uint8_t>(Bits<39, 32>::get(fields));
  context_.transport_offset = static_cast<std::uint8_t>(Bits<47, 40>::get(fields));
  context_.transport_end = static_cast<std::uint16_t>(Bits<63, 48>::get(fields));
  context_.command = static_cast<std::uint8_t>(descriptor.lower >> 24);
  context_.header_bytes = static_cast<std::uint8_t>(Bits<15, 8>::get(descriptor.upper));
  context_.segment_bytes = static_cast<std::uint16_t>(Bits<31, 16>::get(descriptor.upper));
}

/// Appends a descriptor's buffer to the packet. False when that cannot be.
bool E1000::gather(const TransmitDescriptor& descriptor, std::uint32_t length_bytes) {
  const std::size_t before = packet_.size();
  if (packet_broken_ || before + length_bytes > net::frame_bytes_max - vlan_tag_bytes) return false;
  packet_.resize(before + length_bytes);
  return memory_.read(GuestPhys{descriptor.address}, std::span(packet_).subspan(before));
}

/// The checksum of [start, end) to `field`; nothing when the places make no sense. `end` 0 means the packet's.
void E1000::insert_checksum(std::size_t start, std::size_t field, std::size_t end) {
  if (end == 0 || end > packet_.size()) end = packet_.size();
  if (start >= end || field + 2 > packet_.size()) return;
  net::store_raw16(packet_, field, net::checksum(net::add_bytes(0, std::span(packet_).subspan(start, end - start))));
}

/// After the last descriptor: checksums, VLAN tag, segmentation. False when no frame comes of it.
bool E1000::finish_packet(const TransmitDescriptor& descriptor, net::Frame& out) {
  if (packet_.size() < net::ethernet_header_bytes || !link_up_) return false;
  const auto command = static_cast<std::uint8_t>(descriptor.lower >> 24);
  const bool extended = (command & TX_DEXT) != 0;
  if (!extended && (command & TX_IC)) {  // 3.3.3: CSS in the upper, CSO in the lower dword
    insert_checksum(Bits<15, 8>::get(descriptor.upper), Bits<23, 16>::get(descriptor.lower), 0);
  } else if (extended && !packet_segmented_) {
    const std::size_t ip_end = context_.ip_end != 0 ? context_.ip_end + std::size_t{1} : 0;
    const std::size_t transport_end = context_.transport_end != 0 ? context_.transport_end + std::size_t{1} : 0;
    if (packet_options_ & POPTS_IXSM) insert_checksum(context_.ip_start, context_.ip_offset, ip_end);
    if (packet_options_ & POPTS_TXSM)
      insert_checksum(context_.transport_start, context_.transport_offset, transport_end);
  }
  if (command & TX_VLE) {
    std::array<std::byte, vlan_tag_bytes> tag{};
    net::store_be16(tag, 0, static_cast<std::uint16_t>(at(VET)));
    net::store_be16(tag, 2, static_cast<std::uint16_t>(descriptor.upper >> 16));
    packet_.insert(packet_.begin() + mac_addresses_bytes, tag.begin(), tag.end());
  }
  out.assign(packet_);
  out.offload = {};
  at(GPTC) += 1;
  at(TPT) += 1;
  count(GOTCL, packet_.size() + 4);
  if (!packet_segmented_) return true;
  if (!(context_.command & TUCMD_TCP)) return false;
  out.offload.segmentation = context_.command & TUCMD_IP ? net::Segmentation::Tcp4 : net::Segmentation::Tcp6;
  out.offload.segment_bytes = context_.segment_bytes;
  return net::complete_segmentation(out);
}

}  // namespace veneer::devices
