// A GUID partition table, with the protective MBR in front of it.
#include "image/gpt.h"

#include <zlib.h>

#include <algorithm>
#include <span>

#include "base/assert.h"
#include "image/le.h"

namespace veneer::image {
namespace {

constexpr std::size_t entry_bytes = 128;
constexpr std::size_t entry_count = 128;
constexpr std::size_t entries_sectors = entry_bytes * entry_count / sector_bytes;
constexpr std::size_t header_bytes = 92;
static_assert(gpt_head_sectors == 2 + entries_sectors && gpt_tail_sectors == 1 + entries_sectors);

std::uint32_t crc(std::span<const std::uint8_t> data) {
  return static_cast<std::uint32_t>(::crc32(0, data.data(), static_cast<uInt>(data.size())));
}

/// UEFI 2.10 5.2.3: one entry over all of the disk keeps tools that know no GPT away.
void put_protective_mbr(std::span<std::uint8_t> sector, std::uint64_t disk_sectors) {
  constexpr std::size_t entry = 446;
  put_le(sector, entry + 1, 0x000200, 3);  // first CHS: 0, 0, 2
  put_le(sector, entry + 4, 0xee, 1);
  put_le(sector, entry + 5, 0xffffff, 3);
  put_le(sector, entry + 8, 1, 4);
  put_le(sector, entry + 12, std::min<std::uint64_t>(disk_sectors - 1, 0xffffffff), 4);
  put_le(sector, 510, 0xaa55, 2);
}

std::vector<std::uint8_t> make_entries(const std::vector<Partition>& partitions) {
  std::vector<std::uint8_t> entries(entry_bytes * entry_count);
  VENEER_ASSERT(partitions.size() <= entry_count);
  for (std::size_t i = 0; i < partitions.size(); ++i) {
    const Partition& partition = partitions[i];
    const auto entry = std::span(entries).subspan(i * entry_bytes, entry_bytes);
    std::ranges::copy(partition.type.on_disk(), entry.begin());
    std::ranges::copy(partition.unique.on_disk(), entry.begin() + 16);
    put_le(entry, 32, partition.first_sector, 8);
    put_le(entry, 40, partition.last_sector, 8);
    VENEER_ASSERT(partition.name.size() <= 36);
    for (std::size_t at = 0; at < partition.name.size(); ++at)
      put_le(entry, 56 + 2 * at, static_cast<std::uint8_t>(partition.name[at]), 2);
  }
  return entries;
}

/// Where one of the two headers is, and where the other one and its entries are.
struct Place {
  std::uint64_t own, other, entries;
};

/// UEFI 2.10 5.3.2.
void put_header(std::span<std::uint8_t> sector, const Place& place, std::uint64_t disk_sectors, const Guid& disk,
                std::uint32_t entries_crc) {
  std::ranges::copy(std::string_view("EFI PART"), sector.begin());
  put_le(sector, 8, 0x00010000, 4);
  put_le(sector, 12, header_bytes, 4);
  put_le(sector, 24, place.own, 8);
  put_le(sector, 32, place.other, 8);
  put_le(sector, 40, gpt_head_sectors, 8);
  put_le(sector, 48, disk_sectors - gpt_tail_sectors - 1, 8);
  std::ranges::copy(disk.on_disk(), sector.begin() + 56);
  put_le(sector, 72, place.entries, 8);
  put_le(sector, 80, entry_count, 4);
  put_le(sector, 84, entry_bytes, 4);
  put_le(sector, 88, entries_crc, 4);
  put_le(sector, 16, crc(sector.first(header_bytes)), 4);
}

}  // namespace

GptTables make_gpt(std::uint64_t disk_sectors, const Guid& disk, const std::vector<Partition>& partitions) {
  VENEER_ASSERT(disk_sectors > gpt_head_sectors + gpt_tail_sectors);
  for (const Partition& partition : partitions)
    VENEER_ASSERT(partition.first_sector >= gpt_head_sectors && partition.last_sector >= partition.first_sector &&
                  partition.last_sector < disk_sectors - gpt_tail_sectors);
  const std::vector<std::uint8_t> entries = make_entries(partitions);
  const std::uint32_t entries_crc = crc(entries);
  const std::uint64_t last = disk_sectors - 1;

  GptTables tables;
  tables.head.resize(gpt_head_sectors * sector_bytes);
  const std::span<std::uint8_t> head(tables.head);
  put_protective_mbr(head.first(sector_bytes), disk_sectors);
  put_header(head.subspan(sector_bytes, sector_bytes), {1, last, 2}, disk_sectors, disk, entries_crc);
  std::ranges::copy(entries, head.begin() + 2 * sector_bytes);

  tables.tail = entries;
  tables.tail.resize(gpt_tail_sectors * sector_bytes);
  put_header(std::span(tables.tail).subspan(entries.size(), sector_bytes), {last, 1, last - entries_sectors},
             disk_sectors, disk, entries_crc);
  return tables;
}

}  // namespace veneer::image
