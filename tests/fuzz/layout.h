// Where code and data of a fuzz case lie: the same virtual addresses in the native child and in the guest.
#pragma once

#include <array>
#include <cstdint>

namespace veneer::fuzz {

inline constexpr std::uint64_t page_bytes = 4096;

/// Two executable pages, readable, not writable; their neighbours are unmapped.
inline constexpr std::uint64_t code_base = 0x1000'0000;
inline constexpr unsigned code_pages = 2;

/// One data page.
struct DataPage {
  std::uint64_t address;
  bool writable;
};

/// Neighbours: unmapped | rw | rw | ro | unmapped, below 4 GiB so that 32-bit addresses reach them; and
/// unmapped | rw | rw | unmapped, above 4 GiB so that a truncated address is noticed. The stack is in the latter.
inline constexpr std::array<DataPage, 5> data_pages = {{
    {0x2000'0000, true},
    {0x2000'1000, true},
    {0x2000'2000, false},
    {0x2345'6789'0000, true},
    {0x2345'6789'1000, true},
}};
inline constexpr std::uint64_t low_data = data_pages[0].address;
inline constexpr std::uint64_t high_data = data_pages[3].address;

/// What kind of code a case is. Natively all three run at CPL 3 in long mode: 32-bit code in Linux' segment for it,
/// 16-bit code in segments of the local descriptor table.
enum class CodeWidth : std::uint8_t { Bits16, Bits32, Bits64 };
inline constexpr unsigned code_widths = 3;
inline constexpr const char* code_width_names[code_widths] = {"16", "32", "64"};

/// 16-bit segments begin at the code and at the low data, so that 16-bit offsets reach them.
constexpr std::uint64_t code_segment_base(CodeWidth width) { return width == CodeWidth::Bits16 ? code_base : 0; }
constexpr std::uint64_t data_segment_base(CodeWidth width) { return width == CodeWidth::Bits16 ? low_data : 0; }

/// Selectors as Linux gives them to 64-bit user code: they show in registers and in error codes.
inline constexpr std::uint16_t user_code_selector = 0x33, user_data_selector = 0x2b, user_code32_selector = 0x23;
inline constexpr std::uint16_t ldt_code16_selector = 0x07, ldt_data16_selector = 0x0f;

constexpr std::uint16_t code_selector(CodeWidth width) {
  return width == CodeWidth::Bits64   ? user_code_selector
         : width == CodeWidth::Bits32 ? user_code32_selector
                                      : ldt_code16_selector;
}
constexpr std::uint16_t data_selector(CodeWidth width) {
  return width == CodeWidth::Bits16 ? ldt_data16_selector : user_data_selector;
}

}  // namespace veneer::fuzz
