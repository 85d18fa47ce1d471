// The three chunks that a PNG file needs.
#include "devices/display/png.h"

#include <zlib.h>

#include <array>
#include <cstring>
#include <string_view>

namespace veneer::devices {
namespace {

void put32(std::vector<std::uint8_t>& out, std::uint32_t value) {
  for (unsigned shift : {24u, 16u, 8u, 0u}) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

void chunk(std::vector<std::uint8_t>& out, std::string_view type, const std::vector<std::uint8_t>& data) {
  put32(out, static_cast<std::uint32_t>(data.size()));
  const std::size_t from = out.size();
  out.insert(out.end(), type.begin(), type.end());
  out.insert(out.end(), data.begin(), data.end());
  put32(out, static_cast<std::uint32_t>(::crc32(0, out.data() + from, static_cast<uInt>(out.size() - from))));
}

}  // namespace

std::vector<std::uint8_t> encode_png(const Picture& picture) {
  constexpr std::array<std::uint8_t, 8> signature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  constexpr std::uint8_t depth = 8, truecolor = 2;
  std::vector<std::uint8_t> out(signature.begin(), signature.end());
  std::vector<std::uint8_t> header;
  put32(header, picture.width);
  put32(header, picture.height);
  header.insert(header.end(), {depth, truecolor, 0, 0, 0});
  chunk(out, "IHDR", header);

  const std::size_t line = std::size_t{3} * picture.width;
  std::vector<std::uint8_t> lines;  // each with a filter byte: none
  lines.reserve((line + 1) * picture.height);
  for (std::size_t y = 0; y < picture.height; ++y) {
    lines.push_back(0);
    const auto from = picture.rgb.begin() + static_cast<std::ptrdiff_t>(y * line);
    lines.insert(lines.end(), from, from + static_cast<std::ptrdiff_t>(line));
  }
  uLongf size = ::compressBound(static_cast<uLong>(lines.size()));
  std::vector<std::uint8_t> packed(size);
  if (::compress2(packed.data(), &size, lines.data(), static_cast<uLong>(lines.size()), 6) != Z_OK) return {};
  packed.resize(size);
  chunk(out, "IDAT", packed);
  chunk(out, "IEND", {});
  return out;
}

}  // namespace veneer::devices
