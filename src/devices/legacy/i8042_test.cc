// The 8042 and its keyboard: what BIOSes and Linux ask of them.
#include "devices/legacy/i8042.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"
#include "devices/input/ps2_keyboard.h"
#include "devices/input/ps2_mouse.h"
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
  void press(Key key) { keyboard.key(key, true); }
  void release(Key key) { keyboard.key(key, false); }
  void mouse_byte(std::uint8_t value) {
    command(0xd4);
    data(value);
  }
  bool from_mouse() { return (status() & 0x21) == 0x21; }

  static constexpr Key A{0x1e}, B{0x30};
  ManualTimers timers;
  testing::FakeIrqLine irq, mouse_irq;
  unsigned resets = 0;
  Ps2Keyboard keyboard{timers};
  Ps2Mouse mouse;
  Ps2Controller8042 controller{irq, mouse_irq, keyboard, mouse, [this] { ++resets; }};
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

TEST_F(I8042Test, AuxiliaryPortTestPasses) {
  command(0xa9);
  EXPECT_EQ(data(), 0x00);
}

TEST_F(I8042Test, AuxiliaryLoopComesBackAsTheMouses) {
  command(0xd3);
  data(0x5a);
  EXPECT_TRUE(from_mouse());
  EXPECT_EQ(data(), 0x5a);
}

TEST_F(I8042Test, MouseAnswersOnItsOwnInterrupt) {
  set_config(0x03);
  mouse_byte(0xf4);
  EXPECT_TRUE(mouse_irq.level);
  EXPECT_FALSE(irq.level);
  EXPECT_TRUE(from_mouse());
  EXPECT_EQ(data(), 0xfa);
  EXPECT_FALSE(mouse_irq.level);
}

TEST_F(I8042Test, DisabledAuxiliaryPortHoldsBytesBack) {
  mouse_byte(0xf4);
  EXPECT_FALSE(full());
  command(0xa8);
  EXPECT_TRUE(from_mouse());
}

TEST_F(I8042Test, MouseBytesAreNotTranslated) {
  command(0xa8);
  mouse_byte(0xff);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_EQ(data(), 0xaa);
  EXPECT_EQ(data(), 0x00);
}

TEST_F(I8042Test, MovementThatWaitsComesWhenThePacketIsRead) {
  command(0xa8);
  mouse_byte(0xf4);
  data();
  mouse.move(1, 0, 0);
  mouse.move(2, 0, 0);
  EXPECT_EQ(data(), 0x08);
  EXPECT_EQ(data(), 1);
  EXPECT_EQ(data(), 0);
  EXPECT_EQ(data(), 0x08);
  EXPECT_EQ(data(), 2);
  EXPECT_EQ(data(), 0);
  EXPECT_FALSE(full());
}

TEST_F(I8042Test, ReleaseThatAReplyPushedBackStaysARelease) {
  press(A);
  data();
  release(A);
  command(0xaa);
  EXPECT_EQ(data(), 0x55);
  EXPECT_EQ(data(), 0x9e);
}

TEST_F(I8042Test, IdleOnlyWhenAllIsTaken) {
  EXPECT_TRUE(controller.keyboard_idle());
  press(A);
  EXPECT_FALSE(controller.keyboard_idle());
  data();
  EXPECT_TRUE(controller.keyboard_idle());
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
  press(A);
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, ReleaseIsTranslatedToSet1) {
  press(A);
  data();
  release(A);
  EXPECT_EQ(data(), 0x9e);
  EXPECT_FALSE(full());
}

TEST_F(I8042Test, UntranslatedKeysComeAsTheyAre) {
  set_config(0x01);
  press(A);
  data();
  release(A);
  EXPECT_EQ(data(), 0xf0);
  EXPECT_EQ(data(), 0x1c);
}

TEST_F(I8042Test, KeyInterrupts) {
  press(A);
  EXPECT_TRUE(irq.level);
  data();
  EXPECT_FALSE(irq.level);
}

TEST_F(I8042Test, EachByteMakesItsOwnEdge) {
  press(A);
  press(B);
  EXPECT_EQ(irq.rises, 1u);
  data();
  EXPECT_EQ(irq.rises, 2u);
}

TEST_F(I8042Test, InterruptCanBeSwitchedOff) {
  set_config(0x40);
  press(A);
  EXPECT_FALSE(irq.level);
  EXPECT_TRUE(full());
}

TEST_F(I8042Test, DisabledInterfaceHoldsKeysBack) {
  command(0xad);
  press(A);
  EXPECT_FALSE(full());
  command(0xae);
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, ByteInTheBufferSurvivesDisabling) {
  press(A);
  command(0xad);
  EXPECT_TRUE(full());
  EXPECT_EQ(data(), 0x1e);
}

TEST_F(I8042Test, ControllerReplyGoesBeforeKeys) {
  press(A);
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
  press(A);
  EXPECT_FALSE(full());
}

TEST_F(I8042Test, FloodOfKeysIsDropped) {
  for (int i = 0; i < 100; ++i) {
    press(A);
    release(A);
  }
  int count = 0;
  while (full() && count < 1000) {
    data();
    ++count;
  }
  EXPECT_LE(count, 33);
}

TEST_F(I8042Test, EmptyBufferRepeatsTheLastByte) {
  press(A);
  data();
  EXPECT_EQ(data(), 0x1e);
}

}  // namespace
}  // namespace veneer::devices
