// A FAT file system made from files in memory: EFI system partitions, cloud-init seeds.
//
// FAT16 or FAT32, whichever the size calls for; long names where a name is not 8.3 in capitals. Files are contiguous
// and nothing is free between them, so the bytes that matter are all at the start.
//
// Spec: Microsoft "FAT: General Overview of On-Disk Format" 1.03; names after its chapter "Long Directory Entries".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace veneer::image {

struct FatFile {
  std::string path;  ///< with slashes: "EFI/BOOT/BOOTX64.EFI"; folders are made. ASCII
  std::string content;
};

struct FatVolume {
  std::uint64_t size_bytes = 0;      ///< 4 MiB to 2 GiB, a multiple of 512
  std::string label;                 ///< at most 11 characters, in capitals
  std::uint32_t serial = 0;          ///< "ABCD-1234" as a UUID is 0xabcd1234
  std::uint32_t hidden_sectors = 0;  ///< what lies before the volume on its disk
};

/// The volume's first bytes; all behind them are zero. An error: the files do not fit, or a name is none.
Result<std::vector<std::uint8_t>> make_fat(const FatVolume& volume, const std::vector<FatFile>& files);

}  // namespace veneer::image
