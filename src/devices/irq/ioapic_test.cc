// The I/O APIC with real local APICs behind it: edges, levels, remote IRR, EOI, destinations.
#include "devices/irq/ioapic.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/manual_timers.h"
#include "devices/irq/lapic.h"

namespace veneer::devices {
namespace {

constexpr std::uint32_t MASKED = 1u << 16;
constexpr std::uint32_t LEVEL = 1u << 15;
constexpr std::uint32_t REMOTE_IRR = 1u << 14;
constexpr std::uint32_t LOGICAL = 1u << 11;
constexpr std::uint32_t LOWEST = 1u << 8;
constexpr std::uint64_t EOI = 0xb0;

class IoApicTest : public ::testing::Test {
 protected:
  IoApicTest() {
    for (LocalApic* apic : {&cpu0, &cpu1}) apic->write(0xf0, 4, 0x1ff);
  }
  std::uint32_t get(std::uint8_t index) {
    io_apic.write(0x00, 4, index);
    return static_cast<std::uint32_t>(io_apic.read(0x10, 4));
  }
  void put(std::uint8_t index, std::uint32_t value) {
    io_apic.write(0x00, 4, index);
    io_apic.write(0x10, 4, value);
  }
  void route(unsigned pin, std::uint32_t low, std::uint8_t destination) {
    put(static_cast<std::uint8_t>(0x11 + 2 * pin), std::uint32_t{destination} << 24);
    put(static_cast<std::uint8_t>(0x10 + 2 * pin), low);
  }

  machine::BoardLock lock;
  ApicBus bus{lock};
  ManualTimers timers;
  LocalApic cpu0{0, bus, timers, nullptr, {}};
  LocalApic cpu1{1, bus, timers, nullptr, {}};
  IoApic io_apic{bus, timers};
};

TEST_F(IoApicTest, VersionTellsTwentyFourPins) { EXPECT_EQ(get(1), 0x00170020u); }

TEST_F(IoApicTest, EntriesComeUpMasked) { EXPECT_EQ(get(0x10), MASKED); }

TEST_F(IoApicTest, IdIsFourBits) {
  put(0, 0xff000000);
  EXPECT_EQ(get(0), 0x0f000000u);
}

TEST_F(IoApicTest, EdgeDelivers) {
  route(4, 0x34, 0);
  io_apic.input(4).set(true);
  EXPECT_EQ(cpu0.acknowledge(), 0x34);
}

TEST_F(IoApicTest, PhysicalDestinationSelectsOneProcessor) {
  route(4, 0x34, 1);
  io_apic.input(4).set(true);
  EXPECT_FALSE(cpu0.interrupt_pending());
  EXPECT_TRUE(cpu1.interrupt_pending());
}

TEST_F(IoApicTest, HeldEdgeDeliversOnce) {
  route(4, 0x34, 0);
  io_apic.input(4).set(true);
  cpu0.acknowledge();
  cpu0.write(EOI, 4, 0);
  io_apic.input(4).set(true);
  EXPECT_FALSE(cpu0.interrupt_pending());
}

TEST_F(IoApicTest, EdgeOnMaskedPinIsLost) {
  route(4, 0x34 | MASKED, 0);
  io_apic.input(4).set(true);
  route(4, 0x34, 0);
  EXPECT_FALSE(cpu0.interrupt_pending());
}

TEST_F(IoApicTest, LevelOnMaskedPinArrivesWhenUnmasked) {
  route(4, 0x34 | LEVEL | MASKED, 0);
  io_apic.input(4).set(true);
  route(4, 0x34 | LEVEL, 0);
  EXPECT_TRUE(cpu0.interrupt_pending());
}

TEST_F(IoApicTest, LevelSetsRemoteIrr) {
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  EXPECT_TRUE(get(0x18) & REMOTE_IRR);
}

TEST_F(IoApicTest, EoiClearsRemoteIrr) {
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  cpu0.acknowledge();
  io_apic.input(4).set(false);
  cpu0.write(EOI, 4, 0);
  EXPECT_FALSE(get(0x18) & REMOTE_IRR);
}

TEST_F(IoApicTest, HeldLevelFiresAgainAfterEoi) {
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  cpu0.acknowledge();
  EXPECT_FALSE(cpu0.interrupt_pending());
  cpu0.write(EOI, 4, 0);
  EXPECT_EQ(cpu0.acknowledge(), 0x34);
}

TEST_F(IoApicTest, EoiRegisterClearsRemoteIrr) {
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  io_apic.input(4).set(false);
  io_apic.write(0x40, 4, 0x34);
  EXPECT_FALSE(get(0x18) & REMOTE_IRR);
}

TEST_F(IoApicTest, SuppressedBroadcastLeavesRemoteIrr) {
  cpu0.write(0xf0, 4, 0x11ff);
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  cpu0.acknowledge();
  io_apic.input(4).set(false);
  cpu0.write(EOI, 4, 0);
  EXPECT_TRUE(get(0x18) & REMOTE_IRR);
}

TEST_F(IoApicTest, ChangingToEdgeClearsRemoteIrr) {
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  route(4, 0x34 | MASKED, 0);
  EXPECT_FALSE(get(0x18) & REMOTE_IRR);
}

TEST_F(IoApicTest, RemoteIrrIsReadOnly) {
  route(4, 0x34 | LEVEL | REMOTE_IRR, 0);
  EXPECT_FALSE(get(0x18) & REMOTE_IRR);
}

TEST_F(IoApicTest, LevelThatNobodyAcceptsSetsNoRemoteIrr) {
  route(4, 0x34 | LEVEL, 7);
  io_apic.input(4).set(true);
  EXPECT_FALSE(get(0x18) & REMOTE_IRR);
}

TEST_F(IoApicTest, LogicalDestinationReachesAll) {
  cpu0.write(0xd0, 4, 0x01000000);
  cpu1.write(0xd0, 4, 0x02000000);
  route(4, 0x34 | LOGICAL, 0x03);
  io_apic.input(4).set(true);
  EXPECT_TRUE(cpu0.interrupt_pending());
  EXPECT_TRUE(cpu1.interrupt_pending());
}

TEST_F(IoApicTest, LowestPriorityGoesToTheLessBusyProcessor) {
  cpu0.write(0xd0, 4, 0x01000000);
  cpu1.write(0xd0, 4, 0x02000000);
  cpu0.write(0x80, 4, 0x20);
  route(4, 0x34 | LOGICAL | LOWEST, 0x03);
  io_apic.input(4).set(true);
  EXPECT_FALSE(cpu0.interrupt_pending());
  EXPECT_TRUE(cpu1.interrupt_pending());
}

TEST_F(IoApicTest, LowestPriorityAlternatesBetweenEquals) {
  cpu0.write(0xd0, 4, 0x01000000);
  cpu1.write(0xd0, 4, 0x02000000);
  route(4, 0x34 | LOGICAL | LOWEST, 0x03);
  io_apic.input(4).pulse();
  io_apic.input(4).pulse();
  EXPECT_TRUE(cpu0.interrupt_pending());
  EXPECT_TRUE(cpu1.interrupt_pending());
}

TEST_F(IoApicTest, StormLeavesTheGuestAloneForAWhile) {
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  std::uint32_t ended = 0;
  for (; ended < 2 * StormBrake::length && cpu0.interrupt_pending(); ++ended) {
    cpu0.acknowledge();
    cpu0.write(EOI, 4, 0);
  }
  EXPECT_EQ(ended, StormBrake::length);
  timers.advance(StormBrake::pause_ns - 1);
  EXPECT_FALSE(cpu0.interrupt_pending());
  timers.advance(1);
  EXPECT_EQ(cpu0.acknowledge(), 0x34);
}

TEST_F(IoApicTest, LevelThatNobodyTakesIsOfferedAgain) {
  cpu0.write(0xf0, 4, 0xff);  // disabled by software
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  EXPECT_FALSE(get(0x18) & REMOTE_IRR);
  cpu0.write(0xf0, 4, 0x1ff);
  timers.advance(StormBrake::pause_ns);
  EXPECT_EQ(cpu0.acknowledge(), 0x34);
}

TEST_F(IoApicTest, LevelThatIsSetAgainIsNoNewInterrupt) {
  route(4, 0x34 | LEVEL, 0);
  io_apic.input(4).set(true);
  for (std::uint32_t ended = 0; ended < StormBrake::length; ++ended) {
    cpu0.acknowledge();
    cpu0.write(EOI, 4, 0);
  }
  io_apic.input(4).set(true);  // as a device does whose state is restored
  EXPECT_FALSE(cpu0.interrupt_pending());
}

TEST_F(IoApicTest, LineThatFallsInBetweenIsNoStorm) {
  route(4, 0x34 | LEVEL, 0);
  for (std::uint32_t round = 0; round <= StormBrake::length; ++round) {
    io_apic.input(4).set(true);
    ASSERT_EQ(cpu0.acknowledge(), 0x34) << round;
    io_apic.input(4).set(false);
    cpu0.write(EOI, 4, 0);
  }
}

TEST_F(IoApicTest, NmiEntryRaisesNmi) {
  route(4, 0x400, 0);
  io_apic.input(4).set(true);
  EXPECT_TRUE(cpu0.nmi_pending());
}

/// Makes vector 1 of the one requester it knows vector 0x71 of the second processor, and drops the rest.
struct OneEntryRemapper final : InterruptRemapper {
  std::optional<ApicMessage> remap(std::uint16_t requester, const ApicMessage& message) override {
    if (requester != 0xa0 || message.vector != 1) return std::nullopt;
    ApicMessage out = message;
    out.vector = 0x71;
    out.destination = 1;
    return out;
  }
};

class IoApicRemappedTest : public IoApicTest {
 protected:
  IoApicRemappedTest() { bus.set_remapper(remapper); }
  std::uint32_t entry(unsigned pin) {
    behind.write(0x00, 4, 0x10 + 2 * pin);
    return static_cast<std::uint32_t>(behind.read(0x10, 4));
  }
  void route_behind(unsigned pin, std::uint32_t low) {
    behind.write(0x00, 4, 0x10 + 2 * pin);
    behind.write(0x10, 4, low);
  }
  OneEntryRemapper remapper;
  IoApic behind{bus, timers, 0xa0};
};

TEST_F(IoApicRemappedTest, TheRemapperDecidesWhoGetsWhat) {
  route_behind(4, 1);
  behind.input(4).set(true);
  EXPECT_FALSE(cpu0.interrupt_pending());
  EXPECT_EQ(cpu1.acknowledge(), 0x71);
}

TEST_F(IoApicRemappedTest, WhatItRefusesSetsNoRemoteIrr) {
  route_behind(4, 2 | LEVEL);
  behind.input(4).set(true);
  EXPECT_FALSE(cpu1.interrupt_pending());
  EXPECT_EQ(entry(4) & REMOTE_IRR, 0u);
}

TEST_F(IoApicRemappedTest, TheEoiOfTheDeliveredVectorEndsALevel) {
  route_behind(4, 1 | LEVEL);
  behind.input(4).set(true);
  ASSERT_EQ(cpu1.acknowledge(), 0x71);
  behind.input(4).set(false);
  cpu1.write(EOI, 4, 0);
  EXPECT_EQ(entry(4) & REMOTE_IRR, 0u);
}

TEST_F(IoApicRemappedTest, TheEoiRegisterTakesTheEntrysOwnVector) {
  route_behind(4, 1 | LEVEL);
  behind.input(4).set(true);
  behind.input(4).set(false);
  behind.write(0x40, 4, 0x71);
  EXPECT_NE(entry(4) & REMOTE_IRR, 0u);
  behind.write(0x40, 4, 1);
  EXPECT_EQ(entry(4) & REMOTE_IRR, 0u);
}

TEST_F(IoApicTest, RegistersThatAreNotThereReadAsOnes) { EXPECT_EQ(get(0x50), 0xffffffffu); }

}  // namespace
}  // namespace veneer::devices
