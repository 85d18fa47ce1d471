// Sizes as people write them: 512M, 1G, 4GiB.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace veneer::cli {

/// Bytes of "512M", "1.5G", "4GiB", "65536" or "64k". Units are powers of 1024 (k, M, G, T, P, each with or without "B"
/// or "iB", any case). An error says what is wrong with the text: no number, unknown unit, too large, not whole bytes.
Result<std::uint64_t> parse_size(std::string_view text);

/// Bytes with the largest unit that keeps them short: "512 MiB", "1.5 GiB", "37 bytes".
std::string format_size(std::uint64_t bytes);

}  // namespace veneer::cli
