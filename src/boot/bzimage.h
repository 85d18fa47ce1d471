// The header of a Linux bzImage, checked field by field: the file may be anything.
//
// Spec: Linux Documentation/arch/x86/boot.rst ("the boot protocol"), sections "The Real-Mode Kernel Header" and
// "Details of Header Fields".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace veneer::boot {

/// What a boot loader needs to know about a kernel image.
struct BzImage {
  std::vector<std::byte> setup_header;  ///< file bytes 0x1f1 to the header's own end, to be copied to the zero page
  std::uint64_t payload_offset = 0;     ///< where the protected-mode part starts in the file
  std::uint64_t payload_bytes = 0;      ///< its size
  std::uint16_t version = 0;            ///< boot protocol, 0x020f is 2.15
  bool entry64 = false;                 ///< has a 64-bit entry point; the 32-bit one is there in any case
  std::uint64_t alignment = 0;           ///< kernel_alignment: a power of two
  std::uint64_t preferred_address = 0;   ///< pref_address
  std::uint64_t init_bytes = 0;          ///< init_size: memory the kernel uses before it looks at the memory map
  std::uint64_t initrd_address_max = 0;  ///< highest address the last byte of the initrd may have
  std::uint32_t cmdline_bytes_max = 0;   ///< without the terminating zero
};

/// Parses the first bytes of a kernel file (at least 0x1000 if the file has them) whose whole size is file_bytes.
/// Errors say what kind of file it is instead, or which field makes no sense.
Result<BzImage> parse_bzimage(std::span<const std::byte> head, std::uint64_t file_bytes);

}  // namespace veneer::boot
