// The small kernel's memory: physical addresses, mapped for the supervisor from kernel_base on.
#pragma once

#include <array>
#include <cstdint>

#include "layout.h"

namespace veneer::fuzz {

/// In the upper half: below, everything that is not a case's must be unmapped, as in the native child.
inline constexpr std::uint64_t kernel_base = 0xffff'ffff'8000'0000;
inline constexpr std::uint64_t guest_ram_bytes = 8 * 1024 * 1024;
inline constexpr std::uint64_t gdt_at = 0x1000, gdt_bytes = 128;
inline constexpr std::uint64_t tss_at = 0x1800, tss_bytes = 104;
inline constexpr std::uint64_t ldt_at = 0x1a00, ldt_bytes = 16;
inline constexpr std::uint64_t idt_at = 0x2000;
inline constexpr std::uint64_t handlers_at = 0x3000, handler_bytes = 16;  ///< HLT, once for each vector
inline constexpr std::uint64_t kernel_stack_top = 0x8000;
inline constexpr std::uint64_t kernel_end = 0x8000;
inline constexpr std::uint64_t page_tables_at = 0x10000;
inline constexpr std::uint16_t kernel_code_selector = 0x10, tss_selector = 0x40, ldt_selector = 0x50;

/// Scattered, so that an access across two pages cannot go through one of them.
inline constexpr std::uint64_t code_at = 0x200000;
inline constexpr std::array<std::uint64_t, data_pages.size()> data_at = {0x305000, 0x301000, 0x30b000, 0x403000,
                                                                         0x309000};

}  // namespace veneer::fuzz
