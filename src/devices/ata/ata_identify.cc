// IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA-6 8.15, 8.16; ATA8-ACS 7.16 for what serial drives add).
#include <algorithm>
#include <cstring>
#include <string_view>

#include "devices/ata/ata_drive.h"

namespace veneer::devices {

/// 256 words of identification, as ATA numbers them.
class AtaDrive::Words {
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
void AtaDrive::put_modes(Words& id) const {
  const auto selected = [this](unsigned kind) {
    return static_cast<std::uint16_t>(transfer_mode_ >> 3 == kind ? 0x100u << (transfer_mode_ & 7) : 0u);
  };
  id[63] = static_cast<std::uint16_t>(0x0007 | selected(4));
  id[88] = static_cast<std::uint16_t>(0x003f | selected(8));
  id[64] = 3;                                       // PIO 3 and 4
  for (unsigned i = 65; i <= 68; ++i) id[i] = 120;  // cycle times, ns
}

AtaAction AtaDrive::identify_disk() {
  const disk::Backend& disk = *backend_;
  const std::uint64_t sectors = disk.size_bytes() / sector_bytes;
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
  id[47] = static_cast<std::uint16_t>(0x8000 | multiple_max);
  id[48] = 1;       // 32-bit data accesses
  id[49] = 0x0b00;  // LBA, DMA, IORDY
  id[50] = 0x4000;
  id[51] = id[52] = 0x0200;
  id[53] = 7;
  if (multiple_) id[59] = static_cast<std::uint16_t>(0x100 | multiple_);
  id[60] = static_cast<std::uint16_t>(small);
  id[61] = static_cast<std::uint16_t>(small >> 16);
  put_modes(id);
  id[80] = 0x007e;  // ATA-1 to ATA-6
  id[82] = disk.write_cache() ? 0x4020 : 0x4000;
  id[83] = 0x7400;  // FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses
  id[84] = 0x4000;
  for (unsigned i = 0; i < 3; ++i) id[85 + i] = id[82 + i];
  if (link_ == AtaLink::Serial) {
    id[69] = 0x4000;  // after a TRIM each read gives the same
    id[75] = queue_depth - 1;
    id[76] = 0x0306;   // queued commands, power management by the host, 1.5 and 3 Gbit/s
    id[80] |= 0x0180;  // and ATA-7, ATA8-ACS
    id[84] |= 0x0060;  // FUA, logs
    id[87] |= 0x0060;
    id[105] = trim_blocks_max;
    id[169] = 1;              // TRIM
    id[217] = 1;              // no platters that turn
    id[222] = 0x1000 | 0x1e;  // a serial transport, SATA 1.0a to 2.6
  } else {
    id[93] = 0x6001;  // 80 conductors
  }
  for (unsigned i = 0; i < 4; ++i) id[100 + i] = static_cast<std::uint16_t>(sectors >> (16 * i));
  id[106] = 0x4000;
  std::memcpy(reply_.data(), id.all().data(), reply_.size());
  return {.kind = AtaAction::Kind::Reply, .block_bytes = sector_bytes, .reply = reply_};
}

AtaAction AtaDrive::identify_cdrom() {
  Words id;
  id[0] = 0x85c0;  // packet device, CD-ROM, removable, 12-byte packets, DRQ within 50 us
  id.text(10, 10, backend_->serial());
  id.text(23, 4, "1.0");
  id.text(27, 20, "VENEER CD-ROM");
  id[48] = 1;
  id[49] = 0x0b00;
  id[53] = 7;
  put_modes(id);
  id[71] = 30;
  id[72] = 30;
  id[80] = 0x007e;
  id[82] = 0x4214;  // NOP, DEVICE RESET, PACKET, removable
  id[83] = id[84] = 0x4000;
  for (unsigned i = 0; i < 3; ++i) id[85 + i] = id[82 + i];
  if (link_ == AtaLink::Serial)
    id[76] = 0x0206;
  else
    id[93] = 0x6001;
  std::memcpy(reply_.data(), id.all().data(), reply_.size());
  return {.kind = AtaAction::Kind::Reply, .block_bytes = sector_bytes, .reply = reply_};
}

}  // namespace veneer::devices
