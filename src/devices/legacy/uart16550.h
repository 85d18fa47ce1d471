// A 16550A serial port.
//
// State: all registers, both FIFO contents (the transmitter's is always empty), pending interrupt conditions.
// Missing: DMA modes (RXRDY/TXRDY pins); parity, framing and break errors never happen.
// Differs from the spec: no baud rate, so a byte is sent when it is written, and the receive time-out is immediate.
//   The interrupt is gated with OUT2, as on PC serial cards.
// Spec: National Semiconductor PC16550D data sheet (June 1995).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "machine/byte_device.h"
#include "machine/char_sink.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Eight ports.
class Uart16550 final : public machine::ByteDevice {
 public:
  static constexpr std::size_t fifo_bytes = 16;

  Uart16550(machine::IrqLine& irq, machine::CharSink& out) : irq_(irq), out_(out) {}

  /// Bytes from the host. Those beyond receive_room() are lost and set the overrun bit, as on the wire.
  void receive(std::span<const std::uint8_t> data);
  /// How many bytes the guest's receiver can take now.
  std::size_t receive_room() const;
  /// Called when room appears after the receiver was full.
  void set_room_callback(std::function<void()> callback) { room_callback_ = std::move(callback); }

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 protected:
  std::uint8_t read_byte(unsigned offset) override;
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  bool fifo_enabled() const { return (fcr_ & 1) != 0; }
  bool loopback() const { return (mcr_ & 0x10) != 0; }
  std::size_t capacity() const { return fifo_enabled() ? fifo_bytes : 1; }
  std::size_t trigger_level() const;
  std::uint8_t interrupt_identification() const;
  std::uint8_t read_iir();
  std::uint8_t read_rbr();
  std::uint8_t read_lsr();
  std::uint8_t read_msr();
  void write_thr(std::uint8_t value);
  void write_fcr(std::uint8_t value);
  void write_ier(std::uint8_t value);
  void write_mcr(std::uint8_t value);
  void push_received(std::uint8_t value);
  void clear_receiver();
  void set_modem_lines();
  void update();

  machine::IrqLine& irq_;
  machine::CharSink& out_;
  std::function<void()> room_callback_;

  std::array<std::uint8_t, fifo_bytes> fifo_{};
  std::uint8_t fifo_head_ = 0, fifo_count_ = 0;
  std::uint16_t divisor_ = 0;
  std::uint8_t ier_ = 0, fcr_ = 0, lcr_ = 0, mcr_ = 0, scr_ = 0;
  std::uint8_t lsr_errors_ = 0;         ///< OE, until LSR is read
  std::uint8_t msr_ = 0xb0;             ///< DCD, DSR, CTS: someone is connected
  bool transmitter_empty_irq_ = false;  ///< the THRE condition, until IIR is read or THR written
};

}  // namespace veneer::devices
