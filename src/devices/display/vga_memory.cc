// The window at A0000h: planes, latches and write modes (VGA Technical Reference, "Graphics controller").
#include "devices/display/vga.h"

namespace veneer::devices {
namespace {

// The four planes of one address are four neighbouring bytes of video memory.
constexpr std::uint8_t CHAIN_4 = 0x08, ODD_EVEN_OFF = 0x04;  // sequencer register 4
constexpr std::uint8_t all_planes = 0x0f;

std::uint8_t rotate(std::uint8_t value, unsigned count) {
  count &= 7;
  return static_cast<std::uint8_t>(value >> count | value << (8 - count));
}

}  // namespace

/// Graphics register 6 bits 3-2: which part of the window answers. `offset` becomes one into video memory.
bool Vga::window_offset(std::uint32_t& offset) const {
  switch ((graphics_[6] >> 2) & 3) {
    case 0:
      break;
    case 1:
      if (offset >= 0x1'0000) return false;
      offset += std::uint32_t{vbe_enabled() ? vbe_[BANK] : std::uint16_t{0}} << 16;
      break;
    case 2:
      if (offset < 0x1'0000 || offset >= 0x1'8000) return false;
      offset -= 0x1'0000;
      break;
    default:
      if (offset < 0x1'8000) return false;
      offset -= 0x1'8000;
      break;
  }
  return true;
}

std::uint8_t Vga::read_window(std::uint32_t offset) {
  if (!window_offset(offset)) return 0xff;
  if (sequencer_[4] & CHAIN_4) return offset < memory_bytes ? memory_.get()[offset] : std::uint8_t{0xff};
  if (!(sequencer_[4] & ODD_EVEN_OFF) && (graphics_[5] & 0x10)) {
    const std::uint32_t at = (offset & ~1u) << 1 | (offset & 1);
    return at < memory_bytes ? memory_.get()[at] : std::uint8_t{0xff};
  }
  return read_planes(offset);
}

std::uint8_t Vga::read_planes(std::uint32_t offset) {
  if (offset >= memory_bytes / 4) return 0xff;
  const std::uint8_t* planes = memory_.get() + offset * 4;
  for (unsigned i = 0; i < 4; ++i) latch_[i] = planes[i];
  if (!(graphics_[5] & 0x08)) return latch_[graphics_[4]];
  // Read mode 1: bits where the planes have the color to compare with.
  std::uint8_t same = 0xff;
  for (unsigned i = 0; i < 4; ++i) {
    if (!(graphics_[7] >> i & 1)) continue;
    const std::uint8_t wanted = (graphics_[2] >> i & 1) ? 0xff : 0;
    same = static_cast<std::uint8_t>(same & ~(latch_[i] ^ wanted));
  }
  return same;
}

void Vga::write_window(std::uint32_t offset, std::uint8_t value) {
  if (!window_offset(offset)) return;
  const std::uint8_t mask = sequencer_[2];
  if (sequencer_[4] & CHAIN_4) {
    if (offset < memory_bytes && (mask >> (offset & 3) & 1)) memory_.get()[offset] = value;
    return;
  }
  if (!(sequencer_[4] & ODD_EVEN_OFF)) {
    // Even addresses go to planes 0 and 2, odd ones to 1 and 3; text has its fonts in plane 2.
    const std::uint32_t at = (offset & ~1u) << 1;
    for (unsigned plane = offset & 1; plane < 4; plane += 2)
      if ((mask >> plane & 1) && at + plane < memory_bytes) memory_.get()[at + plane] = value;
    return;
  }
  write_planes(offset, value, mask);
}

void Vga::write_planes(std::uint32_t offset, std::uint8_t value, std::uint8_t planes) {
  if (offset >= memory_bytes / 4) return;
  const unsigned mode = graphics_[5] & 3;
  std::uint8_t bit_mask = graphics_[8];
  const std::uint8_t set_reset = graphics_[0];
  std::uint8_t enable = graphics_[1];
  const std::uint8_t rotated = rotate(value, graphics_[3]);
  if (mode == 2) enable = all_planes;
  if (mode == 3) {
    bit_mask = static_cast<std::uint8_t>(bit_mask & rotated);
    enable = all_planes;
  }
  std::uint8_t* memory = memory_.get() + offset * 4;
  for (unsigned i = 0; i < 4; ++i) {
    if (!(planes >> i & 1)) continue;
    if (mode == 1) {
      memory[i] = latch_[i];
      continue;
    }
    std::uint8_t data = rotated;
    if (enable >> i & 1) data = ((mode == 2 ? value : set_reset) >> i & 1) ? 0xff : 0;
    switch (graphics_[3] >> 3) {
      case 1:
        data = data & latch_[i];
        break;
      case 2:
        data = data | latch_[i];
        break;
      case 3:
        data = data ^ latch_[i];
        break;
      default:
        break;
    }
    memory[i] = static_cast<std::uint8_t>((data & bit_mask) | (latch_[i] & ~bit_mask));
  }
}

}  // namespace veneer::devices
