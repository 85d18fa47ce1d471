// A VGA with the Bochs VBE extension: text, planar and linear modes.
//
// State: all registers, 16 MiB of video memory.
// Missing: hardware cursor shapes in pictures, panning by single pixels, split screens, EDID, retrace timing (the
//   status bits just alternate).
// Differs from the spec: the framebuffer is reached access by access, as registers are: correct, not fast.
// Spec: IBM VGA/XGA Technical Reference (1992); Bochs' "VBE Display API"; QEMU's docs/specs/standard-vga.txt for the
// PCI
//   function.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "devices/pci/pci_function.h"

namespace veneer::devices {

/// What is on the screen: 8 bits each of red, green, blue.
struct Picture {
  unsigned width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
};

/// The chip; VgaFunction puts it on the PCI bus.
class Vga {
 public:
  static constexpr std::uint32_t memory_bytes = 16u << 20;

  Vga();

  // Legacy ports 3B0h to 3DFh by number, and the 128 KiB window at A0000h by offset.
  std::uint8_t read_port(std::uint16_t port);
  void write_port(std::uint16_t port, std::uint8_t value);
  std::uint8_t read_window(std::uint32_t offset);
  void write_window(std::uint32_t offset, std::uint8_t value);

  // Bochs VBE registers by index.
  std::uint16_t read_vbe(std::uint16_t index) const;
  void write_vbe(std::uint16_t index, std::uint16_t value);
  std::uint16_t vbe_index = 0;

  /// The linear framebuffer; offsets below memory_bytes.
  std::uint8_t* memory() { return memory_.get(); }

  /// The characters of a text mode, one line of text for each row, without trailing spaces; a sentence in other modes.
  std::string text() const;
  Picture picture() const;

  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);
  void reset();

 private:
  struct Free {
    void operator()(std::uint8_t* memory) const { std::free(memory); }
  };
  enum VbeIndex : unsigned {
    ID,
    XRES,
    YRES,
    BPP,
    ENABLE,
    BANK,
    VIRT_WIDTH,
    VIRT_HEIGHT,
    X_OFFSET,
    Y_OFFSET,
    VBE_COUNT
  };

  bool vbe_enabled() const { return (vbe_[ENABLE] & 1) != 0; }
  bool text_mode() const { return !vbe_enabled() && !(graphics_[6] & 1); }
  void write_crtc(std::uint8_t value);
  void write_dac(std::uint8_t value);
  bool window_offset(std::uint32_t& offset) const;
  std::uint8_t read_planes(std::uint32_t offset);
  void write_planes(std::uint32_t offset, std::uint8_t value, std::uint8_t planes);
  unsigned rows() const;
  unsigned columns() const { return crtc_[1] + 1u; }
  unsigned displayed_lines() const;
  unsigned line_bytes() const;
  std::uint32_t start() const { return std::uint32_t{crtc_[0xc]} << 8 | crtc_[0xd]; }
  std::array<std::uint8_t, 3> color(unsigned index) const;
  std::array<std::uint8_t, 3> attribute_color(unsigned index) const;
  void draw_text(Picture& out) const;
  void draw_planes(Picture& out) const;
  void draw_vbe(Picture& out) const;

  std::unique_ptr<std::uint8_t, Free> memory_;
  std::array<std::uint8_t, 5> sequencer_{};
  std::array<std::uint8_t, 25> crtc_{};
  std::array<std::uint8_t, 9> graphics_{};
  std::array<std::uint8_t, 21> attribute_{};
  std::array<std::uint8_t, 768> dac_{};
  std::array<std::uint8_t, 4> latch_{};
  std::array<std::uint16_t, VBE_COUNT> vbe_{};
  std::uint8_t misc_ = 0, feature_ = 0, status1_ = 0, sequencer_index_ = 0, crtc_index_ = 0, graphics_index_ = 0,
               attribute_index_ = 0, pel_mask_ = 0xff, dac_read_ = 0, dac_write_ = 0, dac_part_ = 0;
  bool attribute_data_ = false;  ///< the next write to 3C0h is data
  bool dac_reading_ = false;
};

/// PCI id 1234:1111: framebuffer in BAR 0, registers in BAR 2. The legacy ports and the window are plugged in beside.
class VgaFunction final : public PciFunction {
 public:
  VgaFunction();
  Vga& vga() { return vga_; }
  machine::Device& ports() { return ports_; }          ///< 3B0h to 3DFh; has the chip's state
  machine::Device& vbe_ports() { return vbe_ports_; }  ///< 1CEh and two more
  machine::Device& window() { return window_; }        ///< A0000h, 128 KiB

 private:
  struct Stateless : machine::Device {
    explicit Stateless(Vga& owner) : vga(owner) {}
    void save(machine::SnapshotWriter&) const override {}
    void restore(machine::SnapshotReader&) override {}
    void reset() override {}
    Vga& vga;
  };
  struct Ports final : machine::Device {
    explicit Ports(Vga& owner) : vga(owner) {}
    std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
    void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
    void save(machine::SnapshotWriter& out) const override { vga.save(out); }
    void restore(machine::SnapshotReader& in) override { vga.restore(in); }
    void reset() override { vga.reset(); }
    Vga& vga;
  };
  struct VbePorts final : Stateless {
    using Stateless::Stateless;
    std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
    void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  };
  struct Window final : Stateless {
    using Stateless::Stateless;
    std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
    void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  };
  struct Framebuffer final : Stateless {
    using Stateless::Stateless;
    std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
    void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  };
  struct Registers final : Stateless {
    using Stateless::Stateless;
    std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
    void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  };

  Vga vga_;
  Ports ports_{vga_};
  VbePorts vbe_ports_{vga_};
  Window window_{vga_};
  Framebuffer framebuffer_{vga_};
  Registers registers_{vga_};
};

}  // namespace veneer::devices
