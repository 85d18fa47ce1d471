// Two 8237A DMA controllers and the page registers, as a PC wires them.
//
// State: addresses, counts, modes, masks and page of seven channels, status and command of both chips.
// Missing: memory to memory, software requests (their bits read back), cascading of bus masters.
// Differs from the spec: a transfer happens at once when its device asks; priorities do not matter.
// Spec: Intel 8237A data sheet 231466-005; page registers: 82371FB (PIIX) data sheet 3.3.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "machine/byte_device.h"
#include "machine/guest_memory.h"

namespace veneer::devices {

/// What a device got through.
struct DmaMoved {
  std::size_t bytes = 0;
  bool terminal_count = false;  ///< the channel's count has run out
};

class IsaDma final {
 public:
  explicit IsaDma(machine::GuestMemory& memory) : memory_(memory) { reset(); }

  machine::Device& master() { return chips_[0]; }       ///< ports 00h to 0Fh: channels 0 to 3, bytes
  machine::Device& slave() { return chips_[1]; }        ///< ports C0h to DFh: channels 4 to 7, words
  machine::Device& page_registers() { return pages_; }  ///< ports 81h to 8Fh

  // For a device on a channel, as far as the guest's settings go. Board lock held.
  DmaMoved to_memory(unsigned channel, std::span<const std::uint8_t> data);
  DmaMoved from_memory(unsigned channel, std::span<std::uint8_t> data);

 private:
  enum class Transfer : std::uint8_t { Verify = 0, ToMemory = 1, FromMemory = 2 };
  struct Channel {
    std::uint16_t base_address = 0, base_count = 0, address = 0, count = 0;
    std::uint8_t mode = 0;
    std::uint8_t page = 0;
    Transfer transfer() const { return static_cast<Transfer>(mode >> 2 & 3); }
  };
  struct Chip final : machine::ByteDevice {
    explicit Chip(IsaDma& owner, unsigned shift_in) : dma(owner), shift(shift_in) {}
    std::uint8_t read_byte(unsigned offset) override;
    void write_byte(unsigned offset, std::uint8_t value) override;
    void save(machine::SnapshotWriter& out) const override;
    void restore(machine::SnapshotReader& in) override;
    void reset() override;
    void clear();

    IsaDma& dma;
    unsigned shift;  ///< of port numbers and of addresses
    std::array<Channel, 4> channels;
    std::uint8_t command = 0, status = 0, mask = 0xf;
    bool high_byte = false;
  };
  struct Pages final : machine::ByteDevice {
    explicit Pages(IsaDma& owner) : dma(owner) {}
    std::uint8_t read_byte(unsigned offset) override;
    void write_byte(unsigned offset, std::uint8_t value) override;
    void save(machine::SnapshotWriter& out) const override;
    void restore(machine::SnapshotReader& in) override;
    void reset() override { spare = {}; }
    IsaDma& dma;
    std::array<std::uint8_t, 16> spare{};  ///< registers without a channel
  };
  /// The channel whose page register stands at 80h + index, or null.
  Channel* with_page(unsigned index);
  void reset();
  template <typename Move>
  DmaMoved move(unsigned channel, std::size_t bytes, Transfer wanted, Move one);

  machine::GuestMemory& memory_;
  std::array<Chip, 2> chips_{{Chip{*this, 0}, Chip{*this, 1}}};
  Pages pages_{*this};
};

}  // namespace veneer::devices
