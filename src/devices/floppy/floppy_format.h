// Formats of floppy disks: from the size of an image to its geometry and the drive it belongs into.
#pragma once

#include <array>
#include <cstdint>

namespace veneer::devices {

/// The data rate select bits of the controller (82077AA 2.1.5).
enum class FloppyRate : std::uint8_t { Kbps500 = 0, Kbps300 = 1, Kbps250 = 2, Mbps1 = 3 };

struct FloppyFormat {
  std::uint64_t bytes;
  std::uint8_t tracks, heads, sectors;
  FloppyRate rate;
  std::uint8_t drive_type;  ///< in CMOS register 10h: 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M

  bool reads_at(FloppyRate other) const {
    const bool low_density = rate == FloppyRate::Kbps250 && drive_type <= 2;  // 5.25": 300 in a drive for 1.2M
    return other == rate || (low_density && other == FloppyRate::Kbps300);
  }
};

inline constexpr auto floppy_formats = std::to_array<FloppyFormat>({
    {1474560, 80, 2, 18, FloppyRate::Kbps500, 4},
    {2949120, 80, 2, 36, FloppyRate::Mbps1, 5},
    {737280, 80, 2, 9, FloppyRate::Kbps250, 4},
    {1228800, 80, 2, 15, FloppyRate::Kbps500, 2},
    {368640, 40, 2, 9, FloppyRate::Kbps250, 1},
    {1720320, 80, 2, 21, FloppyRate::Kbps500, 4},  // DMF and its relatives
    {1763328, 82, 2, 21, FloppyRate::Kbps500, 4},
});

/// An image that is shorter than any disk (GRUB's rescue floppy is one) is the beginning of one of 1.44M or 2.88M. Null
/// when it fits onto none.
constexpr const FloppyFormat* floppy_format(std::uint64_t bytes) {
  for (const FloppyFormat& format : floppy_formats)
    if (format.bytes == bytes) return &format;
  return bytes < floppy_formats[0].bytes   ? &floppy_formats[0]
         : bytes < floppy_formats[1].bytes ? &floppy_formats[1]
                                           : nullptr;
}

}  // namespace veneer::devices
