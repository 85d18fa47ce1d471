// One channel of an IDE controller with up to two drives: disks and CD-ROMs.
//
// State: task file, drives' settings, the transfer in progress with its data.
// Missing: tagged queues, overlapped commands.
// Differs from the spec: both drives share one task file, as software that selects a drive first cannot tell.
// Spec: ATA/ATAPI-6 (T13 1410D); MMC-3 for the CD-ROM's packets.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "devices/ata/ata_drive.h"
#include "devices/ide/bus_master.h"
#include "machine/device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

class IdeChannel final : public machine::Device {
 public:
  IdeChannel(machine::IrqLine& irq, const machine::DmaSpace& memory);

  /// While the machine is put together; `index` 0 is the master.
  void attach(unsigned index, AtaDriveKind kind, disk::Backend& backend);
  BusMaster& bus_master() { return bus_master_; }
  /// The one port of the control block, which has no state of its own.
  machine::Device& control_port() { return control_; }

  // The command block's eight ports.
  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  static constexpr std::size_t buffer_bytes = 64 * KiB;
  struct Control final : machine::ByteDevice {
    explicit Control(IdeChannel& owner) : channel(owner) {}
    std::uint8_t read_byte(unsigned) override { return channel.selected_status(); }
    void write_byte(unsigned, std::uint8_t value) override { channel.write_control(value); }
    void save(machine::SnapshotWriter&) const override {}
    void restore(machine::SnapshotReader&) override {}
    void reset() override {}
    IdeChannel& channel;
  };
  /// Where the data of the command in progress goes.
  enum class Mode : std::uint8_t { None, PioIn, PioOut, DmaIn, DmaOut, Packet, count };

  AtaDrive& drive() { return drives_[(registers_.device >> 4) & 1]; }
  const AtaDrive& drive() const { return drives_[(registers_.device >> 4) & 1]; }
  bool present() const { return drive().present(); }
  bool is_cdrom() const { return drive().kind() == AtaDriveKind::Cdrom; }

  // Registers
  std::uint8_t selected_status() const { return present() ? status_ : 0; }
  std::uint8_t read_register(unsigned offset);
  void write_register(unsigned offset, std::uint8_t value);
  void write_control(std::uint8_t value);
  std::uint64_t read_data(unsigned size_bytes);
  void write_data(unsigned size_bytes, std::uint64_t value);
  void set_signature();
  void raise();
  void lower();
  void update_line();

  // Commands
  void command(std::uint8_t value);
  void perform(const AtaAction& action);
  void perform_packet();
  void succeed();
  void abort(std::uint8_t error);
  void fail(const AtaAction& failure);
  void packet_done();
  void flush();
  void take_reply(const AtaAction& action);
  void take_range(const AtaAction& action);

  // Transfers
  void start_in(Mode mode, std::size_t block_bytes);
  void start_out(Mode mode, std::size_t block_bytes);
  void fetch();
  void store(std::size_t bytes);
  void ask_disk(disk::IoKind kind, std::size_t bytes);
  void advance();
  void disk_done(disk::IoStatus status, bool write, std::size_t bytes);
  void next_block_in();
  void next_block_out();
  void pump_dma();
  void finish_transfer();
  void drop_transfer();

  machine::IrqLine& irq_;
  BusMaster bus_master_;
  Control control_{*this};
  std::array<AtaDrive, 2> drives_{AtaDrive(AtaLink::Parallel), AtaDrive(AtaLink::Parallel)};

  TaskFile registers_;
  std::uint8_t status_ = 0, error_ = 0, device_control_ = 0;
  bool interrupt_ = false;

  Mode mode_ = Mode::None;
  bool waiting_ = false;          ///< for the backend
  bool piece_done_ = false;       ///< the backend has answered, and advance() is to follow
  bool advancing_ = false;        ///< inside advance()
  std::uint32_t generation_ = 0;  ///< answers of the backend to older commands count for nothing
  std::vector<std::uint8_t> buffer_;
  std::size_t position_ = 0, end_ = 0;  ///< data in the buffer that is still to be moved
  std::size_t block_end_ = 0;           ///< of the DRQ block
  std::size_t block_bytes_ = 0;
  std::uint64_t disk_offset_ = 0, disk_left_ = 0;  ///< what the backend has still to read or write
};

}  // namespace veneer::devices
