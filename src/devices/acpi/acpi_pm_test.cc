// PM1 registers, PM timer, power button; sleep registers of reduced machines.
#include "devices/acpi/acpi_pm.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"
#include "devices/acpi/acpi_sleep.h"

namespace veneer::devices {
namespace {

struct TestLine final : machine::IrqLine {
  void set(bool value) override { level = value; }
  bool level = false;
};

struct TestPower final : machine::PowerControl {
  void power_off() override { ++offs; }
  void reset() override { ++resets; }
  void guest_exit(int) override {}
  int offs = 0, resets = 0;
};

class AcpiPmTest : public testing::Test {
 protected:
  ManualTimers timers;
  TestLine sci;
  TestPower power;
  AcpiPm pm{sci, timers, power};
};

TEST_F(AcpiPmTest, StartsInAcpiMode) { EXPECT_EQ(pm.read(4, 2), 1u); }

TEST_F(AcpiPmTest, ThePowerButtonInterruptsWhenEnabled) {
  pm.write(2, 2, 0x100);
  pm.press_power_button();
  EXPECT_TRUE(sci.level);
  EXPECT_EQ(pm.read(0, 2), 0x100u);
}

TEST_F(AcpiPmTest, ThePowerButtonIsSilentWhenDisabled) {
  pm.press_power_button();
  EXPECT_FALSE(sci.level);
}

TEST_F(AcpiPmTest, ThePowerButtonIsHeardOnceItIsEnabled) {
  EXPECT_FALSE(pm.power_button_heard());
  pm.write(2, 2, 0x100);
  EXPECT_TRUE(pm.power_button_heard());
}

TEST_F(AcpiPmTest, WritingOneClearsTheStatusAndTheLine) {
  pm.write(2, 2, 0x100);
  pm.press_power_button();
  pm.write(0, 2, 0x100);
  EXPECT_FALSE(sci.level);
  EXPECT_EQ(pm.read(0, 2), 0u);
}

TEST_F(AcpiPmTest, StatusAndEnableAsOneDword) {
  pm.write(0, 4, 0x0100'0000);
  EXPECT_EQ(pm.read(0, 4), 0x0100'0000u);
}

TEST_F(AcpiPmTest, SleepTypeZeroSwitchesOff) {
  pm.write(4, 2, 1u << 13);
  EXPECT_EQ(power.offs, 1);
}

TEST_F(AcpiPmTest, OtherSleepTypesDoNot) {
  pm.write(4, 2, (5u << 10) | (1u << 13));
  EXPECT_EQ(power.offs, 0);
}

TEST_F(AcpiPmTest, SleepEnableInASecondByteWriteCounts) {
  pm.write(4, 1, 1);
  pm.write(5, 1, 1u << 5);
  EXPECT_EQ(power.offs, 1);
}

TEST_F(AcpiPmTest, TheTimerCountsAt3579545Hz) {
  timers.advance(1'000'000'000);
  EXPECT_EQ(pm.read(8, 4), 3'579'545u);
}

TEST_F(AcpiPmTest, TheTimerHas32Bits) {
  timers.advance(2'000'000'000'000);
  EXPECT_EQ(pm.read(8, 4), 7'159'090'000u % (std::uint64_t{1} << 32));
}

TEST_F(AcpiPmTest, TheTimerInterruptsWhenItsHighBitChanges) {
  pm.write(2, 2, 1);
  timers.advance(400'000'000'000);
  EXPECT_FALSE(sci.level);
  timers.advance(200'000'000'000);
  EXPECT_TRUE(sci.level);
}

TEST_F(AcpiPmTest, TheTimerInterruptsAgainAfterItWasCleared) {
  pm.write(2, 2, 1);
  timers.advance(600'000'000'000);
  pm.write(0, 2, 1);
  EXPECT_FALSE(sci.level);
  timers.advance(600'000'000'000);
  EXPECT_TRUE(sci.level);
}

TEST_F(AcpiPmTest, SaveDisturbRestoreSaveIsEqual) {
  pm.write(2, 2, 0x100);
  pm.press_power_button();
  machine::SnapshotWriter before, after;
  pm.save(before);
  pm.reset();
  machine::SnapshotReader reader(before.data());
  pm.restore(reader);
  pm.save(after);
  EXPECT_EQ(before.data(), after.data());
  EXPECT_TRUE(sci.level);
}

class AcpiSleepTest : public testing::Test {
 protected:
  TestLine line;
  TestPower power;
  AcpiSleep sleep{line, power};
};

TEST_F(AcpiSleepTest, SleepTypeZeroSwitchesOff) {
  sleep.write(0, 1, (5u << 2) | (1u << 5));
  EXPECT_EQ(power.offs, 1);
}

TEST_F(AcpiSleepTest, TheSleepTypeAloneDoesNot) {
  sleep.write(0, 1, 5u << 2);
  EXPECT_EQ(power.offs, 0);
}

TEST_F(AcpiSleepTest, TheResetRegisterTakesItsValueOnly) {
  sleep.write(3, 1, 2);
  EXPECT_EQ(power.resets, 0);
  sleep.write(3, 1, 1);
  EXPECT_EQ(power.resets, 1);
}

TEST_F(AcpiSleepTest, ReadingTheEventLowersTheLine) {
  sleep.press_power_button();
  EXPECT_TRUE(line.level);
  EXPECT_EQ(sleep.read(2, 1), 1u);
  EXPECT_FALSE(line.level);
  EXPECT_EQ(sleep.read(2, 1), 0u);
}

}  // namespace
}  // namespace veneer::devices
