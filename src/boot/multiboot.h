// The multiboot 1 header of a kernel file.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "boot/input_file.h"

namespace veneer::boot {

/// Multiboot Specification 0.6.96, 3.1.
struct MultibootHeader {
  std::uint64_t file_offset = 0;  ///< where in the file it stands
  /// Where to load when the file is no ELF file, or when flags bit 16 says so.
  struct Addresses {
    std::uint32_t header, load, load_end, bss_end, entry;
  };
  std::optional<Addresses> addresses;
};

/// nullopt when there is none in the first 8 KiB. An error when it asks for what is not served.
Result<std::optional<MultibootHeader>> find_multiboot(const InputFile& file);

}  // namespace veneer::boot
