// ATA commands: what a disk does, and the part that a CD-ROM has of them.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "devices/ide/ata.h"
#include "devices/ide/ide_channel.h"

namespace veneer::devices {

using namespace ata;

namespace {

enum Command : std::uint8_t {
  DEVICE_RESET = 0x08,
  READ_SECTORS = 0x20,
  READ_SECTORS_OLD = 0x21,
  READ_SECTORS_EXT = 0x24,
  READ_DMA_EXT = 0x25,
  READ_NATIVE_MAX_EXT = 0x27,
  READ_MULTIPLE_EXT = 0x29,
  WRITE_SECTORS = 0x30,
  WRITE_SECTORS_OLD = 0x31,
  WRITE_SECTORS_EXT = 0x34,
  WRITE_DMA_EXT = 0x35,
  WRITE_MULTIPLE_EXT = 0x39,
  READ_VERIFY = 0x40,
  READ_VERIFY_OLD = 0x41,
  READ_VERIFY_EXT = 0x42,
  EXECUTE_DIAGNOSTIC = 0x90,
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

constexpr unsigned most_multiple = 16;

/// 256 words of identification, as ATA numbers them.
class Words {
 public:
  std::uint16_t& operator[](unsigned index) { return words_[index]; }
  /// ASCII, padded with spaces, two characters in a word, the first one high.
  void text(unsigned first, unsigned words, std::string_view value) {
    for (unsigned i = 0; i < 2 * words; ++i) {
      const auto c = static_cast<unsigned char>(i < value.size() ? value[i] : ' ');
      std::uint16_t& word = words_[first + i / 2];
      word = static_cast<std::uint16_t>(i % 2 ? word | c : c << 8);
    }
  }
  const std::array<std::uint16_t, 256>& all() const { return words_; }

 private:
  std::array<std::uint16_t, 256> words_{};
};

/// Transfer modes: which there are, and with a bit in the high byte the one that is set.
void put_modes(Words& id, std::uint8_t mode) {
  const auto selected = [mode](unsigned kind) {
    return static_cast<std::uint16_t>(mode >> 3 == kind ? 0x100u << (mode & 7) : 0u);
  };
  id[63] = static_cast<std::uint16_t>(0x0007 | selected(4));
  id[88] = static_cast<std::uint16_t>(0x003f | selected(8));
  id[64] = 3;                                       // PIO 3 and 4
  for (unsigned i = 65; i <= 68; ++i) id[i] = 120;  // cycle times, ns
}

}  // namespace

void IdeChannel::succeed() {
  mode_ = Mode::None;
  status_ = DRDY | DSC;
  error_ = 0;
  raise();
}

void IdeChannel::abort(std::uint8_t error) {
  mode_ = Mode::None;
  position_ = end_ = block_end_ = 0;
  disk_left_ = 0;
  status_ = DRDY | DSC | ERR;
  error_ = error;
  raise();
}

void IdeChannel::command(std::uint8_t value) {
  if (!present()) return;
  lower();
  if (value == DEVICE_RESET && drive().kind == IdeDriveKind::Cdrom) {
    drop_transfer();
    return set_signature();
  }
  if (status_ & (BSY | DRQ)) return;
  error_ = 0;
  if (value == EXECUTE_DIAGNOSTIC) {
    device_ = 0;
    set_signature();
    return raise();
  }
  if (drive().kind == IdeDriveKind::Cdrom)
    atapi_command(value);
  else
    ata_command(value);
}

void IdeChannel::ata_command(std::uint8_t value) {
  const unsigned multiple = drive().multiple;
  switch (value) {
    case IDENTIFY:
      return identify_disk();
    case READ_SECTORS:
    case READ_SECTORS_OLD:
    case READ_SECTORS_EXT:
      return transfer_sectors(value == READ_SECTORS_EXT, false, false, 1);
    case WRITE_SECTORS:
    case WRITE_SECTORS_OLD:
    case WRITE_SECTORS_EXT:
      return transfer_sectors(value == WRITE_SECTORS_EXT, true, false, 1);
    case READ_MULTIPLE:
    case READ_MULTIPLE_EXT:
      return multiple ? transfer_sectors(value == READ_MULTIPLE_EXT, false, false, multiple) : abort(ABRT);
    case WRITE_MULTIPLE:
    case WRITE_MULTIPLE_EXT:
      return multiple ? transfer_sectors(value == WRITE_MULTIPLE_EXT, true, false, multiple) : abort(ABRT);
    case READ_DMA:
    case READ_DMA_OLD:
    case READ_DMA_EXT:
      return transfer_sectors(value == READ_DMA_EXT, false, true, 1);
    case WRITE_DMA:
    case WRITE_DMA_OLD:
    case WRITE_DMA_EXT:
      return transfer_sectors(value == WRITE_DMA_EXT, true, true, 1);
    case READ_VERIFY:
    case READ_VERIFY_OLD:
    case READ_VERIFY_EXT: {
      std::uint64_t sector = 0, count = 0;
      return take_address(value == READ_VERIFY_EXT, sector, count) ? succeed() : abort(IDNF);
    }
    case SET_MULTIPLE: {
      const std::uint8_t wanted = count_[0];
      if (wanted > most_multiple || (wanted & (wanted - 1))) return abort(ABRT);
      drive().multiple = wanted;
      return succeed();
    }
    case READ_NATIVE_MAX:
    case READ_NATIVE_MAX_EXT: {
      std::uint64_t last = drive().backend->size_bytes() / ata_sector - 1;
      if (value == READ_NATIVE_MAX) last = std::min<std::uint64_t>(last, 0x0fff'ffff);
      low_[0] = static_cast<std::uint8_t>(last);
      mid_[0] = static_cast<std::uint8_t>(last >> 8);
      high_[0] = static_cast<std::uint8_t>(last >> 16);
      if (value == READ_NATIVE_MAX) {
        device_ = static_cast<std::uint8_t>((device_ & 0xf0) | ((last >> 24) & 0xf));
      } else {
        low_[1] = static_cast<std::uint8_t>(last >> 24);
        mid_[1] = static_cast<std::uint8_t>(last >> 32);
        high_[1] = static_cast<std::uint8_t>(last >> 40);
      }
      return succeed();
    }
    case FLUSH_CACHE:
    case FLUSH_CACHE_EXT:
      return flush();
    case CHECK_POWER:
      count_[0] = 0xff;  // active
      return succeed();
    case SET_FEATURES:
      return set_features();
    case INITIALIZE_PARAMETERS:
    case STANDBY_NOW:
    case IDLE_NOW:
    case STANDBY:
    case IDLE:
    case SLEEP:
      return succeed();
    default:
      // Recalibrate and seek, in sixteen encodings each; what they do is done.
      if ((value & 0xf0) == 0x10 || (value & 0xf0) == 0x70) return succeed();
      return abort(ABRT);
  }
}

void IdeChannel::atapi_command(std::uint8_t value) {
  switch (value) {
    case PACKET:
      mode_ = Mode::Packet;
      position_ = 0;
      block_end_ = 12;
      count_[0] = COMMAND_PHASE;
      status_ = DRDY | DSC | DRQ;
      return;
    case IDENTIFY_PACKET:
      return identify_cdrom();
    case IDENTIFY:
    case READ_SECTORS:
      // So that software finds out what this is (ATA-6 9.12).
      set_signature();
      return abort(ABRT);
    case SET_FEATURES:
      return set_features();
    case STANDBY_NOW:
    case IDLE_NOW:
    case CHECK_POWER:
    case SLEEP:
      return succeed();
    default:
      return abort(ABRT);
  }
}

void IdeChannel::set_features() {
  constexpr std::uint8_t SET_TRANSFER_MODE = 0x03;
  switch (features_[0]) {
    case SET_TRANSFER_MODE:
      drive().transfer_mode = count_[0];
      return succeed();
    case 0x02:  // write cache on
    case 0x82:  // off: flushing is the backend's
    case 0x55:  // read look-ahead off
    case 0xaa:  // on
    case 0x66:  // keep settings over a reset
    case 0xcc:  // or not
      return succeed();
    default:
      return abort(ABRT);
  }
}

/// Sector and count of the command; false when they are not on the disk.
bool IdeChannel::take_address(bool wide, std::uint64_t& sector, std::uint64_t& count) const {
  if (wide) {
    count = count_[0] | (count_[1] << 8);
    if (count == 0) count = 0x1'0000;
    sector = low_[0] | (std::uint64_t{mid_[0]} << 8) | (std::uint64_t{high_[0]} << 16) |
             (std::uint64_t{low_[1]} << 24) | (std::uint64_t{mid_[1]} << 32) | (std::uint64_t{high_[1]} << 40);
  } else {
    count = count_[0] ? count_[0] : 256u;
    if (device_ & LBA) {
      sector = low_[0] | (std::uint64_t{mid_[0]} << 8) | (std::uint64_t{high_[0]} << 16) |
               (std::uint64_t{device_ & 0xfu} << 24);
    } else {
      const std::uint64_t cylinder = mid_[0] | (std::uint64_t{high_[0]} << 8);
      if (low_[0] == 0 || low_[0] > sectors_per_track) return false;
      sector = (cylinder * heads + (device_ & 0xfu)) * sectors_per_track + low_[0] - 1;
    }
  }
  const std::uint64_t sectors = drive().backend->size_bytes() / ata_sector;
  return sector < sectors && count <= sectors - sector;
}

void IdeChannel::transfer_sectors(bool wide, bool write, bool dma, unsigned block_sectors) {
  std::uint64_t sector = 0, count = 0;
  if (!take_address(wide, sector, count)) return abort(IDNF);
  if (write && drive().backend->read_only()) return abort(ABRT);
  disk_offset_ = sector * ata_sector;
  disk_left_ = count * ata_sector;
  position_ = end_ = 0;
  if (write) return start_out(dma ? Mode::DmaOut : Mode::PioOut, block_sectors * ata_sector);
  start_in(dma ? Mode::DmaIn : Mode::PioIn, block_sectors * ata_sector);
}

void IdeChannel::flush() {
  status_ = BSY;
  waiting_ = true;
  disk::IoRequest request;
  request.kind = disk::IoKind::Flush;
  request.done = [this, generation = generation_](disk::IoStatus status) {
    if (generation != generation_) return;
    waiting_ = false;
    if (status == disk::IoStatus::Ok) return succeed();
    if (status != disk::IoStatus::Cancelled) abort(ABRT);
  };
  drive().backend->submit(std::move(request));
  drive().backend->start();
}

void IdeChannel::identify_disk() {
  const disk::Backend& disk = *drive().backend;
  const std::uint64_t sectors = disk.size_bytes() / ata_sector;
  const std::uint64_t chs = std::min<std::uint64_t>(sectors, 16383u * heads * sectors_per_track);
  const auto cylinders = static_cast<std::uint16_t>(chs / (heads * sectors_per_track));
  const auto small = static_cast<std::uint32_t>(std::min<std::uint64_t>(sectors, 0x0fff'ffff));
  Words id;
  id[0] = 0x0040;
  id[1] = id[54] = cylinders;
  id[3] = id[55] = heads;
  id[6] = id[56] = sectors_per_track;
  id[57] = static_cast<std::uint16_t>(chs);
  id[58] = static_cast<std::uint16_t>(chs >> 16);
  id.text(10, 10, disk.serial());
  id.text(23, 4, "1.0");
  id.text(27, 20, "VENEER HARDDISK");
  id[47] = static_cast<std::uint16_t>(0x8000 | most_multiple);
  id[48] = 1;       // 32-bit data accesses
  id[49] = 0x0b00;  // LBA, DMA, IORDY
  id[50] = 0x4000;
  id[51] = id[52] = 0x0200;
  id[53] = 7;
  if (drive().multiple) id[59] = static_cast<std::uint16_t>(0x100 | drive().multiple);
  id[60] = static_cast<std::uint16_t>(small);
  id[61] = static_cast<std::uint16_t>(small >> 16);
  put_modes(id, drive().transfer_mode);
  id[80] = 0x007e;  // ATA-1 to ATA-6
  id[82] = disk.write_cache() ? 0x4020 : 0x4000;
  id[83] = 0x7400;  // FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses
  id[84] = 0x4000;
  for (unsigned i = 0; i < 3; ++i) id[85 + i] = id[82 + i];
  id[93] = 0x6001;  // 80 conductors
  for (unsigned i = 0; i < 4; ++i) id[100 + i] = static_cast<std::uint16_t>(sectors >> (16 * i));
  id[106] = 0x4000;
  std::memcpy(buffer_.data(), id.all().data(), ata_sector);
  position_ = 0;
  end_ = ata_sector;
  disk_left_ = 0;
  start_in(Mode::PioIn, ata_sector);
}

void IdeChannel::identify_cdrom() {
  Words id;
  id[0] = 0x85c0;  // packet device, CD-ROM, removable, 12-byte packets, DRQ within 50 us
  id.text(10, 10, drive().backend->serial());
  id.text(23, 4, "1.0");
  id.text(27, 20, "VENEER CD-ROM");
  id[48] = 1;
  id[49] = 0x0b00;
  id[53] = 7;
  put_modes(id, drive().transfer_mode);
  id[71] = 30;
  id[72] = 30;
  id[80] = 0x007e;
  id[82] = 0x4214;  // NOP, DEVICE RESET, PACKET, removable
  id[83] = id[84] = 0x4000;
  for (unsigned i = 0; i < 3; ++i) id[85 + i] = id[82 + i];
  id[93] = 0x6001;
  std::memcpy(buffer_.data(), id.all().data(), ata_sector);
  position_ = 0;
  end_ = ata_sector;
  disk_left_ = 0;
  start_in(Mode::PioIn, ata_sector);
}

}  // namespace veneer::devices
