// A NOR flash chip with a bus of 8 bits, as Intel's: what UEFI firmware keeps its variables in.
//
// State: the contents, what reads show, the command under way, the status register.
// Missing: block locks (their commands are taken without effect), suspend, protection registers, one-time areas.
// Differs from the spec: every command is done when its last write returns. "Clear status" clears the ready bit too,
// until the next command that does something: OVMF tells a flash chip from RAM and ROM by a status of 0.
// Spec: Intel 28F128J3A data sheet 290667, chapters 4 and 6; JEDEC JESD68.01 (CFI), JEP137 (command set 0001h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "machine/device.h"

namespace veneer::devices {

/// What keeps the contents beyond the machine's end. Called with the board lock held.
class FlashStore {
 public:
  virtual ~FlashStore() = default;
  /// These bytes changed. False when they could not be kept: the chip reports a failed operation.
  virtual bool write(std::uint64_t offset, std::span<const std::byte> data) = 0;
  /// A run of changes is over: the chip shows its contents again.
  virtual void settle() = 0;
};

/// While contents are shown, reads go to memory and never come here.
class CfiFlash final : public machine::Device {
 public:
  static constexpr std::uint64_t block_bytes = 4096;  ///< what OVMF erases at a time
  /// `show(true)`: reads of the chip find `contents`; `show(false)`: they come to read(). `contents` are whole blocks
  /// and outlive the chip, as `store` does, which may be null.
  CfiFlash(std::span<std::byte> contents, FlashStore* store, std::function<void(bool)> show);

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  /// What reads show.
  enum class Shows : std::uint8_t { Array, Status, Identifier, Query };
  /// What the next write is.
  enum class Expects : std::uint8_t {
    Command,
    Program,
    EraseConfirm,
    LockSetup,
    BufferCount,
    BufferData,
    BufferConfirm
  };
  /// Status register (data sheet 4.4).
  enum Status : std::uint8_t { READY = 0x80, ERASE_ERROR = 0x20, PROGRAM_ERROR = 0x10 };

  void command(std::uint8_t value);
  void show(Shows what);
  void program(std::uint64_t offset, std::span<const std::byte> data);
  void erase(std::uint64_t offset);
  void fill_buffer(std::uint64_t offset, std::span<const std::byte> data);
  void done(std::uint8_t errors);
  std::uint8_t byte_at(std::uint64_t offset) const;
  std::uint8_t query(std::uint64_t offset) const;

  static constexpr std::size_t buffer_bytes = 32;  // data sheet 4.8
  const std::span<std::byte> contents_;
  FlashStore* const store_;
  const std::function<void(bool)> show_;
  Shows shows_ = Shows::Array;
  Expects expects_ = Expects::Command;
  std::uint8_t status_ = READY;
  std::uint8_t expected_bytes_ = 0;  // of a buffered write, and how many came
  std::uint8_t buffered_bytes_ = 0;
  std::uint64_t buffer_offset_ = 0;
  std::array<std::byte, buffer_bytes> buffer_{};
};

}  // namespace veneer::devices
