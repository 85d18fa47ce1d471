// The virtio network device.
//
// State: agreed features, receive filter, address, active queue pairs, link and announcement bits.
// Missing: VLAN filter, RSS and hash reports, notification coalescing, standby.
// Differs from the spec: nothing known. Spec: Virtio 1.2, 5.1.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "net/card.h"
#include "net/mac_address.h"

namespace veneer::devices {

/// A guest's frames wait in its rings: the link takes them and gives others when it has time (net/link.h).
class VirtioNet final : public VirtioDevice, public net::Card {
 public:
  static constexpr std::uint16_t queue_size = 256, control_queue_size = 64;
  static constexpr unsigned pairs_max = 16;

  /// `pairs`: 1 to pairs_max. `port` outlives it.
  VirtioNet(const machine::DmaSpace& memory, net::CardPort& port, const net::MacAddress& mac, unsigned pairs);

  /// The cable. Board lock held.
  void set_link(bool up);
  bool link_up() const { return link_up_; }

  // VirtioDevice
  std::uint16_t type() const override { return VIRTIO_TYPE_NETWORK; }
  std::uint32_t pci_class() const override { return 0x020000; }  // Ethernet controller
  std::uint64_t features() const override;
  unsigned queue_count() const override { return 2 * pairs_ + 1; }
  std::uint16_t queue_size_max(unsigned queue) const override {
    return queue == 2 * pairs_ ? control_queue_size : queue_size;
  }
  std::uint8_t read_config(unsigned offset) override;
  void start(std::uint64_t features) override;
  void notify(unsigned index, VirtQueue& queue) override;
  void reset() override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;

  // net::Card
  bool take(net::Frame& out) override;
  net::Given give(const net::Frame& frame) override;
  net::CardAbilities abilities() const override;
  void announce() override;

 private:
  static constexpr std::size_t filter_addresses_max = 64;
  /// What is let in besides the own address (5.1.6.5.1, 5.1.6.5.2).
  struct Filter {
    bool promiscuous = true, all_multicast = false, all_unicast = false;
    bool no_multicast = false, no_unicast = false, no_broadcast = false;
    std::vector<net::MacAddress> addresses;
  };
  struct Header;

  bool agreed(unsigned feature) const { return (agreed_features_ >> feature) & 1; }
  std::size_t header_bytes() const;
  unsigned control_queue() const;
  bool take_from(unsigned pair, net::Frame& out);
  bool read_frame(const VirtChain& chain, net::Frame& out) const;
  bool wanted(std::span<const std::byte> bytes) const;
  unsigned pair_for(std::span<const std::byte> bytes) const;
  void remember_flow(std::span<const std::byte> bytes, unsigned pair);
  Header header_for(const net::Frame& frame, std::size_t buffers) const;
  bool write_frame(VirtQueue& queue, const net::Frame& frame, std::size_t chains);

  // virtio_net_control.cc
  void control(VirtQueue& queue);
  bool command(std::uint8_t command_class, std::uint8_t command, std::span<const std::byte> data);
  bool receive_mode(std::uint8_t command, std::span<const std::byte> data);
  bool set_addresses(std::span<const std::byte> data);
  bool set_offloads(std::span<const std::byte> data);
  bool set_pairs(std::span<const std::byte> data);

  machine::DmaSpace memory_;
  net::CardPort& port_;
  const net::MacAddress factory_mac_;
  const unsigned pairs_;

  bool started_ = false;
  std::uint64_t agreed_features_ = 0;
  std::uint64_t offloads_ = 0;  // of the guest's side, as bits of features
  net::MacAddress mac_;
  bool link_up_ = true, announce_wanted_ = false;
  unsigned active_pairs_ = 1;
  Filter filter_;

  unsigned next_pair_ = 0;
  std::uint64_t used_queues_ = 0;          // a bit for each queue since announce()
  std::array<std::uint8_t, 256> flows_{};  // the pair on which a flow was sent (5.1.6.5.5)
  std::vector<VirtChain> chains_;
};

}  // namespace veneer::devices
