// The mouse: what drivers ask, packets, the wheel.
#include "devices/input/ps2_mouse.h"

#include <gtest/gtest.h>

#include <vector>

namespace veneer::devices {
namespace {

using Bytes = std::vector<std::uint8_t>;

class MouseTest : public ::testing::Test {
 protected:
  Bytes output() {
    Bytes bytes;
    while (mouse.has_output()) bytes.push_back(mouse.take());
    return bytes;
  }
  Bytes command(std::initializer_list<std::uint8_t> bytes) {
    Bytes answers;
    for (const std::uint8_t byte : bytes) {
      mouse.receive(byte);
      const Bytes more = output();
      answers.insert(answers.end(), more.begin(), more.end());
    }
    return answers;
  }
  void ask_for_wheel() { command({0xf3, 200, 0xf3, 100, 0xf3, 80}); }

  Ps2Mouse mouse;
};

TEST_F(MouseTest, ResetPassesAndTellsItsId) { EXPECT_EQ(command({0xff}), (Bytes{0xfa, 0xaa, 0x00})); }

TEST_F(MouseTest, PlainId) { EXPECT_EQ(command({0xf2}), (Bytes{0xfa, 0x00})); }

TEST_F(MouseTest, WheelId) {
  ask_for_wheel();
  EXPECT_EQ(command({0xf2}), (Bytes{0xfa, 0x03}));
}

TEST_F(MouseTest, FiveButtonId) {
  ask_for_wheel();
  command({0xf3, 200, 0xf3, 200, 0xf3, 80});
  EXPECT_EQ(command({0xf2}), (Bytes{0xfa, 0x04}));
}

TEST_F(MouseTest, SilentUntilEnabled) {
  mouse.move(5, 5, 0);
  EXPECT_EQ(output(), Bytes{});
}

TEST_F(MouseTest, MovementUpIsPositive) {
  command({0xf4});
  mouse.move(5, -3, 0);
  EXPECT_EQ(output(), (Bytes{0x08, 5, 3}));
}

TEST_F(MouseTest, MovementDownAndLeftHasSigns) {
  command({0xf4});
  mouse.move(-1, 1, 0);
  EXPECT_EQ(output(), (Bytes{0x38, 0xff, 0xff}));
}

TEST_F(MouseTest, ButtonsAreReportedWithoutMovement) {
  command({0xf4});
  mouse.set_buttons(Ps2Mouse::LEFT | Ps2Mouse::MIDDLE);
  EXPECT_EQ(output(), (Bytes{0x0d, 0, 0}));
}

TEST_F(MouseTest, FarMovementTakesSeveralPackets) {
  command({0xf4});
  mouse.move(300, 0, 0);
  EXPECT_EQ(output(), (Bytes{0x08, 127, 0, 0x08, 127, 0, 0x08, 46, 0}));
}

TEST_F(MouseTest, WheelIsAFourthByte) {
  ask_for_wheel();
  command({0xf4});
  mouse.move(0, 0, -1);
  EXPECT_EQ(output(), (Bytes{0x08, 0, 0, 0xff}));
}

TEST_F(MouseTest, FifthButtonStandsBesideTheWheel) {
  ask_for_wheel();
  command({0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf4});
  mouse.set_buttons(Ps2Mouse::FIFTH);
  EXPECT_EQ(output(), (Bytes{0x08, 0, 0, 0x20}));
}

TEST_F(MouseTest, RemoteModeReportsWhenAsked) {
  command({0xf0, 0xf4});
  mouse.move(5, 0, 0);
  EXPECT_EQ(output(), Bytes{});
  EXPECT_EQ(command({0xeb}), (Bytes{0xfa, 0x08, 5, 0}));
}

TEST_F(MouseTest, DoubleScaling) {
  command({0xe7, 0xf4});
  mouse.move(3, 10, 0);
  EXPECT_EQ(output(), (Bytes{0x28, 3, 0xec}));
}

TEST_F(MouseTest, Status) {
  command({0xe8, 3, 0xf3, 60, 0xf4});
  EXPECT_EQ(command({0xe9}), (Bytes{0xfa, 0x20, 3, 60}));
}

TEST_F(MouseTest, WrapModeEchoes) {
  EXPECT_EQ(command({0xee, 0xf4, 0x12, 0xec, 0xf2}), (Bytes{0xfa, 0xf4, 0x12, 0xfa, 0xfa, 0x00}));
}

TEST_F(MouseTest, UnknownCommandIsAskedForAgain) { EXPECT_EQ(command({0x12}), (Bytes{0xfe})); }

TEST_F(MouseTest, CommandCutsAPacket) {
  command({0xf4});
  mouse.move(1, 0, 0);
  mouse.take();
  EXPECT_EQ(command({0xf5}), (Bytes{0xfa}));
}

TEST_F(MouseTest, EndlessMovementIsBounded) {
  command({0xf4});
  for (unsigned i = 0; i < 100; ++i) mouse.move(2'000'000'000, -2'000'000'000, 2'000'000'000);
  EXPECT_LT(output().size(), 3u * (1u << 20));
}

}  // namespace
}  // namespace veneer::devices
