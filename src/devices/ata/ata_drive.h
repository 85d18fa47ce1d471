// A disk or CD-ROM drive with ATA commands: what a command means, whoever brings it. How data gets to guest memory and
// how the guest hears of the end is the host adapter's part (IDE, AHCI).
//
// State: settings of the drive, sense data, the newest error of a queued command.
// Missing: SMART, security, host protected areas; CD audio and raw sectors.
// Differs from the spec: nothing known.
// Spec: ATA/ATAPI-6 (T13 1410D), ATA8-ACS (T13 1699D) for queued commands, TRIM and logs; MMC-3 for the CD-ROM.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "devices/ata/ata.h"
#include "disk/io/backend.h"
#include "machine/snapshot.h"

namespace veneer::devices {

enum class AtaDriveKind : std::uint8_t { None, Disk, Cdrom };

/// The cable: a serial one brings queued commands, TRIM and logs.
enum class AtaLink : std::uint8_t { Parallel, Serial };

/// What the host adapter has to do for a command.
struct AtaAction {
  enum class Kind : std::uint8_t {
    Done,    ///< nothing, it is over
    Failed,  ///< tell of `error`
    Reply,   ///< `reply` to the host
    Read,    ///< `bytes` of the disk from `offset` on to the host
    Write,   ///< and from there
    Flush,
    Trim,    ///< `bytes` from the host: ranges for trim_range()
    Packet,  ///< take a packet, and ask packet()
  };
  Kind kind = Kind::Done;
  std::uint8_t error = 0;
  bool dma = false;          ///< Read, Write: else data goes in blocks, by PIO
  bool queued = false;       ///< Read, Write: others may run beside it
  bool force_media = false;  ///< Write: done when it is on stable storage
  std::size_t block_bytes = 0;
  std::uint64_t offset = 0, bytes = 0;
  std::span<const std::uint8_t> reply{};  ///< valid until the drive's next command
};

/// All calls with the board lock held.
class AtaDrive {
 public:
  static constexpr std::size_t sector_bytes = 512, cd_sector_bytes = 2048;
  static constexpr std::size_t packet_bytes = 12;
  static constexpr unsigned queue_depth = 32;
  static constexpr unsigned trim_blocks_max = 8;
  static constexpr unsigned multiple_max = 16;  ///< sectors of a block of READ MULTIPLE

  explicit AtaDrive(AtaLink link) : link_(link) {}
  /// Once, while the machine is put together.
  void attach(AtaDriveKind kind, disk::Backend& backend);

  AtaDriveKind kind() const { return kind_; }
  bool present() const { return kind_ != AtaDriveKind::None; }
  /// Only of a drive that is present.
  disk::Backend& backend() const { return *backend_; }

  /// A command other than the resets. May change registers, as some answer there.
  AtaAction execute(std::uint8_t command, TaskFile& registers);
  /// A packet that PACKET has asked for.
  AtaAction packet(std::span<const std::uint8_t, packet_bytes> packet);
  /// What the guest is told when the disk behind has failed,
  AtaAction failure(disk::IoStatus status);
  /// and when the host adapter could not move the data.
  AtaAction transfer_failure();

  /// One range of TRIM (ATA8-ACS 7.8.5); false when it is not on the disk. `bytes` 0: nothing to do.
  bool trim_range(std::uint64_t entry, std::uint64_t& offset, std::uint64_t& bytes) const;
  /// A queued command has failed: what log page 10h says of it until it is read (ATA8-ACS A.12).
  void note_queued_error(unsigned tag, std::uint8_t error, const TaskFile& registers);

  /// What registers and status show after a reset (ATA-6 9.12).
  void set_signature(TaskFile& registers) const;
  std::uint8_t status_after_reset() const { return kind_ == AtaDriveKind::Cdrom ? 0 : ata::DRDY | ata::DSC; }
  /// A software reset, which keeps the transfer mode.
  void soft_reset() { multiple_ = 0; }
  void reset();

  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);

 private:
  static constexpr unsigned heads = 16, sectors_per_track = 63;
  class Words;

  AtaAction disk_command(std::uint8_t command, TaskFile& registers);
  AtaAction cdrom_command(std::uint8_t command, TaskFile& registers);
  AtaAction transfer(const TaskFile& registers, bool wide, bool write, bool dma, unsigned block_sectors);
  AtaAction queued_transfer(const TaskFile& registers, bool write);
  AtaAction trim(const TaskFile& registers);
  AtaAction read_log(const TaskFile& registers, bool dma);
  AtaAction set_features(const TaskFile& registers);
  bool take_address(const TaskFile& registers, bool wide, std::uint64_t& sector, std::uint64_t& count) const;
  bool on_disk(std::uint64_t sector, std::uint64_t count) const;

  // ata_identify.cc
  AtaAction identify_disk();
  AtaAction identify_cdrom();
  void put_modes(Words& id) const;

  // atapi_commands.cc
  AtaAction reply(std::span<const std::uint8_t> data, std::size_t limit);
  AtaAction read_disc(std::uint64_t sector, std::uint64_t count);
  AtaAction packet_failure(std::uint8_t key, std::uint8_t code);
  AtaAction read_toc(std::span<const std::uint8_t, packet_bytes> packet);
  AtaAction mode_sense(unsigned page, unsigned header_bytes, std::size_t limit);
  std::uint64_t disc_sectors() const { return backend_->size_bytes() / cd_sector_bytes; }

  const AtaLink link_;
  AtaDriveKind kind_ = AtaDriveKind::None;
  disk::Backend* backend_ = nullptr;
  std::uint8_t multiple_ = 0;          // sectors in a block of READ MULTIPLE; 0: not set
  std::uint8_t transfer_mode_ = 0x45;  // as SET FEATURES has it: ultra DMA 5
  std::uint8_t sense_key_ = 0, sense_code_ = 0;
  std::array<std::uint8_t, sector_bytes> queued_error_{};  // log page 10h
  std::array<std::uint8_t, sector_bytes> reply_{};         // scratch
};

}  // namespace veneer::devices
