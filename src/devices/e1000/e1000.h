// An Intel 82540EM gigabit Ethernet card: for guests without virtio.
//
// State: registers, receive filter, PHY registers, EEPROM interface, the packet being put together, statistics
// counters. Missing: VLAN filtering and stripping, wake-up, flow control, interrupt throttling and delay timers (an
// interrupt comes with each batch), loopback, EEPROM writes, RS-232-like test modes; UDP segmentation. Differs from the
// spec: a full receive ring makes senders wait in place of dropping. Spec: Intel "PCI/PCI-X Family of Gigabit Ethernet
// Controllers Software Developer's Manual" 317453.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "devices/e1000/e1000_defs.h"
#include "devices/e1000/microwire_eeprom.h"
#include "devices/pci/pci_function.h"
#include "machine/device.h"
#include "machine/dma_space.h"
#include "machine/register_window.h"
#include "net/card.h"
#include "net/mac_address.h"

namespace veneer::devices {

/// BAR 0 has the registers, BAR 1 a window to them for I/O ports.
class E1000 final : public PciFunction, public net::Card {
 public:
  /// `port` and `memory` outlive it.
  E1000(std::string name, const machine::DmaSpace& memory, net::CardPort& port, const net::MacAddress& mac);

  /// The cable. Board lock held.
  void set_link(bool up);
  bool link_up() const { return link_up_; }

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

  // net::Card
  bool take(net::Frame& out) override;
  net::Given give(const net::Frame& frame) override;
  net::CardAbilities abilities() const override { return {}; }
  void announce() override { update_interrupt(); }

 private:
  /// What the last context descriptor said (3.3.6).
  struct Context {
    std::uint8_t ip_start = 0, ip_offset = 0;
    std::uint16_t ip_end = 0;
    std::uint8_t transport_start = 0, transport_offset = 0;
    std::uint16_t transport_end = 0;
    std::uint16_t segment_bytes = 0;
    std::uint8_t header_bytes = 0;
    std::uint8_t command = 0;
  };

  std::uint32_t& at(std::uint32_t offset) { return registers_[offset / 4]; }
  std::uint32_t at(std::uint32_t offset) const { return registers_[offset / 4]; }
  std::uint64_t read_memory_bar(std::uint64_t offset, unsigned size_bytes);
  void write_memory_bar(std::uint64_t offset, unsigned size_bytes, std::uint64_t value);
  /// IOADDR and IODATA (13.2.2).
  std::uint64_t read_port_bar(std::uint64_t offset, unsigned size_bytes);
  void write_port_bar(std::uint64_t offset, unsigned size_bytes, std::uint64_t value);
  std::uint32_t read_register(std::uint32_t offset);
  void write_register(std::uint32_t offset, std::uint32_t value);
  void write_control(std::uint32_t value);
  void reset_card();
  void reset_phy();
  void access_phy(std::uint32_t value);
  void update_link_state();
  void raise(std::uint32_t causes) { at(e1000::ICR) |= causes; }
  void update_interrupt();
  void count(std::uint32_t low, std::uint64_t amount);

  // e1000_transmit.cc
  bool transmit_one(net::Frame& out, bool& complete);
  void load_context(const e1000::TransmitDescriptor& descriptor);
  bool gather(const e1000::TransmitDescriptor& descriptor, std::uint32_t length_bytes);
  bool finish_packet(const e1000::TransmitDescriptor& descriptor, net::Frame& out);
  void insert_checksum(std::size_t start, std::size_t field, std::size_t end);

  // e1000_receive.cc
  bool wanted(std::span<const std::byte> bytes) const;
  std::uint32_t buffer_bytes() const;
  std::uint32_t free_descriptors() const;
  bool put(std::span<const std::byte> bytes, std::uint8_t status);

  machine::DmaSpace memory_;
  net::CardPort& port_;
  machine::RegisterWindow<E1000> memory_bar_{*this, &E1000::read_memory_bar, &E1000::write_memory_bar};
  machine::RegisterWindow<E1000> port_bar_{*this, &E1000::read_port_bar, &E1000::write_port_bar};
  MicrowireEeprom eeprom_;

  std::array<std::uint32_t, e1000::REGISTERS_END / 4> registers_{};
  std::array<std::uint16_t, e1000::phy_registers> phy_{};
  std::uint32_t window_address_ = 0;
  bool link_up_ = true;

  Context context_;
  std::vector<std::byte> packet_;  // gathered so far
  bool packet_broken_ = false;     // it is too long, or not in RAM: dropped at its end
  bool packet_segmented_ = false;  // of its first descriptor (3.3.7)
  std::uint8_t packet_options_ = 0;
  std::vector<std::byte> outgoing_;  // scratch
};

}  // namespace veneer::devices
