// Where the Linux loader keeps its tables in conventional memory; the kernel copies or replaces all of them early.
#pragma once

#include <cstdint>

namespace veneer::boot::low_memory {

inline constexpr std::uint64_t GDT = 0x500;
inline constexpr std::uint64_t BOOT_PARAMS = 0x7000;   // one page
inline constexpr std::uint64_t PAGE_TABLES = 0x9000;   // PML4, PDPT, four page directories: to 0xf000
inline constexpr std::uint64_t SETUP_DATA = 0x1'0000;  // setup_data list
inline constexpr std::uint64_t CMDLINE = 0x2'0000;
inline constexpr std::uint64_t CMDLINE_LIMIT = 0x1'0000;

}  // namespace veneer::boot::low_memory
