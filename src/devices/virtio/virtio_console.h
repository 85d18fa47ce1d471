// The virtio console: one port, a terminal.
//
// State: agreed features, the terminal's size, bytes on their way to the guest.
// Missing: MULTIPORT (ports that are no console, and their control queue).
// Differs from the spec: of one transmitted buffer the first 64 KiB count.
// Spec: Virtio 1.2, 5.3.
//
// Why no MULTIPORT: with it the size of the terminal comes in a control message instead of the configuration, whose two
// fields Linux took in the wrong order for fifteen years and other guests did not. The configuration means one thing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "devices/virtio/virtio_device.h"
#include "machine/char_sink.h"

namespace veneer::devices {

// Feature bits (5.3.3)
inline constexpr unsigned CONSOLE_F_SIZE = 0;
inline constexpr unsigned CONSOLE_F_MULTIPORT = 1;
inline constexpr unsigned CONSOLE_F_EMERG_WRITE = 2;

class VirtioConsole final : public VirtioDevice {
 public:
  static constexpr std::size_t input_bytes_max = 4096;
  static constexpr std::size_t output_bytes_max = 64 * KiB;

  /// `out` outlives it.
  VirtioConsole(const machine::DmaSpace& memory, machine::CharSink& out) : memory_(memory), out_(out) {}

  /// The size of the host's terminal in characters; 0 by 0 while it is not known. Board lock held, as for all below.
  void set_size(std::uint16_t columns, std::uint16_t rows);

  /// Bytes from the host. Those beyond receive_room() are lost.
  void receive(std::span<const std::uint8_t> data);
  /// How many bytes it takes now: none while there is no driver.
  std::size_t receive_room() const { return started_ ? input_bytes_max - input_.size() : 0; }
  /// Called when room appears after there was too little.
  void set_room_callback(std::function<void()> callback) { room_callback_ = std::move(callback); }

  // VirtioDevice
  std::uint16_t type() const override { return VIRTIO_TYPE_CONSOLE; }
  std::uint32_t pci_class() const override { return 0x078000; }  // communication controller, other
  std::uint64_t features() const override;
  unsigned queue_count() const override { return 2; }
  std::uint16_t queue_size_max(unsigned) const override { return 128; }
  std::uint8_t read_config(unsigned offset) override;
  void write_config(unsigned offset, std::uint8_t value) override;
  void start(std::uint64_t features) override;
  void notify(unsigned index, VirtQueue& queue) override;
  void reset() override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;

 private:
  static constexpr unsigned RECEIVE_QUEUE = 0, TRANSMIT_QUEUE = 1;
  void deliver(VirtQueue& queue);
  void transmit(VirtQueue& queue);

  machine::DmaSpace memory_;
  machine::CharSink& out_;
  std::function<void()> room_callback_;
  bool started_ = false;
  std::uint64_t agreed_features_ = 0;
  std::uint16_t columns_ = 0, rows_ = 0;
  bool size_untold_ = false;  // this driver has not been told of the size
  std::deque<std::uint8_t> input_;  // at most input_bytes_max
  std::vector<std::uint8_t> buffer_;
};

}  // namespace veneer::devices
