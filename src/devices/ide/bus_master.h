// The bus master half of an IDE channel: moves data between the drive's buffer and guest memory.
//
// State: registers, and the place in the table of descriptors.
// Missing: nothing. Differs from the spec: the table is read while the transfer runs, not ahead.
// Spec: Programming Interface for Bus Master IDE Controller, revision 1.0; 82371SB (PIIX3) 2.7.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "machine/byte_device.h"
#include "machine/dma_space.h"

namespace veneer::devices {

/// Eight ports: command 0, status 2, table address 4 to 7.
class BusMaster {
 public:
  explicit BusMaster(const machine::DmaSpace& memory) : memory_(memory) {}

  /// Called when the guest sets the start bit.
  void set_start_listener(std::function<void()> listener) { started_ = std::move(listener); }

  bool active() const { return (status_ & ACTIVE) != 0; }
  /// Data to or from guest memory where the table says, continuing behind the last call. False (and the error bit set)
  /// when the table ends before the data, or leads to where no RAM is.
  bool to_memory(std::span<const std::uint8_t> data);
  bool from_memory(std::span<std::uint8_t> data);
  /// The transfer is over.
  void finish() { status_ = static_cast<std::uint8_t>(status_ & ~ACTIVE); }
  void note_interrupt() { status_ |= INTERRUPT; }

  std::uint8_t read(unsigned offset) const;
  void write(unsigned offset, std::uint8_t value);
  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);
  void reset();

 private:
  enum Status : std::uint8_t { ACTIVE = 1, ERROR = 2, INTERRUPT = 4, DRIVE_BITS = 0x60 };
  enum Command : std::uint8_t { START = 1, TO_MEMORY = 8 };
  template <typename Move>
  bool transfer(std::size_t bytes, Move move);
  bool next_entry();

  machine::DmaSpace memory_;
  std::function<void()> started_;
  std::uint8_t command_ = 0, status_ = 0;
  std::uint32_t table_ = 0;
  std::uint32_t entry_ = 0;    ///< address of the next descriptor
  std::uint32_t address_ = 0;  ///< of the current one: where to go on
  std::uint32_t left_ = 0;     ///< and how far
  bool last_ = false;
};

}  // namespace veneer::devices
