// The floppy disk controller with up to two drives.
//
// State: registers, drives' tracks, the command in progress with its parameters and results.
// Missing: non-DMA transfers (they end with an overrun), SCAN commands, tape, the PS/2 status registers A and B.
// Differs from the spec: heads move and data flows at once; deleted data marks are not kept (WRITE DELETED DATA writes,
//   READ DELETED DATA reads what is there); a sector has 512 bytes always; what an image is too short for reads as
//   zeros and cannot be written.
// Spec: Intel 82077AA data sheet 290166-007.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/floppy/floppy_format.h"
#include "devices/legacy/isa_dma.h"
#include "disk/io/backend.h"
#include "machine/byte_device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Six ports at 3F0h, and one at 3F7h through change_port().
class FloppyController final : public machine::ByteDevice {
 public:
  static constexpr unsigned dma_channel = 2;
  static constexpr unsigned drive_count = 2;

  FloppyController(machine::IrqLine& irq6, IsaDma& dma);

  /// While the machine is put together. The backend has one of the sizes in floppy_formats.
  void attach(unsigned index, disk::Backend& backend);
  machine::Device& change_port() { return change_; }

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 protected:
  std::uint8_t read_byte(unsigned offset) override;
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  static constexpr std::size_t sector_bytes = 512;
  enum class Phase : std::uint8_t { Command, Execution, Result };

  struct Drive {
    disk::Backend* backend = nullptr;
    const FloppyFormat* format = nullptr;
    std::uint8_t track = 0;
    bool changed = true;
  };
  struct ChangePort final : machine::ByteDevice {
    explicit ChangePort(FloppyController& owner) : controller(owner) {}
    std::uint8_t read_byte(unsigned) override { return controller.digital_input(); }
    void write_byte(unsigned, std::uint8_t value) override { controller.rate_ = value & 3; }
    void save(machine::SnapshotWriter&) const override {}
    void restore(machine::SnapshotReader&) override {}
    void reset() override {}
    FloppyController& controller;
  };

  // Registers
  std::uint8_t main_status() const;
  std::uint8_t digital_input() const;
  void write_digital_output(std::uint8_t value);
  void soft_reset();
  void write_fifo(std::uint8_t value);
  std::uint8_t read_fifo();
  void interrupt(bool level);

  // Commands
  void execute();
  void finish(std::span<const std::uint8_t> result, bool with_interrupt);
  void finish(std::initializer_list<std::uint8_t> result, bool with_interrupt) {
    finish(std::span(result.begin(), result.size()), with_interrupt);
  }
  void finish_transfer(std::uint8_t st0, std::uint8_t st1, std::uint8_t st2);
  void sense_interrupt();
  void seek(unsigned drive, unsigned track, std::uint8_t st0);
  void recalibrate();
  void read_id();
  void start_transfer();
  void start_format();
  void next_sector();
  void sector_done(disk::IoStatus status);
  bool advance();
  void format_next();
  void submit(disk::IoKind kind, std::uint64_t offset);
  Drive* drive_of(std::uint8_t select);
  bool readable(const Drive& drive) const;
  std::uint8_t head_and_drive() const { return parameters_[1] & 7; }
  std::uint8_t opcode() const { return parameters_[0] & 0x1f; }

  machine::IrqLine& irq_;
  IsaDma& dma_;
  ChangePort change_{*this};
  std::array<Drive, 4> drives_;

  std::uint8_t digital_output_ = 0, rate_ = 2, tape_ = 0;
  std::uint8_t step_rate_ = 0, head_load_ = 0;            ///< SPECIFY
  std::uint8_t configuration_ = 0, precompensation_ = 0;  ///< CONFIGURE
  std::uint8_t perpendicular_ = 0;
  bool locked_ = false;
  bool interrupt_ = false;
  std::uint8_t reset_senses_ = 0;  ///< drives that have to tell of a reset
  std::uint8_t seek_done_ = 0;     ///< drives whose seek is to be told of, a bit each
  std::array<std::uint8_t, 4> seek_status_{};

  Phase phase_ = Phase::Command;
  std::array<std::uint8_t, 9> parameters_{};  ///< the command byte first
  std::uint8_t parameter_count_ = 0;
  std::array<std::uint8_t, 10> results_{};
  std::uint8_t result_at_ = 0, result_count_ = 0;

  // The transfer in progress: where it is, as its result will say
  std::uint8_t cylinder_ = 0, head_ = 0, record_ = 0;
  std::uint32_t generation_ = 0;   ///< answers of the backend to older commands count for nothing
  bool ends_ = false;              ///< the DMA's count has run out
  std::vector<std::uint8_t> ids_;  ///< FORMAT TRACK: four bytes for each sector that is left
  std::array<std::uint8_t, sector_bytes> sector_{};
};

}  // namespace veneer::devices
