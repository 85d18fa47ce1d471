// VGA and VBE registers, and the PCI function around them.
#include "devices/display/vga.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace veneer::devices {
namespace {

// Bits that each register has.
constexpr std::array<std::uint8_t, 5> sequencer_bits = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
constexpr std::array<std::uint8_t, 9> graphics_bits = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

constexpr std::uint16_t VBE_ID = 0xb0c5;
constexpr std::uint16_t VBE_GETCAPS = 0x02, VBE_NO_CLEAR = 0x80;
constexpr std::uint16_t most_x = 2560, most_y = 1600;

constexpr bool color_depth(unsigned bits) {
  return bits == 4 || bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32;
}

constexpr std::size_t page = 4096;

}  // namespace

Vga::Vga() : memory_(static_cast<std::uint8_t*>(std::calloc(1, memory_bytes))) { reset(); }

void Vga::reset() {
  std::memset(memory_.get(), 0, memory_bytes);
  sequencer_ = {};
  crtc_ = {};
  graphics_ = {};
  attribute_ = {};
  dac_ = {};
  latch_ = {};
  vbe_ = {};
  vbe_[ID] = VBE_ID;
  misc_ = feature_ = status1_ = sequencer_index_ = crtc_index_ = graphics_index_ = attribute_index_ = 0;
  pel_mask_ = 0xff;
  dac_read_ = dac_write_ = dac_part_ = 0;
  attribute_data_ = dac_reading_ = false;
  vbe_index = 0;
}

// --- legacy ports ---

/// The CRTC is at 3Dxh or 3Bxh, as the miscellaneous output register says; the other place is empty.
std::uint8_t Vga::read_port(std::uint16_t port) {
  const bool color = (misc_ & 1) != 0;
  if (port >= 0x3b0 && port <= 0x3bf && color) return 0xff;
  if (port >= 0x3d0 && port <= 0x3df && !color) return 0xff;
  switch (port) {
    case 0x3c0:
      return static_cast<std::uint8_t>(attribute_index_);
    case 0x3c1: {
      const unsigned index = attribute_index_ & 0x1f;
      return index < attribute_.size() ? attribute_[index] : std::uint8_t{0};
    }
    case 0x3c2:
      return 0;
    case 0x3c4:
      return sequencer_index_;
    case 0x3c5:
      return sequencer_index_ < sequencer_.size() ? sequencer_[sequencer_index_] : std::uint8_t{0};
    case 0x3c6:
      return pel_mask_;
    case 0x3c7:
      return dac_reading_ ? 3 : 0;
    case 0x3c8:
      return dac_write_;
    case 0x3c9: {
      const std::uint8_t value = dac_[dac_read_ * 3u + dac_part_];
      if (++dac_part_ == 3) {
        dac_part_ = 0;
        ++dac_read_;
      }
      return value;
    }
    case 0x3ca:
      return feature_;
    case 0x3cc:
      return misc_;
    case 0x3ce:
      return graphics_index_;
    case 0x3cf:
      return graphics_index_ < graphics_.size() ? graphics_[graphics_index_] : std::uint8_t{0};
    case 0x3b4:
    case 0x3d4:
      return crtc_index_;
    case 0x3b5:
    case 0x3d5:
      return crtc_index_ < crtc_.size() ? crtc_[crtc_index_] : std::uint8_t{0xff};
    case 0x3ba:
    case 0x3da:
      attribute_data_ = false;
      status1_ ^= 0x09;  // retrace and display enable: whoever waits for an edge sees one
      return status1_;
    default:
      return 0xff;
  }
}

void Vga::write_port(std::uint16_t port, std::uint8_t value) {
  const bool color = (misc_ & 1) != 0;
  if (port >= 0x3b0 && port <= 0x3bf && color) return;
  if (port >= 0x3d0 && port <= 0x3df && !color) return;
  switch (port) {
    case 0x3c0:
      if (!attribute_data_)
        attribute_index_ = value & 0x3f;
      else if (const unsigned index = attribute_index_ & 0x1f; index < attribute_.size())
        attribute_[index] = value & (index < 16 ? 0x3f : 0xff);
      attribute_data_ = !attribute_data_;
      return;
    case 0x3c2:
      misc_ = value & 0xef;
      return;
    case 0x3c4:
      sequencer_index_ = value & 7;
      return;
    case 0x3c5:
      if (sequencer_index_ < sequencer_.size()) sequencer_[sequencer_index_] = value & sequencer_bits[sequencer_index_];
      return;
    case 0x3c6:
      pel_mask_ = value;
      return;
    case 0x3c7:
      dac_read_ = value;
      dac_part_ = 0;
      dac_reading_ = true;
      return;
    case 0x3c8:
      dac_write_ = value;
      dac_part_ = 0;
      dac_reading_ = false;
      return;
    case 0x3c9:
      return write_dac(value);
    case 0x3b4:
    case 0x3d4:
      crtc_index_ = value;
      return;
    case 0x3b5:
    case 0x3d5:
      return write_crtc(value);
    case 0x3ba:
    case 0x3da:
      feature_ = value & 0x10;
      return;
    case 0x3ce:
      graphics_index_ = value & 0xf;
      return;
    case 0x3cf:
      if (graphics_index_ < graphics_.size()) graphics_[graphics_index_] = value & graphics_bits[graphics_index_];
      return;
    default:
      return;
  }
}

void Vga::write_dac(std::uint8_t value) {
  dac_[dac_write_ * 3u + dac_part_] = value;
  if (++dac_part_ < 3) return;
  dac_part_ = 0;
  ++dac_write_;
}

/// Bit 7 of register 11h protects registers 0 to 7, but for the line compare bit.
void Vga::write_crtc(std::uint8_t value) {
  if (crtc_index_ >= crtc_.size()) return;
  if (crtc_index_ <= 7 && (crtc_[0x11] & 0x80)) {
    if (crtc_index_ == 7) crtc_[7] = static_cast<std::uint8_t>((crtc_[7] & ~0x10) | (value & 0x10));
    return;
  }
  crtc_[crtc_index_] = value;
}

// --- Bochs VBE ---

std::uint16_t Vga::read_vbe(std::uint16_t index) const {
  if (index == 0xa) return memory_bytes / 0x1'0000;  // VIDEO_MEMORY_64K
  if (index >= vbe_.size()) return 0;
  if (vbe_[ENABLE] & VBE_GETCAPS) {
    if (index == XRES) return most_x;
    if (index == YRES) return most_y;
    if (index == BPP) return 32;
  }
  return vbe_[index];
}

void Vga::write_vbe(std::uint16_t index, std::uint16_t value) {
  const auto fits = [&] { return vbe_[XRES] != 0 && vbe_[YRES] != 0; };
  switch (index) {
    case ID:
      if (value >= 0xb0c0 && value <= VBE_ID) vbe_[ID] = value;
      return;
    case XRES:
      vbe_[XRES] = std::min(static_cast<std::uint16_t>(value & 0xfff8u), most_x);
      return;
    case YRES:
      vbe_[YRES] = std::min(value, most_y);
      return;
    case BPP:
      if (value == 0) value = 8;
      if (color_depth(value)) vbe_[BPP] = value;
      return;
    case ENABLE: {
      const bool was = vbe_enabled();
      vbe_[ENABLE] = value;
      if (!vbe_enabled() || was) return;
      if (!fits()) {
        vbe_[ENABLE] = 0;
        return;
      }
      if (vbe_[BPP] == 0) vbe_[BPP] = 8;
      vbe_[VIRT_WIDTH] = vbe_[XRES];
      vbe_[VIRT_HEIGHT] = vbe_[YRES];
      vbe_[X_OFFSET] = vbe_[Y_OFFSET] = vbe_[BANK] = 0;
      if (!(value & VBE_NO_CLEAR))
        std::memset(memory_.get(), 0, std::min<std::size_t>(memory_bytes, std::size_t{line_bytes()} * vbe_[YRES]));
      return;
    }
    case VIRT_WIDTH:
      vbe_[VIRT_WIDTH] = std::max(value, vbe_[XRES]);
      if (const unsigned line = line_bytes(); line != 0)
        vbe_[VIRT_HEIGHT] = static_cast<std::uint16_t>(std::min(memory_bytes / line, 0xffffu));
      return;
    case BANK:
      vbe_[BANK] = value % (memory_bytes / 0x1'0000);
      return;
    case X_OFFSET:
    case Y_OFFSET:
      vbe_[index] = value;
      return;
    default:
      return;
  }
}

unsigned Vga::line_bytes() const {
  const unsigned bits = vbe_[BPP] == 15 ? 16 : vbe_[BPP];
  return vbe_[VIRT_WIDTH] * bits / 8;
}

// --- state ---

void Vga::save(machine::SnapshotWriter& out) const {
  out.section("vga");
  out.put(sequencer_);
  out.put(crtc_);
  out.put(graphics_);
  out.put(attribute_);
  out.put(dac_);
  out.put(latch_);
  out.put(vbe_);
  out.put(vbe_index);
  for (const std::uint8_t value : {misc_, feature_, status1_, sequencer_index_, crtc_index_, graphics_index_,
                                   attribute_index_, pel_mask_, dac_read_, dac_write_, dac_part_})
    out.put(value);
  out.put(static_cast<std::uint8_t>(attribute_data_));
  out.put(static_cast<std::uint8_t>(dac_reading_));
  // Pages that are not zero, each with its number.
  std::uint32_t count = 0;
  const auto used = [&](std::size_t at) {
    const std::uint8_t* bytes = memory_.get() + at;
    return bytes[0] != 0 || std::memcmp(bytes, bytes + 1, page - 1) != 0;
  };
  for (std::size_t at = 0; at < memory_bytes; at += page) count += used(at);
  out.put(count);
  for (std::size_t at = 0; at < memory_bytes; at += page) {
    if (!used(at)) continue;
    out.put(static_cast<std::uint32_t>(at / page));
    out.bytes(std::as_bytes(std::span(memory_.get() + at, page)));
  }
}

void Vga::restore(machine::SnapshotReader& in) {
  in.section("vga");
  in.get(sequencer_);
  in.get(crtc_);
  in.get(graphics_);
  in.get(attribute_);
  in.get(dac_);
  in.get(latch_);
  in.get(vbe_);
  in.get(vbe_index);
  for (std::uint8_t* value : {&misc_, &feature_, &status1_, &sequencer_index_, &crtc_index_, &graphics_index_,
                              &attribute_index_, &pel_mask_, &dac_read_, &dac_write_, &dac_part_})
    in.get(*value);
  attribute_data_ = in.get<std::uint8_t>() != 0;
  dac_reading_ = in.get<std::uint8_t>() != 0;
  if (dac_part_ > 2) {
    in.fail();
    dac_part_ = 0;
  }
  for (std::size_t i = 0; i < sequencer_.size(); ++i) sequencer_[i] &= sequencer_bits[i];
  for (std::size_t i = 0; i < graphics_.size(); ++i) graphics_[i] &= graphics_bits[i];
  vbe_[XRES] = std::min<std::uint16_t>(vbe_[XRES], most_x);
  vbe_[YRES] = std::min<std::uint16_t>(vbe_[YRES], most_y);
  if (vbe_[BPP] != 0 && !color_depth(vbe_[BPP])) {
    in.fail();
    vbe_[BPP] = 8;
  }
  vbe_[BANK] = vbe_[BANK] % (memory_bytes / 0x1'0000);
  std::memset(memory_.get(), 0, memory_bytes);
  const auto count = in.get<std::uint32_t>();
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    const auto number = in.get<std::uint32_t>();
    if (number >= memory_bytes / page) return in.fail();
    in.bytes(std::as_writable_bytes(std::span(memory_.get() + std::size_t{number} * page, page)));
  }
}

// --- the PCI function ---

VgaFunction::VgaFunction() : PciFunction("vga", {0x1234, 0x1111, 0x02, 0x030000, 0x1af4, 0x1100, 0}) {
  add_bar(0, BarKind::Memory32, Vga::memory_bytes, framebuffer_, true);
  add_bar(2, BarKind::Memory32, 0x1000, registers_);
  make_writable(pci::COMMAND, 2, pci::COMMAND_IO);
}

std::uint64_t VgaFunction::Ports::read(std::uint64_t offset, unsigned size_bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i)
    value |= std::uint64_t{vga.read_port(static_cast<std::uint16_t>(0x3b0 + offset + i))} << (8 * i);
  return value;
}

void VgaFunction::Ports::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  for (unsigned i = 0; i < size_bytes; ++i)
    vga.write_port(static_cast<std::uint16_t>(0x3b0 + offset + i), static_cast<std::uint8_t>(value >> (8 * i)));
}

/// Index at 0, data at 1 (Bochs) and 2 (aligned), 16 bits each.
std::uint64_t VgaFunction::VbePorts::read(std::uint64_t offset, unsigned size_bytes) {
  const std::uint16_t value = offset == 0 ? vga.vbe_index : vga.read_vbe(vga.vbe_index);
  return size_bytes == 1 ? value & 0xff : value;
}

void VgaFunction::VbePorts::write(std::uint64_t offset, unsigned, std::uint64_t value) {
  if (offset == 0)
    vga.vbe_index = static_cast<std::uint16_t>(value);
  else
    vga.write_vbe(vga.vbe_index, static_cast<std::uint16_t>(value));
}

std::uint64_t VgaFunction::Window::read(std::uint64_t offset, unsigned size_bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i)
    value |= std::uint64_t{vga.read_window(static_cast<std::uint32_t>(offset + i))} << (8 * i);
  return value;
}

void VgaFunction::Window::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  for (unsigned i = 0; i < size_bytes; ++i)
    vga.write_window(static_cast<std::uint32_t>(offset + i), static_cast<std::uint8_t>(value >> (8 * i)));
}

std::uint64_t VgaFunction::Framebuffer::read(std::uint64_t offset, unsigned size_bytes) {
  std::uint64_t value = 0;
  if (offset + size_bytes <= Vga::memory_bytes) std::memcpy(&value, vga.memory() + offset, size_bytes);
  return value;
}

void VgaFunction::Framebuffer::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset + size_bytes <= Vga::memory_bytes) std::memcpy(vga.memory() + offset, &value, size_bytes);
}

// BAR 2: ports 3C0h to 3DFh at 400h, the VBE registers at 500h.
std::uint64_t VgaFunction::Registers::read(std::uint64_t offset, unsigned size_bytes) {
  if (offset >= 0x500 && offset < 0x516)
    return vga.read_vbe(static_cast<std::uint16_t>((offset - 0x500) / 2)) & (size_bytes == 1 ? 0xff : 0xffff);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i) {
    const std::uint64_t at = offset + i;
    const std::uint8_t byte =
        at >= 0x400 && at < 0x420 ? vga.read_port(static_cast<std::uint16_t>(0x3c0 + at - 0x400)) : 0;
    value |= std::uint64_t{byte} << (8 * i);
  }
  return value;
}

void VgaFunction::Registers::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset >= 0x500 && offset < 0x516)
    return vga.write_vbe(static_cast<std::uint16_t>((offset - 0x500) / 2), static_cast<std::uint16_t>(value));
  for (unsigned i = 0; i < size_bytes; ++i)
    if (const std::uint64_t at = offset + i; at >= 0x400 && at < 0x420)
      vga.write_port(static_cast<std::uint16_t>(0x3c0 + at - 0x400), static_cast<std::uint8_t>(value >> (8 * i)));
}

}  // namespace veneer::devices
