// What a monitor would show: as text, and as a picture.
#include <algorithm>
#include <cstring>

#include "devices/display/vga.h"

namespace veneer::devices {
namespace {

constexpr unsigned widest = 2560, tallest = 1600;
constexpr unsigned glyph_bytes = 32;

/// Code page 437 above 7Fh, roughly: what frames and shades look like in ASCII.
char printable(std::uint8_t character) {
  if (character == 0) return ' ';
  if (character >= 0x20 && character < 0x7f) return static_cast<char>(character);
  if (character == 0xc4 || character == 0xcd) return '-';
  if (character == 0xb3 || character == 0xba) return '|';
  if (character >= 0xb0 && character <= 0xdf) return character >= 0xdb || character <= 0xb2 ? '#' : '+';
  return '?';
}

std::uint8_t eight_bits(unsigned value, unsigned bits) {
  return static_cast<std::uint8_t>(value * 255 / ((1u << bits) - 1));
}

}  // namespace

unsigned Vga::displayed_lines() const { return (crtc_[0x12] | (crtc_[7] & 0x02u) << 7 | (crtc_[7] & 0x40u) << 3) + 1; }

unsigned Vga::rows() const { return displayed_lines() / ((crtc_[9] & 0x1fu) + 1); }

std::string Vga::text() const {
  if (vbe_enabled())
    return "the screen is in a graphics mode, " + std::to_string(vbe_[XRES]) + " x " + std::to_string(vbe_[YRES]) +
           "\n";
  if (!text_mode()) return "the screen is in a graphics mode\n";
  const std::uint32_t pitch = crtc_[0x13] * 2u;
  std::string out;
  for (unsigned row = 0; row < std::min(rows(), 100u); ++row) {
    std::string line;
    for (unsigned column = 0; column < columns(); ++column) {
      const std::uint32_t at = (start() + row * pitch + column) * 4;
      line += at < memory_bytes ? printable(memory_.get()[at]) : ' ';
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::array<std::uint8_t, 3> Vga::color(unsigned index) const {
  const unsigned at = (index & pel_mask_) * 3;
  // The DAC has 6 bits; with VBE's 8-bit switch it has 8.
  const bool wide = vbe_enabled() && (vbe_[ENABLE] & 0x20);
  const auto part = [&](unsigned i) { return wide ? dac_[at + i] : eight_bits(dac_[at + i] & 0x3fu, 6); };
  return {part(0), part(1), part(2)};
}

/// Through the attribute controller's palette and color select register.
std::array<std::uint8_t, 3> Vga::attribute_color(unsigned index) const {
  unsigned value = attribute_[index & attribute_[0x12] & 0xf];
  if (attribute_[0x10] & 0x80) value = (value & 0xf) | (attribute_[0x14] & 3u) << 4;
  return color(value | (attribute_[0x14] & 0xcu) << 4);
}

Picture Vga::picture() const {
  Picture out;
  if (vbe_enabled()) {
    out.width = vbe_[XRES];
    out.height = vbe_[YRES];
  } else if (text_mode()) {
    out.width = columns() * ((sequencer_[1] & 1) ? 8 : 9);
    out.height = displayed_lines();
  } else {
    out.width = columns() * 8;
    out.height = displayed_lines();
  }
  out.width = std::clamp(out.width, 1u, widest);
  out.height = std::clamp(out.height, 1u, tallest);
  out.rgb.assign(std::size_t{3} * out.width * out.height, 0);
  if (vbe_enabled() && vbe_[BPP] >= 8)
    draw_vbe(out);
  else if (!vbe_enabled() && text_mode())
    draw_text(out);
  else
    draw_planes(out);
  return out;
}

void Vga::draw_text(Picture& out) const {
  const unsigned cell_width = (sequencer_[1] & 1) ? 8 : 9, cell_height = (crtc_[9] & 0x1fu) + 1;
  const std::uint32_t pitch = crtc_[0x13] * 2u;
  const std::uint32_t cursor = std::uint32_t{crtc_[0xe]} << 8 | crtc_[0xf];
  const bool cursor_on = !(crtc_[0xa] & 0x20);
  for (unsigned y = 0; y < out.height; ++y) {
    for (unsigned x = 0; x < out.width; ++x) {
      const std::uint32_t cell = start() + y / cell_height * pitch + x / cell_width;
      if (cell >= memory_bytes / 4) continue;
      const std::uint8_t character = memory_.get()[cell * 4], attribute = memory_.get()[cell * 4 + 1];
      const unsigned line = y % cell_height, column = x % cell_width;
      const std::uint8_t glyph = memory_.get()[(character * glyph_bytes + line) * 4 + 2];
      // The ninth column repeats the eighth for line drawing characters (attribute register 10h bit 2).
      const bool repeats = (attribute_[0x10] & 4) && character >= 0xc0 && character <= 0xdf;
      bool ink = column < 8 ? (glyph >> (7 - column) & 1) : repeats && (glyph & 1);
      if (cursor_on && cell == cursor && line >= (crtc_[0xa] & 0x1fu) && line <= (crtc_[0xb] & 0x1fu)) ink = true;
      const auto rgb = attribute_color(ink ? attribute & 0xfu : (attribute >> 4) & ((attribute_[0x10] & 8) ? 7u : 15u));
      std::memcpy(&out.rgb[3 * (std::size_t{y} * out.width + x)], rgb.data(), 3);
    }
  }
}

/// Four planes with 16 colors, or 256 colors in chained planes (mode 13h, pixels and lines doubled).
void Vga::draw_planes(Picture& out) const {
  const bool chained = (graphics_[5] & 0x40) != 0;
  const unsigned line_divider = ((crtc_[9] & 0x1fu) + 1) << (crtc_[9] >> 7);
  const std::uint32_t pitch = vbe_enabled() ? vbe_[VIRT_WIDTH] / 8u : crtc_[0x13] * 2u;
  for (unsigned y = 0; y < out.height; ++y) {
    for (unsigned x = 0; x < out.width; ++x) {
      const unsigned line = vbe_enabled() ? y : y / line_divider;
      std::array<std::uint8_t, 3> rgb{};
      if (chained) {
        const std::uint32_t at = (start() + line * pitch) * 4 + x / 2;
        if (at < memory_bytes) rgb = color(memory_.get()[at]);
      } else {
        const std::uint32_t at = (start() + line * pitch + x / 8) * 4;
        if (at + 3 < memory_bytes) {
          unsigned index = 0;
          for (unsigned plane = 0; plane < 4; ++plane)
            index |= (memory_.get()[at + plane] >> (7 - x % 8) & 1u) << plane;
          rgb = attribute_color(index);
        }
      }
      std::memcpy(&out.rgb[3 * (std::size_t{y} * out.width + x)], rgb.data(), 3);
    }
  }
}

void Vga::draw_vbe(Picture& out) const {
  const unsigned bits = vbe_[BPP];
  const std::size_t bytes = bits == 15 ? 2 : bits / 8;
  for (unsigned y = 0; y < out.height; ++y) {
    for (unsigned x = 0; x < out.width; ++x) {
      const std::size_t at = std::size_t{y + vbe_[Y_OFFSET]} * line_bytes() + (x + vbe_[X_OFFSET]) * bytes;
      if (at + bytes > memory_bytes) continue;
      std::uint32_t pixel = 0;
      std::memcpy(&pixel, memory_.get() + at, bytes);
      std::array<std::uint8_t, 3> rgb{};
      if (bits == 8)
        rgb = color(pixel);
      else if (bits == 15)
        rgb = {eight_bits(pixel >> 10 & 31, 5), eight_bits(pixel >> 5 & 31, 5), eight_bits(pixel & 31, 5)};
      else if (bits == 16)
        rgb = {eight_bits(pixel >> 11 & 31, 5), eight_bits(pixel >> 5 & 63, 6), eight_bits(pixel & 31, 5)};
      else
        rgb = {static_cast<std::uint8_t>(pixel >> 16), static_cast<std::uint8_t>(pixel >> 8),
               static_cast<std::uint8_t>(pixel)};
      std::memcpy(&out.rgb[3 * (std::size_t{y} * out.width + x)], rgb.data(), 3);
    }
  }
}

}  // namespace veneer::devices
