// ResetPort, DebugExit, CoprocessorError and PostCode.
#include <gtest/gtest.h>

#include "devices/legacy/coprocessor_error.h"
#include "devices/legacy/debug_exit.h"
#include "devices/legacy/post_code.h"
#include "devices/legacy/reset_port.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;

TEST(ResetPort, RisingBitResets) {
  testing::FakePower power;
  ResetPort port(power);
  out8(port, 0, 0x02);
  out8(port, 0, 0x06);
  EXPECT_EQ(power.resets, 1u);
}

TEST(ResetPort, HeldBitDoesNotResetAgain) {
  testing::FakePower power;
  ResetPort port(power);
  out8(port, 0, 0x06);
  out8(port, 0, 0x06);
  EXPECT_EQ(power.resets, 1u);
}

TEST(ResetPort, ResetTypeAloneDoesNothing) {
  testing::FakePower power;
  ResetPort port(power);
  out8(port, 0, 0x02);
  EXPECT_EQ(power.resets, 0u);
  EXPECT_EQ(in8(port, 0), 0x02);
}

TEST(CoprocessorError, RaisesItsInterruptUntilPortF0) {
  testing::FakeIrqLine irq;
  CoprocessorError port(irq);
  port.raise();
  EXPECT_TRUE(irq.level);
  out8(port, 0, 0);
  EXPECT_FALSE(irq.level);
}

TEST(DebugExit, StatusIsOdd) {
  testing::FakePower power;
  DebugExit port(power);
  out8(port, 0, 0x10);
  EXPECT_EQ(power.exit_status, 0x21);
}

TEST(DebugExit, WideValueKeepsEightBits) {
  testing::FakePower power;
  DebugExit port(power);
  port.write(0, 4, 0xffffffff);
  EXPECT_EQ(power.exit_status, 0xff);
}

TEST(DebugExit, ReadsAsOnes) {
  testing::FakePower power;
  DebugExit port(power);
  EXPECT_EQ(port.read(0, 2), 0xffffu);
}

TEST(PostCode, KeepsTheLastValue) {
  PostCode port;
  out8(port, 0, 0xa5);
  EXPECT_EQ(port.last(), 0xa5);
  EXPECT_EQ(in8(port, 0), 0xa5);
}

}  // namespace
}  // namespace veneer::devices
