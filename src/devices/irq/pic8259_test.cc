// The 8259A pair: initialisation, priorities, every EOI, masks, modes, cascade, ELCR.
#include "devices/irq/pic8259.h"

#include <gtest/gtest.h>

#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::FakeIrqLine;
using testing::in8;
using testing::out8;

constexpr std::uint8_t NON_SPECIFIC_EOI = 0x20;
constexpr std::uint8_t SPECIFIC_EOI = 0x60;
constexpr std::uint8_t READ_IRR = 0x0a;
constexpr std::uint8_t READ_ISR = 0x0b;
constexpr std::uint8_t POLL = 0x0c;
constexpr std::uint8_t SET_SPECIAL_MASK = 0x68;

class Pic8259Test : public ::testing::Test {
 protected:
  Pic8259Test() { initialise(0x01, 0x01); }

  void initialise(std::uint8_t master_icw4, std::uint8_t slave_icw4) {
    out8(pic.master(), 0, 0x11);
    out8(pic.master(), 1, 0x20);
    out8(pic.master(), 1, 0x04);
    out8(pic.master(), 1, master_icw4);
    out8(pic.slave(), 0, 0x11);
    out8(pic.slave(), 1, 0x28);
    out8(pic.slave(), 1, 0x02);
    out8(pic.slave(), 1, slave_icw4);
  }
  void raise(unsigned irq) { pic.input(irq).set(true); }
  void lower(unsigned irq) { pic.input(irq).set(false); }
  std::uint8_t isr(machine::Device& chip) {
    out8(chip, 0, READ_ISR);
    return in8(chip, 0);
  }
  std::uint8_t irr(machine::Device& chip) {
    out8(chip, 0, READ_IRR);
    return in8(chip, 0);
  }

  FakeIrqLine intr;
  Pic8259Pair pic{intr};
};

TEST_F(Pic8259Test, EdgeRaisesIntr) {
  raise(4);
  EXPECT_TRUE(intr.level);
}

TEST_F(Pic8259Test, AcknowledgeGivesVector) {
  raise(4);
  EXPECT_EQ(pic.acknowledge(), 0x24);
}

TEST_F(Pic8259Test, AcknowledgeMovesRequestIntoService) {
  raise(4);
  pic.acknowledge();
  EXPECT_EQ(irr(pic.master()), 0);
  EXPECT_EQ(isr(pic.master()), 0x10);
}

TEST_F(Pic8259Test, HighestPriorityComesFirst) {
  raise(4);
  raise(1);
  EXPECT_EQ(pic.acknowledge(), 0x21);
}

TEST_F(Pic8259Test, LowerPriorityWaitsForEoi) {
  raise(1);
  pic.acknowledge();
  raise(4);
  EXPECT_FALSE(intr.level);
  out8(pic.master(), 0, NON_SPECIFIC_EOI);
  EXPECT_TRUE(intr.level);
}

TEST_F(Pic8259Test, HigherPriorityInterruptsService) {
  raise(4);
  pic.acknowledge();
  raise(1);
  EXPECT_TRUE(intr.level);
}

TEST_F(Pic8259Test, NonSpecificEoiEndsTheHighest) {
  raise(4);
  pic.acknowledge();
  raise(1);
  pic.acknowledge();
  out8(pic.master(), 0, NON_SPECIFIC_EOI);
  EXPECT_EQ(isr(pic.master()), 0x10);
}

TEST_F(Pic8259Test, SpecificEoiEndsTheNamed) {
  raise(4);
  pic.acknowledge();
  raise(1);
  pic.acknowledge();
  out8(pic.master(), 0, SPECIFIC_EOI | 4);
  EXPECT_EQ(isr(pic.master()), 0x02);
}

TEST_F(Pic8259Test, HeldEdgeLineDoesNotFireTwice) {
  raise(4);
  pic.acknowledge();
  out8(pic.master(), 0, NON_SPECIFIC_EOI);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic8259Test, MaskedInputWaits) {
  out8(pic.master(), 1, 0x10);
  raise(4);
  EXPECT_FALSE(intr.level);
  out8(pic.master(), 1, 0x00);
  EXPECT_TRUE(intr.level);
}

TEST_F(Pic8259Test, RequestThatGoesAwayIsSpurious) {
  raise(4);
  lower(4);
  EXPECT_EQ(pic.acknowledge(), 0x27);
  EXPECT_EQ(isr(pic.master()), 0);
}

TEST_F(Pic8259Test, SlaveGivesItsVectorThroughTheCascade) {
  raise(12);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pic.acknowledge(), 0x2c);
  EXPECT_EQ(isr(pic.master()), 0x04);
  EXPECT_EQ(isr(pic.slave()), 0x10);
}

TEST_F(Pic8259Test, SecondSlaveRequestArrivesAfterBothEois) {
  raise(8);
  raise(12);
  EXPECT_EQ(pic.acknowledge(), 0x28);
  out8(pic.slave(), 0, NON_SPECIFIC_EOI);
  out8(pic.master(), 0, NON_SPECIFIC_EOI);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pic.acknowledge(), 0x2c);
}

TEST_F(Pic8259Test, SlaveRequestThatGoesAwayIsSpuriousOnTheMaster) {
  raise(12);
  lower(12);  // the cascade falls with it
  EXPECT_EQ(pic.acknowledge(), 0x27);
}

TEST_F(Pic8259Test, AutomaticEoiLeavesNothingInService) {
  initialise(0x03, 0x01);
  raise(4);
  pic.acknowledge();
  EXPECT_EQ(isr(pic.master()), 0);
}

TEST_F(Pic8259Test, RotateOnAutomaticEoiMakesItTheLowest) {
  initialise(0x03, 0x01);
  out8(pic.master(), 0, 0x80);
  raise(3);
  pic.acknowledge();
  lower(3);
  raise(3);
  raise(4);
  EXPECT_EQ(pic.acknowledge(), 0x24);
}

TEST_F(Pic8259Test, RotateOnNonSpecificEoiMakesItTheLowest) {
  raise(3);
  pic.acknowledge();
  out8(pic.master(), 0, 0xa0);
  lower(3);
  raise(3);
  raise(4);
  EXPECT_EQ(pic.acknowledge(), 0x24);
}

TEST_F(Pic8259Test, RotateOnSpecificEoiMakesItTheLowest) {
  raise(3);
  pic.acknowledge();
  out8(pic.master(), 0, 0xe0 | 3);
  lower(3);
  raise(3);
  raise(5);
  EXPECT_EQ(pic.acknowledge(), 0x25);
}

TEST_F(Pic8259Test, SetPriorityCommandNamesTheLowest) {
  out8(pic.master(), 0, 0xc0 | 4);
  raise(0);
  raise(5);
  EXPECT_EQ(pic.acknowledge(), 0x25);
}

TEST_F(Pic8259Test, SpecialMaskModeLetsLowerPrioritiesThrough) {
  raise(1);
  pic.acknowledge();
  raise(4);
  out8(pic.master(), 0, SET_SPECIAL_MASK);
  out8(pic.master(), 1, 0x02);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pic.acknowledge(), 0x24);
}

TEST_F(Pic8259Test, SpecialFullyNestedModeLetsTheSlaveNest) {
  initialise(0x11, 0x01);
  raise(12);
  pic.acknowledge();
  raise(8);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pic.acknowledge(), 0x28);
}

TEST_F(Pic8259Test, WithoutSpecialFullyNestedModeTheSlaveWaits) {
  raise(12);
  pic.acknowledge();
  raise(8);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic8259Test, PollAcknowledges) {
  raise(4);
  out8(pic.master(), 0, POLL);
  EXPECT_EQ(in8(pic.master(), 0), 0x84);
  EXPECT_EQ(isr(pic.master()), 0x10);
}

TEST_F(Pic8259Test, PollWithoutRequestGivesZero) {
  out8(pic.master(), 0, POLL);
  EXPECT_EQ(in8(pic.master(), 0), 0);
}

TEST_F(Pic8259Test, LevelInputFiresAgainWhileHeld) {
  out8(pic.elcr(), 1, 0x04);
  raise(10);
  pic.acknowledge();
  out8(pic.slave(), 0, NON_SPECIFIC_EOI);
  out8(pic.master(), 0, NON_SPECIFIC_EOI);
  EXPECT_TRUE(intr.level);
}

TEST_F(Pic8259Test, ElcrKeepsTimerKeyboardAndCascadeEdgeTriggered) {
  out8(pic.elcr(), 0, 0xff);
  EXPECT_EQ(in8(pic.elcr(), 0), 0xf8);
}

TEST_F(Pic8259Test, ElcrKeepsClockAndCoprocessorEdgeTriggered) {
  out8(pic.elcr(), 1, 0xff);
  EXPECT_EQ(in8(pic.elcr(), 1), 0xde);
}

TEST_F(Pic8259Test, Icw1ClearsMaskAndService) {
  raise(4);
  pic.acknowledge();
  out8(pic.master(), 1, 0xff);
  initialise(0x01, 0x01);
  EXPECT_EQ(in8(pic.master(), 1), 0);
  EXPECT_EQ(isr(pic.master()), 0);
}

TEST_F(Pic8259Test, NothingIsDeliveredDuringInitialisation) {
  out8(pic.master(), 0, 0x11);
  raise(4);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic8259Test, MaskReadsBackBeforeInitialisation) {
  // Linux's probe for the chip.
  Pic8259Pair fresh(intr);
  out8(fresh.master(), 1, 0xfb);
  EXPECT_EQ(in8(fresh.master(), 1), 0xfb);
}

TEST_F(Pic8259Test, SixteenBitWriteReachesBothRegisters) {
  pic.master().write(0, 2, 0x5520);
  EXPECT_EQ(in8(pic.master(), 1), 0x55);
}

}  // namespace
}  // namespace veneer::devices
