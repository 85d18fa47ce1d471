// ELF executables as kernels: their segments, and the entry that a PVH note names.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "boot/input_file.h"

namespace veneer::boot {

/// What of an ELF file a loader needs (System V ABI, chapter 5; 32 and 64 bits).
struct ElfImage {
  struct Segment {
    std::uint64_t file_offset = 0, file_bytes = 0;
    std::uint64_t address = 0, memory_bytes = 0;  ///< physical; what the file does not fill is zero
  };
  std::vector<Segment> segments;
  std::uint64_t entry = 0;
  /// XEN_ELFNOTE_PHYS32_ENTRY: where a PVH guest starts, in 32-bit protected mode.
  std::optional<std::uint32_t> pvh_entry;
};

/// True when the file begins like an ELF file.
bool is_elf(const InputFile& file);

/// Errors: not for x86, cut, damaged.
Result<ElfImage> read_elf(const InputFile& file);

}  // namespace veneer::boot
