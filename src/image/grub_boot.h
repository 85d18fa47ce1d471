// GRUB's boot sector and core image for BIOS, joined by the sector numbers that grub-bios-setup would write.
//
// grub-bios-setup itself wants a block device. Offsets: GRUB's include/grub/i386/pc/boot.h (GRUB_BOOT_MACHINE_*).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace veneer::image {

/// What a disk needs so that a BIOS starts GRUB from it.
struct GrubBoot {
  std::vector<std::uint8_t> boot_code;  ///< 440 bytes for sector 0
  std::vector<std::uint8_t> core;       ///< whole sectors, for `core_sector` on
};

/// `boot_img` is GRUB's boot.img, `core_img` what grub-mkimage made for i386-pc; the core image will be at
/// `core_sector`, in one piece, in at most `sectors_max` sectors.
Result<GrubBoot> link_grub(std::span<const std::uint8_t> boot_img, std::span<const std::uint8_t> core_img,
                           std::uint64_t core_sector, std::uint64_t sectors_max);

}  // namespace veneer::image
