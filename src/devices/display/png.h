// Pictures as PNG files.
#pragma once

#include <cstdint>
#include <vector>

#include "devices/display/vga.h"

namespace veneer::devices {

/// A whole file: 8 bits each of red, green, blue (PNG specification, 2nd edition). Empty when zlib fails.
std::vector<std::uint8_t> encode_png(const Picture& picture);

}  // namespace veneer::devices
