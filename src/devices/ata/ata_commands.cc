// ATA commands: what a disk does, and the part that a CD-ROM has of them.
#include <algorithm>
#include <cstring>

#include "devices/ata/ata_drive.h"

namespace veneer::devices {

using namespace ata;

namespace {

enum Command : std::uint8_t {
  DATA_SET_MANAGEMENT = 0x06,
  READ_SECTORS = 0x20,
  READ_SECTORS_OLD = 0x21,
  READ_SECTORS_EXT = 0x24,
  READ_DMA_EXT = 0x25,
  READ_NATIVE_MAX_EXT = 0x27,
  READ_MULTIPLE_EXT = 0x29,
  READ_LOG_EXT = 0x2f,
  WRITE_SECTORS = 0x30,
  WRITE_SECTORS_OLD = 0x31,
  WRITE_SECTORS_EXT = 0x34,
  WRITE_DMA_EXT = 0x35,
  WRITE_MULTIPLE_EXT = 0x39,
  WRITE_DMA_FUA_EXT = 0x3d,
  READ_VERIFY = 0x40,
  READ_VERIFY_OLD = 0x41,
  READ_VERIFY_EXT = 0x42,
  READ_LOG_DMA_EXT = 0x47,
  READ_FPDMA_QUEUED = 0x60,
  WRITE_FPDMA_QUEUED = 0x61,
  INITIALIZE_PARAMETERS = 0x91,
  PACKET = 0xa0,
  IDENTIFY_PACKET = 0xa1,
  READ_MULTIPLE = 0xc4,
  WRITE_MULTIPLE = 0xc5,
  SET_MULTIPLE = 0xc6,
  READ_DMA = 0xc8,
  READ_DMA_OLD = 0xc9,
  WRITE_DMA = 0xca,
  WRITE_DMA_OLD = 0xcb,
  STANDBY_NOW = 0xe0,
  IDLE_NOW = 0xe1,
  STANDBY = 0xe2,
  IDLE = 0xe3,
  CHECK_POWER = 0xe5,
  SLEEP = 0xe6,
  FLUSH_CACHE = 0xe7,
  FLUSH_CACHE_EXT = 0xea,
  IDENTIFY = 0xec,
  SET_FEATURES = 0xef,
  READ_NATIVE_MAX = 0xf8,
};

constexpr std::uint8_t FORCE_UNIT_ACCESS = 0x80;  // device register of queued commands
constexpr std::uint8_t no_queued_error = 0x80;    // NQ: the error was not one of a queued command
constexpr std::uint8_t LOG_DIRECTORY = 0x00, LOG_QUEUED_ERROR = 0x10;

AtaAction done() { return {}; }
AtaAction failed(std::uint8_t error) { return {.kind = AtaAction::Kind::Failed, .error = error}; }

}  // namespace

void AtaDrive::attach(AtaDriveKind kind, disk::Backend& backend) {
  kind_ = kind;
  backend_ = &backend;
}

void AtaDrive::set_signature(TaskFile& registers) const {
  const bool packet = kind_ == AtaDriveKind::Cdrom;
  registers.count[0] = registers.low[0] = 1;
  registers.mid[0] = packet ? 0x14 : 0;
  registers.high[0] = packet ? 0xeb : 0;
}

AtaAction AtaDrive::execute(std::uint8_t command, TaskFile& registers) {
  return kind_ == AtaDriveKind::Cdrom ? cdrom_command(command, registers) : disk_command(command, registers);
}

AtaAction AtaDrive::failure(disk::IoStatus status) {
  if (kind_ == AtaDriveKind::Cdrom) return packet_failure(SENSE_MEDIUM_ERROR, 0x11);  // unrecovered read error
  return failed(status == disk::IoStatus::ReadOnly ? ABRT : UNC);
}

AtaAction AtaDrive::transfer_failure() {
  return kind_ == AtaDriveKind::Cdrom ? packet_failure(SENSE_ABORTED, 0) : failed(ABRT);
}

AtaAction AtaDrive::disk_command(std::uint8_t command, TaskFile& registers) {
  const bool serial = link_ == AtaLink::Serial;
  switch (command) {
    case IDENTIFY:
      return identify_disk();
    case READ_SECTORS:
    case READ_SECTORS_OLD:
    case READ_SECTORS_EXT:
      return transfer(registers, command == READ_SECTORS_EXT, false, false, 1);
    case WRITE_SECTORS:
    case WRITE_SECTORS_OLD:
    case WRITE_SECTORS_EXT:
      return transfer(registers, command == WRITE_SECTORS_EXT, true, false, 1);
    case READ_MULTIPLE:
    case READ_MULTIPLE_EXT:
      return multiple_ ? transfer(registers, command == READ_MULTIPLE_EXT, false, false, multiple_) : failed(ABRT);
    case WRITE_MULTIPLE:
    case WRITE_MULTIPLE_EXT:
      return multiple_ ? transfer(registers, command == WRITE_MULTIPLE_EXT, true, false, multiple_) : failed(ABRT);
    case READ_DMA:
    case READ_DMA_OLD:
    case READ_DMA_EXT:
      return transfer(registers, command == READ_DMA_EXT, false, true, 1);
    case WRITE_DMA:
    case WRITE_DMA_OLD:
    case WRITE_DMA_EXT:
      return transfer(registers, command == WRITE_DMA_EXT, true, true, 1);
    case WRITE_DMA_FUA_EXT: {
      if (!serial) return failed(ABRT);
      AtaAction action = transfer(registers, true, true, true, 1);
      action.force_media = true;
      return action;
    }
    case READ_FPDMA_QUEUED:
    case WRITE_FPDMA_QUEUED:
      return serial ? queued_transfer(registers, command == WRITE_FPDMA_QUEUED) : failed(ABRT);
    case DATA_SET_MANAGEMENT:
      return serial ? trim(registers) : failed(ABRT);
    case READ_LOG_EXT:
    case READ_LOG_DMA_EXT:
      return serial ? read_log(registers, command == READ_LOG_DMA_EXT) : failed(ABRT);
    case READ_VERIFY:
    case READ_VERIFY_OLD:
    case READ_VERIFY_EXT: {
      std::uint64_t sector = 0, count = 0;
      return take_address(registers, command == READ_VERIFY_EXT, sector, count) ? done() : failed(IDNF);
    }
    case SET_MULTIPLE: {
      const std::uint8_t wanted = registers.count[0];
      if (wanted > multiple_max || (wanted & (wanted - 1))) return failed(ABRT);
      multiple_ = wanted;
      return done();
    }
    case READ_NATIVE_MAX:
    case READ_NATIVE_MAX_EXT: {
      std::uint64_t last = backend_->size_bytes() / sector_bytes - 1;
      if (command == READ_NATIVE_MAX) last = std::min<std::uint64_t>(last, 0x0fff'ffff);
      registers.low[0] = static_cast<std::uint8_t>(last);
      registers.mid[0] = static_cast<std::uint8_t>(last >> 8);
      registers.high[0] = static_cast<std::uint8_t>(last >> 16);
      if (command == READ_NATIVE_MAX) {
        registers.device = static_cast<std::uint8_t>((registers.device & 0xf0) | ((last >> 24) & 0xf));
      } else {
        registers.low[1] = static_cast<std::uint8_t>(last >> 24);
        registers.mid[1] = static_cast<std::uint8_t>(last >> 32);
        registers.high[1] = static_cast<std::uint8_t>(last >> 40);
      }
      return done();
    }
    case FLUSH_CACHE:
    case FLUSH_CACHE_EXT:
      return {.kind = AtaAction::Kind::Flush};
    case CHECK_POWER:
      registers.count[0] = 0xff;  // active
      return done();
    case SET_FEATURES:
      return set_features(registers);
    case INITIALIZE_PARAMETERS:
    case STANDBY_NOW:
    case IDLE_NOW:
    case STANDBY:
    case IDLE:
    case SLEEP:
      return done();
    default:
      // Recalibrate and seek, in sixteen encodings each; what they do is done.
      if ((command & 0xf0) == 0x10 || (command & 0xf0) == 0x70) return done();
      return failed(ABRT);
  }
}

AtaAction AtaDrive::cdrom_command(std::uint8_t command, TaskFile& registers) {
  switch (command) {
    case PACKET:
      return {.kind = AtaAction::Kind::Packet};
    case IDENTIFY_PACKET:
      return identify_cdrom();
    case IDENTIFY:
    case READ_SECTORS:
      // So that software finds out what this is (ATA-6 9.12).
      set_signature(registers);
      return failed(ABRT);
    case SET_FEATURES:
      return set_features(registers);
    case STANDBY_NOW:
    case IDLE_NOW:
    case CHECK_POWER:
    case SLEEP:
      return done();
    default:
      return failed(ABRT);
  }
}

AtaAction AtaDrive::set_features(const TaskFile& registers) {
  constexpr std::uint8_t SET_TRANSFER_MODE = 0x03;
  switch (registers.features[0]) {
    case SET_TRANSFER_MODE:
      transfer_mode_ = registers.count[0];
      return done();
    case 0x02:  // write cache on
    case 0x82:  // off: flushing is the backend's
    case 0x55:  // read look-ahead off
    case 0xaa:  // on
    case 0x66:  // keep settings over a reset
    case 0xcc:  // or not
      return done();
    default:
      return failed(ABRT);
  }
}

bool AtaDrive::on_disk(std::uint64_t sector, std::uint64_t count) const {
  const std::uint64_t sectors = backend_->size_bytes() / sector_bytes;
  return sector < sectors && count <= sectors - sector;
}

/// Sector and count of the command; false when they are not on the disk.
bool AtaDrive::take_address(const TaskFile& registers, bool wide, std::uint64_t& sector, std::uint64_t& count) const {
  const unsigned device = registers.device & 0xfu;
  if (wide) {
    count = registers.count16() ? registers.count16() : 0x1'0000u;
    sector = registers.address48();
  } else {
    count = registers.count[0] ? registers.count[0] : 256u;
    const std::uint64_t cylinder = registers.mid[0] | (std::uint64_t{registers.high[0]} << 8);
    if (registers.device & LBA) {
      sector = registers.low[0] | cylinder << 8 | std::uint64_t{device} << 24;
    } else {
      if (registers.low[0] == 0 || registers.low[0] > sectors_per_track) return false;
      sector = (cylinder * heads + device) * sectors_per_track + registers.low[0] - 1;
    }
  }
  return on_disk(sector, count);
}

AtaAction AtaDrive::transfer(const TaskFile& registers, bool wide, bool write, bool dma, unsigned block_sectors) {
  std::uint64_t sector = 0, count = 0;
  if (!take_address(registers, wide, sector, count)) return failed(IDNF);
  if (write && backend_->read_only()) return failed(ABRT);
  return {.kind = write ? AtaAction::Kind::Write : AtaAction::Kind::Read,
          .dma = dma,
          .block_bytes = block_sectors * sector_bytes,
          .offset = sector * sector_bytes,
          .bytes = count * sector_bytes};
}

/// ATA8-ACS 7.25, 7.68: the count of sectors is where other commands have their features.
AtaAction AtaDrive::queued_transfer(const TaskFile& registers, bool write) {
  const std::uint64_t sector = registers.address48();
  const std::uint64_t count = registers.features16() ? registers.features16() : 0x1'0000u;
  AtaAction action = failed(!on_disk(sector, count) ? IDNF : ABRT);
  action.queued = true;
  if (!on_disk(sector, count) || (write && backend_->read_only())) return action;
  action.kind = write ? AtaAction::Kind::Write : AtaAction::Kind::Read;
  action.dma = true;
  action.force_media = (registers.device & FORCE_UNIT_ACCESS) != 0;
  action.offset = sector * sector_bytes;
  action.bytes = count * sector_bytes;
  return action;
}

/// ATA8-ACS 7.8.
AtaAction AtaDrive::trim(const TaskFile& registers) {
  constexpr std::uint8_t TRIM = 0x01;
  const unsigned blocks = registers.count16();
  if (registers.features[0] != TRIM || blocks == 0 || blocks > trim_blocks_max || backend_->read_only())
    return failed(ABRT);
  return {.kind = AtaAction::Kind::Trim, .dma = true, .bytes = blocks * sector_bytes};
}

bool AtaDrive::trim_range(std::uint64_t entry, std::uint64_t& offset, std::uint64_t& bytes) const {
  const std::uint64_t sector = entry & 0xffff'ffff'ffff, count = entry >> 48;
  offset = sector * sector_bytes;
  bytes = count * sector_bytes;
  return count == 0 || on_disk(sector, count);
}

void AtaDrive::note_queued_error(unsigned tag, std::uint8_t error, const TaskFile& registers) {
  queued_error_ = {static_cast<std::uint8_t>(tag),
                   0,
                   static_cast<std::uint8_t>(DRDY | ERR),
                   error,
                   registers.low[0],
                   registers.mid[0],
                   registers.high[0],
                   registers.device,
                   registers.low[1],
                   registers.mid[1],
                   registers.high[1],
                   0,
                   registers.count[0],
                   registers.count[1]};
  unsigned sum = 0;
  for (const std::uint8_t byte : queued_error_) sum += byte;
  queued_error_.back() = static_cast<std::uint8_t>(-sum);  // the bytes of the page add up to zero
}

/// ATA8-ACS 7.24: the log in LBA bits 7 to 0, its first page in mid. One page is all that a log has here.
AtaAction AtaDrive::read_log(const TaskFile& registers, bool dma) {
  if (registers.count16() != 1 || registers.mid[0] != 0 || registers.mid[1] != 0) return failed(ABRT);
  if (registers.low[0] == LOG_DIRECTORY) {
    reply_.fill(0);
    reply_[0] = 1;  // version, then pages of each log, two bytes
    reply_[2 * LOG_QUEUED_ERROR] = 1;
  } else if (registers.low[0] == LOG_QUEUED_ERROR) {
    reply_ = queued_error_;
    queued_error_.fill(0);
    queued_error_[0] = no_queued_error;
    queued_error_.back() = static_cast<std::uint8_t>(-no_queued_error);
  } else {
    return failed(ABRT);
  }
  return {.kind = AtaAction::Kind::Reply, .dma = dma, .block_bytes = sector_bytes, .reply = reply_};
}

void AtaDrive::reset() {
  multiple_ = 0;
  transfer_mode_ = 0x45;
  sense_key_ = sense_code_ = 0;
  queued_error_.fill(0);
}

void AtaDrive::save(machine::SnapshotWriter& out) const {
  for (const std::uint8_t value : {multiple_, transfer_mode_, sense_key_, sense_code_}) out.put(value);
  if (link_ == AtaLink::Serial) out.put(queued_error_);
}

void AtaDrive::restore(machine::SnapshotReader& in) {
  for (std::uint8_t* value : {&multiple_, &transfer_mode_, &sense_key_, &sense_code_}) in.get(*value);
  if (link_ == AtaLink::Serial) in.get(queued_error_);
}

}  // namespace veneer::devices
