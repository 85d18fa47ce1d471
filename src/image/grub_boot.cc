// GRUB's boot sector and core image for BIOS, joined by sector numbers.
#include "image/grub_boot.h"

#include <fmt/format.h>

#include "image/gpt.h"
#include "image/le.h"

namespace veneer::image {
namespace {

constexpr std::size_t boot_code_bytes = 440;  // behind them: the disk signature and the MBR's partition table
constexpr std::size_t KERNEL_SECTOR = 0x5c;   // in boot.img: where the core image begins
constexpr std::size_t BLOCK_START = 500;      // in the core image's first sector, its last block list entry:
constexpr std::size_t BLOCK_LENGTH = 508;     // where the rest is, in sectors, and how many
constexpr std::size_t PREVIOUS_LENGTH = BLOCK_LENGTH - 12;  // the list grows downwards and ends with a length of 0

}  // namespace

Result<GrubBoot> link_grub(std::span<const std::uint8_t> boot_img, std::span<const std::uint8_t> core_img,
                           std::uint64_t core_sector, std::uint64_t sectors_max) {
  if (boot_img.size() != sector_bytes || get_le(boot_img, 510, 2) != 0xaa55)
    return Error("GRUB's boot.img is not a boot sector");
  const std::uint64_t sectors = (core_img.size() + sector_bytes - 1) / sector_bytes;
  if (sectors < 2 || get_le(core_img, BLOCK_LENGTH, 2) != sectors - 1 || get_le(core_img, PREVIOUS_LENGTH, 2) != 0)
    return Error("GRUB's core image does not begin with a block list over the rest of it");
  if (sectors > sectors_max)
    return Error(fmt::format("GRUB's core image has {} sectors, and its partition {}", sectors, sectors_max));

  GrubBoot boot;
  boot.boot_code.assign(boot_img.begin(), boot_img.begin() + boot_code_bytes);
  put_le(boot.boot_code, KERNEL_SECTOR, core_sector, 8);
  boot.core.assign(core_img.begin(), core_img.end());
  boot.core.resize(sectors * sector_bytes);
  put_le(boot.core, BLOCK_START, core_sector + 1, 8);
  return boot;
}

}  // namespace veneer::image
