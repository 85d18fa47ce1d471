// VGA: text, planes, palettes, VBE; what the screen looks like; hostile register values.
#include "devices/display/vga.h"

#include <gtest/gtest.h>

#include "devices/display/png.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

class VgaTest : public ::testing::Test {
 protected:
  void sequencer(std::uint8_t index, std::uint8_t value) { pair(0x3c4, index, value); }
  void graphics(std::uint8_t index, std::uint8_t value) { pair(0x3ce, index, value); }
  void crtc(std::uint8_t index, std::uint8_t value) { pair(0x3d4, index, value); }
  void pair(std::uint16_t port, std::uint8_t index, std::uint8_t value) {
    vga.write_port(port, index);
    vga.write_port(static_cast<std::uint16_t>(port + 1), value);
  }
  /// 80 x 25 characters of 16 lines at B8000h.
  void text_mode() {
    vga.write_port(0x3c2, 0x67);
    sequencer(1, 0x01);
    sequencer(2, 0x03);
    sequencer(4, 0x02);
    graphics(5, 0x10);
    graphics(6, 0x0e);
    crtc(1, 79);
    crtc(7, 0x1f);
    crtc(9, 0x4f);
    crtc(0x12, 0x8f);
    crtc(0x13, 40);
  }
  void vbe(std::uint16_t x, std::uint16_t y, std::uint16_t bits) {
    vga.write_vbe(1, x);
    vga.write_vbe(2, y);
    vga.write_vbe(3, bits);
    vga.write_vbe(4, 0x41);
  }
  VgaFunction function;
  Vga& vga = function.vga();
};

TEST_F(VgaTest, TextIsWhatWasWritten) {
  text_mode();
  const std::string_view word = "Hello";
  for (std::uint32_t i = 0; i < word.size(); ++i) {
    vga.write_window(0x1'8000 + 2 * (80 + i), static_cast<std::uint8_t>(word[i]));
    vga.write_window(0x1'8000 + 2 * (80 + i) + 1, 7);
  }
  EXPECT_EQ(vga.text().substr(0, 7), "\nHello\n");
}

TEST_F(VgaTest, TextFollowsTheStartAddress) {
  text_mode();
  vga.write_window(0x1'8000 + 160, 'X');
  crtc(0xd, 80);
  EXPECT_EQ(vga.text().substr(0, 2), "X\n");
}

TEST_F(VgaTest, WindowOutsideOfTheSelectedPartIsEmpty) {
  text_mode();
  vga.write_window(0, 'X');
  EXPECT_EQ(vga.read_window(0), 0xff);
}

TEST_F(VgaTest, PlanesTakeTheirMask) {
  sequencer(4, 0x06);
  sequencer(2, 0x05);
  graphics(6, 0x05);
  graphics(8, 0xff);
  vga.write_window(10, 0xaa);
  EXPECT_EQ(vga.memory()[40], 0xaa);
  EXPECT_EQ(vga.memory()[41], 0);
  EXPECT_EQ(vga.memory()[42], 0xaa);
}

TEST_F(VgaTest, WriteMode2PutsAColor) {
  sequencer(4, 0x06);
  sequencer(2, 0x0f);
  graphics(6, 0x05);
  graphics(5, 0x02);
  graphics(8, 0x80);
  vga.write_window(0, 0x0a);
  EXPECT_EQ(vga.memory()[0], 0);
  EXPECT_EQ(vga.memory()[1], 0x80);
  EXPECT_EQ(vga.memory()[3], 0x80);
}

TEST_F(VgaTest, LatchesCopyInWriteMode1) {
  sequencer(4, 0x06);
  sequencer(2, 0x0f);
  graphics(6, 0x05);
  for (unsigned i = 0; i < 4; ++i) vga.memory()[i] = static_cast<std::uint8_t>(i + 1);
  (void)vga.read_window(0);
  graphics(5, 0x01);
  vga.write_window(7, 0);
  EXPECT_EQ(vga.memory()[28], 1);
  EXPECT_EQ(vga.memory()[31], 4);
}

TEST_F(VgaTest, StatusAlternatesForThoseWhoWait) {
  vga.write_port(0x3c2, 1);
  EXPECT_NE(vga.read_port(0x3da), vga.read_port(0x3da));
}

TEST_F(VgaTest, VbeShowsItsPixels) {
  vbe(640, 480, 32);
  vga.memory()[4] = 0x11;
  vga.memory()[5] = 0x22;
  vga.memory()[6] = 0x33;
  const Picture picture = vga.picture();
  EXPECT_EQ(picture.width, 640u);
  EXPECT_EQ(picture.height, 480u);
  EXPECT_EQ(picture.rgb[3], 0x33);
  EXPECT_EQ(picture.rgb[5], 0x11);
}

TEST_F(VgaTest, VbeRefusesNothingToShow) {
  vga.write_vbe(4, 0x41);
  EXPECT_EQ(vga.read_vbe(4), 0);
}

TEST_F(VgaTest, VbeTellsItsLimits) {
  vga.write_vbe(4, 2);
  EXPECT_EQ(vga.read_vbe(1), 2560);
  EXPECT_EQ(vga.read_vbe(0xa), 256);
}

TEST_F(VgaTest, HostileVbeValuesGiveSomePicture) {
  for (const unsigned bits : {4u, 8u, 15u, 16u, 24u, 32u}) {
    vga.write_vbe(4, 0);
    vbe(0xffff, 0xffff, static_cast<std::uint16_t>(bits));
    for (std::uint16_t index = 5; index < 10; ++index) vga.write_vbe(index, 0xffff);
    EXPECT_LE(vga.picture().rgb.size(), std::size_t{3} * 2560 * 1600);
  }
}

TEST_F(VgaTest, AnyRegistersAreSurvived) {
  std::uint32_t random = 1;
  for (int i = 0; i < 100'000; ++i) {
    random = random * 1664525 + 1013904223;
    const auto port = static_cast<std::uint16_t>(0x3b0 + (random >> 8) % 0x30);
    vga.write_port(port, static_cast<std::uint8_t>(random >> 24));
    (void)vga.read_port(port);
    vga.write_window((random >> 7) % 0x2'0000, static_cast<std::uint8_t>(random));
    (void)vga.read_window((random >> 5) % 0x2'0000);
    if (i % 5000 == 0) {
      (void)vga.text();
      (void)vga.picture();
    }
  }
  SUCCEED();
}

TEST_F(VgaTest, StateComesBack) {
  text_mode();
  vga.write_window(0x1'8000, 'X');
  const auto state = testing::saved(function.ports());
  vga.write_window(0x1'8000, 'Y');
  crtc(0xd, 3);
  ASSERT_TRUE(testing::restore(function.ports(), state));
  EXPECT_EQ(testing::saved(function.ports()), state);
  EXPECT_EQ(vga.text()[0], 'X');
}

TEST_F(VgaTest, DamagedStateKeepsRegistersInTheirBounds) {
  vbe(64, 64, 32);
  machine::SnapshotWriter out;
  vga.save(out);
  std::vector<std::byte> state = out.data();
  // All registers that are not the palette's; the video memory is behind them.
  constexpr std::size_t name_bytes = 7, first = 60, after_palette = first + 768;
  for (std::size_t i = name_bytes; i < first; ++i) state[i] = std::byte{0xff};
  for (std::size_t i = after_palette; i < after_palette + 36; ++i) state[i] = std::byte{0xff};
  machine::SnapshotReader in(state);
  vga.restore(in);
  EXPECT_FALSE(in.ok());
  EXPECT_LE(vga.read_vbe(3), 32);
  (void)vga.picture();
  for (std::uint32_t offset = 0; offset < 0x2'0000; offset += 0x777) (void)vga.read_window(offset);
}

TEST_F(VgaTest, PngHasItsChunks) {
  vbe(64, 32, 8);
  const auto png = encode_png(vga.picture());
  const std::string text(png.begin(), png.end());
  EXPECT_EQ(text.substr(1, 3), "PNG");
  EXPECT_EQ(text.substr(12, 4), "IHDR");
  EXPECT_NE(text.find("IDAT"), std::string::npos);
  EXPECT_EQ(text.substr(text.size() - 8, 4), "IEND");
}

}  // namespace
}  // namespace veneer::devices
