// A GUID partition table, with the protective MBR in front of it.
//
// Spec: UEFI 2.10 chapter 5.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "image/guid.h"

namespace veneer::image {

inline constexpr std::uint64_t sector_bytes = 512;

namespace partition_type {
inline constexpr std::string_view bios_boot = "21686148-6449-6e6f-744e-656564454649";
inline constexpr std::string_view efi_system = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
inline constexpr std::string_view linux_root_x86_64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
}  // namespace partition_type

struct Partition {
  Guid type;
  Guid unique;
  std::uint64_t first_sector = 0;
  std::uint64_t last_sector = 0;  ///< inclusive
  std::string name;               ///< ASCII, at most 36 characters
};

/// What to write where. The 440 bytes of boot code at the start of `head` are zero.
struct GptTables {
  std::vector<std::uint8_t> head;  ///< sectors 0 to 33
  std::vector<std::uint8_t> tail;  ///< the disk's last 33 sectors
};

inline constexpr std::uint64_t gpt_head_sectors = 34;
inline constexpr std::uint64_t gpt_tail_sectors = 33;

/// The partitions lie between head and tail and do not overlap: our own code lays them out.
GptTables make_gpt(std::uint64_t disk_sectors, const Guid& disk, const std::vector<Partition>& partitions);

}  // namespace veneer::image
