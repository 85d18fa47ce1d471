// ResetPort, DebugExit, CoprocessorError, PostCode and the devices of test kernels.
#include <gtest/gtest.h>

#include "devices/legacy/coprocessor_error.h"
#include "devices/legacy/debug_exit.h"
#include "devices/legacy/post_code.h"
#include "devices/legacy/reset_port.h"
#include "devices/legacy/test_device.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;

TEST(TestPorts, PartsOfAWordAreReadBack) {
  TestPorts ports;
  ports.write(0, 4, 0x44332211);
  ports.write(1, 2, 0xbbaa);
  EXPECT_EQ(ports.read(0, 4), 0x44bbaa11u);
  EXPECT_EQ(ports.read(8 + 2, 1), 0xbbu);
}

TEST(TestLines, APortPullsItsLine) {
  testing::FakeIrqLine line, other;
  TestLines::Lines all{};
  all.fill(&other);
  all[14] = &line;
  TestLines lines(all);
  out8(lines, 14, 1);
  EXPECT_TRUE(line.level);
  out8(lines, 14, 0);
  EXPECT_FALSE(line.level);
  EXPECT_EQ(other.rises, 0u);
}

TEST(TestMemory, ReadsWhatWasWritten) {
  TestMemory memory;
  memory.write(0xfff8, 8, 0x1122334455667788);
  EXPECT_EQ(memory.read(0xfffc, 4), 0x11223344u);
}

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
