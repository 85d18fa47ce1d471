// The 8042 and its keyboard: what BIOSes and Linux ask of them.
#include "devices/legacy/i8042.h"

#include <gtest/gtest.h>

#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;

class I8042Test : public ::testing::Test {
 protected:
  void command(std::uint8_t value) { out8(controller.command_port(), 0, value); }
  void data(std::uint8_t value) { out8(controller.data_port(), 0, value); }
  std::uint8_t data() { return in8(controller.data_port(), 0); }
  std::uint8_t status() { return in8(controller.command_port(), 0); }
  void set_config(std::uint8_t value) {
    command(0x60);
    data(value);
  }
  bool full() { return (status() & 1) != 0; }
  void press(std::initializer_list<std::uint8_t> codes) { controller.key(std::span(codes.begin(), codes.size())); }

  testing::FakeIrqLine irq;
  unsigned resets = 0;
  Ps2Controller8042 controller{irq, [this] { ++resets; }};
};

TEST_F(I8042Test, SelfTestPasses) {
  command(0xaa);
  EXPECT_EQ(data(), 0x55);
  EXPECT_TRUE(status() & 4);
}

TEST_F(I8042Test, ConfigurationReadsBack) {
  set_config(0x41);
  command(0x20);
  EXPECT_EQ(data(), 0x41);
}

TEST_F(I8042Test, InterfaceTestPasses) {
  command(0xab);
  EXPECT_EQ(data(), 0x00);
}

TEST_F(I8042Test, AuxiliaryPortTestFails) {
  command(0xa9);
  EXPECT_NE(data(), 0x00);
}

TEST_F(I8042Test, AuxiliaryLoopDoesNotClaimAMouse) {
  command(0xd3);
  data(0x5a);
  EXPECT_EQ(status() & 0x20, 0);
}

TEST_F(I8042Test, ResetPulse) {
  command(0xfe);
  EXPECT_EQ(resets, 1u);
}

TEST_F(I8042Test, PulseOfOtherLinesDoesNotReset) {
  command(0xff);
  EXPECT_EQ(resets, 0u);
}

TEST_F(I8042Test, ResetThroughTheOutputPort) {
  command(0xd1);
  data(0xfe);
  EXPECT_EQ(resets, 1u);
}

TEST_F(I8042Test, A20FollowsTheOutputPort) {
  command(0xd1);
  data(0x01);
  EXPECT_FALSE(controller.a20_enabled());
}

TEST_F(I8042Test, OutputPortShowsTheFullBuffer) {
  command(0xd2);
  data(0x00);
  command(0xd0);
  EXPECT_EQ(data() & 0x13, 0x13);
}

TEST_F(I8042Test, KeyIsTranslatedToSet1) {
  press({0x1c});
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, ReleaseIsTranslatedToSet1) {
  press({0xf0, 0x1c});
  EXPECT_EQ(data(), 0x9e);
  EXPECT_FALSE(full());
}

TEST_F(I8042Test, UntranslatedKeysComeAsTheyAre) {
  set_config(0x01);
  press({0xf0, 0x1c});
  EXPECT_EQ(data(), 0xf0);
  EXPECT_EQ(data(), 0x1c);
}

TEST_F(I8042Test, KeyInterrupts) {
  press({0x1c});
  EXPECT_TRUE(irq.level);
  data();
  EXPECT_FALSE(irq.level);
}

TEST_F(I8042Test, EachByteMakesItsOwnEdge) {
  press({0x1c, 0x32});
  EXPECT_EQ(irq.rises, 1u);
  data();
  EXPECT_EQ(irq.rises, 2u);
}

TEST_F(I8042Test, InterruptCanBeSwitchedOff) {
  set_config(0x40);
  press({0x1c});
  EXPECT_FALSE(irq.level);
  EXPECT_TRUE(full());
}

TEST_F(I8042Test, DisabledInterfaceHoldsKeysBack) {
  command(0xad);
  press({0x1c});
  EXPECT_FALSE(full());
  command(0xae);
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, ByteInTheBufferSurvivesDisabling) {
  press({0x1c});
  command(0xad);
  EXPECT_TRUE(full());
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, ControllerReplyGoesBeforeKeys) {
  press({0x1c});
  command(0xaa);
  EXPECT_EQ(data(), 0x55);
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, KeyboardIdentifiesItself) {
  set_config(0x00);
  data(0xf2);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_EQ(data(), 0xab);
  EXPECT_EQ(data(), 0x83);
}

TEST_F(I8042Test, KeyboardResetPasses) {
  data(0xff);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_EQ(data(), 0xaa);
}

TEST_F(I8042Test, LedsTakeAnArgument) {
  data(0xed);
  EXPECT_EQ(data(), 0xfa);
  data(0x07);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_FALSE(full());
}

TEST_F(I8042Test, ScanCodeSetCanBeAsked) {
  set_config(0x00);
  data(0xf0);
  data(0x00);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_EQ(data(), 0x02);
}

TEST_F(I8042Test, UnknownKeyboardCommandAsksAgain) {
  data(0x01);
  EXPECT_EQ(data(), 0xfe);
}

TEST_F(I8042Test, KeysAreDroppedWhileNotScanning) {
  data(0xf5);
  data();
  press({0x1c});
  EXPECT_FALSE(full());
}

TEST_F(I8042Test, FloodOfKeysIsDropped) {
  for (int i = 0; i < 100; ++i) press({0x1c});
  int count = 0;
  while (full() && count < 1000) {
    data();
    ++count;
  }
  EXPECT_LE(count, 33);
}

TEST_F(I8042Test, EmptyBufferRepeatsTheLastByte) {
  press({0x1c});
  data();
  EXPECT_EQ(data(), 0x1e);
}

}  // namespace
}  // namespace veneer::devices
