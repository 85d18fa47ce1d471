// The local APIC: priorities, EOI, IPIs, pins, errors, both register interfaces.
#include "devices/irq/lapic.h"

#include <gtest/gtest.h>

#include "base/manual_timers.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ISR = 0x100,
                        TMR = 0x180, IRR = 0x200, ESR = 0x280, ICR_LOW = 0x300, ICR_HIGH = 0x310, LVT_LINT0 = 0x350,
                        LVT_LINT1 = 0x360, LVT_ERROR = 0x370;
constexpr std::uint32_t MSR_APIC_BASE = 0x1b;
constexpr std::uint64_t BASE = 0xfee00000, BASE_EN = 0x800, BASE_X2 = 0x400, BASE_BSP = 0x100;

class FakeExtInt final : public ExtIntSource {
 public:
  bool pending() const override { return is_pending; }
  std::uint8_t acknowledge() override {
    is_pending = false;
    return 0x20;
  }
  bool is_pending = false;
};

class LocalApicTest : public ::testing::Test {
 protected:
  LocalApicTest() {
    for (LocalApic* apic : {&cpu0, &cpu1, &cpu2}) apic->write(SVR, 4, 0x1ff);
    cpu0.set_kick([this] { ++kicks; });
  }
  std::uint32_t get(LocalApic& apic, std::uint64_t offset) { return static_cast<std::uint32_t>(apic.read(offset, 4)); }
  void fixed(LocalApic& apic, std::uint8_t vector, TriggerMode trigger = TriggerMode::Edge) {
    apic.deliver({.trigger_mode = trigger, .vector = vector});
  }
  void send(LocalApic& from, std::uint32_t destination, std::uint32_t low) {
    from.write(ICR_HIGH, 4, destination << 24);
    from.write(ICR_LOW, 4, low);
  }
  void enter_x2apic(LocalApic& apic) {
    const auto base = apic.read_msr(MSR_APIC_BASE);
    ASSERT_TRUE(apic.write_msr(MSR_APIC_BASE, *base | BASE_X2));
  }

  machine::BoardLock lock;
  ApicBus bus{lock};
  ManualTimers timers;
  FakeExtInt pic;
  LocalApic cpu0{0, bus, timers, &pic, {}};
  LocalApic cpu1{1, bus, timers, nullptr, {}};
  LocalApic cpu2{2, bus, timers, nullptr, {}};
  int kicks = 0;
};

// --- accepting and priorities ---

TEST_F(LocalApicTest, InterruptBecomesPendingAndKicks) {
  fixed(cpu0, 0x41);
  EXPECT_TRUE(cpu0.interrupt_pending());
  EXPECT_EQ(kicks, 1);
}

TEST_F(LocalApicTest, AcknowledgeMovesIrrToIsr) {
  fixed(cpu0, 0x41);
  EXPECT_EQ(cpu0.acknowledge(), 0x41);
  EXPECT_EQ(get(cpu0, IRR + 0x20), 0u);
  EXPECT_EQ(get(cpu0, ISR + 0x20), 2u);
}

TEST_F(LocalApicTest, HighestVectorComesFirst) {
  fixed(cpu0, 0x41);
  fixed(cpu0, 0x91);
  EXPECT_EQ(cpu0.acknowledge(), 0x91);
}

TEST_F(LocalApicTest, SameClassWaitsForEoi) {
  fixed(cpu0, 0x41);
  cpu0.acknowledge();
  fixed(cpu0, 0x42);
  EXPECT_FALSE(cpu0.interrupt_pending());
  cpu0.write(EOI, 4, 0);
  EXPECT_TRUE(cpu0.interrupt_pending());
}

TEST_F(LocalApicTest, HigherClassInterruptsService) {
  fixed(cpu0, 0x41);
  cpu0.acknowledge();
  fixed(cpu0, 0x51);
  EXPECT_EQ(cpu0.acknowledge(), 0x51);
}

TEST_F(LocalApicTest, TaskPriorityHoldsBackItsClass) {
  cpu0.write(TPR, 4, 0x40);
  fixed(cpu0, 0x4f);
  EXPECT_FALSE(cpu0.interrupt_pending());
}

TEST_F(LocalApicTest, LoweringCr8ReleasesAndKicks) {
  cpu0.set_cr8(4);
  fixed(cpu0, 0x4f);
  kicks = 0;
  cpu0.set_cr8(0);
  EXPECT_TRUE(cpu0.interrupt_pending());
  EXPECT_EQ(kicks, 1);
}

TEST_F(LocalApicTest, Cr8IsTheUpperNibbleOfTpr) {
  cpu0.write(TPR, 4, 0x5a);
  EXPECT_EQ(cpu0.cr8(), 5u);
}

TEST_F(LocalApicTest, PprIsTheServiceClassAboveTpr) {
  cpu0.write(TPR, 4, 0x23);
  fixed(cpu0, 0x41);
  cpu0.acknowledge();
  EXPECT_EQ(get(cpu0, PPR), 0x40u);
}

TEST_F(LocalApicTest, PprIsTprWhenThatIsHigher) {
  fixed(cpu0, 0x41);
  cpu0.acknowledge();
  cpu0.write(TPR, 4, 0x63);
  EXPECT_EQ(get(cpu0, PPR), 0x63u);
}

TEST_F(LocalApicTest, AcknowledgeWithNothingPendingGivesNothing) { EXPECT_EQ(cpu0.acknowledge(), std::nullopt); }

TEST_F(LocalApicTest, LevelInterruptSetsTmr) {
  fixed(cpu0, 0x41, TriggerMode::Level);
  EXPECT_EQ(get(cpu0, TMR + 0x20), 2u);
}

TEST_F(LocalApicTest, SoftwareDisabledTakesNoFixedInterrupt) {
  cpu0.write(SVR, 4, 0xff);
  EXPECT_FALSE(cpu0.deliver({.vector = 0x41}));
}

TEST_F(LocalApicTest, SoftwareDisabledTakesNmi) {
  cpu0.write(SVR, 4, 0xff);
  cpu0.deliver({.delivery_mode = DeliveryMode::Nmi});
  EXPECT_TRUE(cpu0.nmi_pending());
}

TEST_F(LocalApicTest, SoftwareDisableMasksLvtAndKeepsItMasked) {
  cpu0.write(SVR, 4, 0xff);
  cpu0.write(LVT_ERROR, 4, 0x41);
  EXPECT_EQ(get(cpu0, LVT_ERROR), 0x10041u);
}

TEST_F(LocalApicTest, NmiIsTakenOnce) {
  cpu0.deliver({.delivery_mode = DeliveryMode::Nmi});
  cpu0.take_nmi();
  EXPECT_FALSE(cpu0.nmi_pending());
}

TEST_F(LocalApicTest, TwoNmisBeforeTheFirstIsServedAreTwo) {
  cpu0.deliver({.delivery_mode = DeliveryMode::Nmi});
  cpu0.deliver({.delivery_mode = DeliveryMode::Nmi});
  cpu0.take_nmi();
  EXPECT_TRUE(cpu0.nmi_pending());
  cpu0.take_nmi();
  EXPECT_FALSE(cpu0.nmi_pending());
}

TEST_F(LocalApicTest, OneNmiWaitsWhileAnotherIsServed) {
  cpu0.deliver({.delivery_mode = DeliveryMode::Nmi});
  cpu0.take_nmi();
  cpu0.deliver({.delivery_mode = DeliveryMode::Nmi});
  cpu0.deliver({.delivery_mode = DeliveryMode::Nmi});
  cpu0.nmi_unblocked();
  cpu0.take_nmi();
  EXPECT_FALSE(cpu0.nmi_pending());
}

// --- IPIs ---

TEST_F(LocalApicTest, PhysicalIpiReachesOne) {
  send(cpu0, 1, 0x41);
  EXPECT_TRUE(cpu1.interrupt_pending());
  EXPECT_FALSE(cpu2.interrupt_pending());
}

TEST_F(LocalApicTest, PhysicalBroadcastReachesAll) {
  send(cpu0, 0xff, 0x41);
  EXPECT_TRUE(cpu0.interrupt_pending() && cpu1.interrupt_pending() && cpu2.interrupt_pending());
}

TEST_F(LocalApicTest, SelfShorthandReachesTheSender) {
  send(cpu0, 1, 0x40041);
  EXPECT_TRUE(cpu0.interrupt_pending());
  EXPECT_FALSE(cpu1.interrupt_pending());
}

TEST_F(LocalApicTest, AllExcludingSelfLeavesTheSenderOut) {
  send(cpu0, 0, 0xc0041);
  EXPECT_FALSE(cpu0.interrupt_pending());
  EXPECT_TRUE(cpu1.interrupt_pending() && cpu2.interrupt_pending());
}

TEST_F(LocalApicTest, FlatLogicalIpiSelectsByBit) {
  cpu1.write(LDR, 4, 0x02000000);
  cpu2.write(LDR, 4, 0x04000000);
  send(cpu0, 0x04, 0x841);
  EXPECT_FALSE(cpu1.interrupt_pending());
  EXPECT_TRUE(cpu2.interrupt_pending());
}

TEST_F(LocalApicTest, ClusterLogicalIpiSelectsClusterAndBit) {
  for (LocalApic* apic : {&cpu1, &cpu2}) apic->write(DFR, 4, 0x0fffffff);
  cpu1.write(LDR, 4, 0x11000000);
  cpu2.write(LDR, 4, 0x21000000);
  send(cpu0, 0x21, 0x841);
  EXPECT_FALSE(cpu1.interrupt_pending());
  EXPECT_TRUE(cpu2.interrupt_pending());
}

TEST_F(LocalApicTest, InitIsRecorded) {
  send(cpu0, 1, 0x4500);
  EXPECT_TRUE(cpu1.init_pending());
}

TEST_F(LocalApicTest, InitDeassertIsIgnored) {
  send(cpu0, 1, 0x8500);
  EXPECT_FALSE(cpu1.init_pending());
}

TEST_F(LocalApicTest, StartupGivesItsPage) {
  send(cpu0, 1, 0x4500);
  cpu1.take_init();
  send(cpu0, 1, 0x4699);
  EXPECT_TRUE(cpu1.wake_pending());
  EXPECT_EQ(cpu1.take_startup(), 0x99);
}

TEST_F(LocalApicTest, SecondStartupFindsNobodyWaiting) {
  send(cpu0, 1, 0x4699);
  cpu1.take_startup();
  send(cpu0, 1, 0x4699);
  EXPECT_EQ(cpu1.take_startup(), std::nullopt);
}

TEST_F(LocalApicTest, BootstrapProcessorDoesNotWaitForStartup) {
  send(cpu1, 0, 0x4699);
  EXPECT_EQ(cpu0.take_startup(), std::nullopt);
}

TEST_F(LocalApicTest, TakeInitResetsRegisters) {
  fixed(cpu1, 0x41);
  cpu1.take_init();
  EXPECT_EQ(get(cpu1, SVR), 0xffu);
  EXPECT_FALSE(cpu1.interrupt_pending());
}

// --- errors ---

TEST_F(LocalApicTest, SendingAnIllegalVectorIsAnError) {
  send(cpu0, 1, 0x0f);
  cpu0.write(ESR, 4, 0);
  EXPECT_EQ(get(cpu0, ESR), 0x20u);
}

TEST_F(LocalApicTest, ReceivingAnIllegalVectorIsAnError) {
  fixed(cpu0, 0x0f);
  cpu0.write(ESR, 4, 0);
  EXPECT_EQ(get(cpu0, ESR), 0x40u);
}

TEST_F(LocalApicTest, UnknownRegisterIsAnError) {
  EXPECT_EQ(get(cpu0, 0x3c0), 0u);
  cpu0.write(ESR, 4, 0);
  EXPECT_EQ(get(cpu0, ESR), 0x80u);
}

TEST_F(LocalApicTest, EsrShowsErrorsOnlyAfterAWrite) {
  fixed(cpu0, 0x0f);
  EXPECT_EQ(get(cpu0, ESR), 0u);
}

TEST_F(LocalApicTest, ErrorRaisesItsLvt) {
  cpu0.write(LVT_ERROR, 4, 0xfe);
  fixed(cpu0, 0x0f);
  EXPECT_EQ(cpu0.acknowledge(), 0xfe);
}

TEST_F(LocalApicTest, ErrorLvtWithIllegalVectorDoesNotRecurse) {
  cpu0.write(LVT_ERROR, 4, 0x01);
  fixed(cpu0, 0x0f);
  EXPECT_FALSE(cpu0.interrupt_pending());
}

// --- pins and the 8259 ---

TEST_F(LocalApicTest, ExtIntComesFromThe8259) {
  cpu0.write(LVT_LINT0, 4, 0x700);
  pic.is_pending = true;
  cpu0.lint0().set(true);
  EXPECT_TRUE(cpu0.interrupt_pending());
  EXPECT_EQ(cpu0.acknowledge(), 0x20);
}

TEST_F(LocalApicTest, MaskedLint0BlocksThe8259) {
  cpu0.write(LVT_LINT0, 4, 0x10700);
  pic.is_pending = true;
  cpu0.lint0().set(true);
  EXPECT_FALSE(cpu0.interrupt_pending());
}

TEST_F(LocalApicTest, UnmaskingLint0LetsTheWaitingInterruptThrough) {
  pic.is_pending = true;
  cpu0.lint0().set(true);
  cpu0.write(LVT_LINT0, 4, 0x700);
  EXPECT_TRUE(cpu0.interrupt_pending());
}

TEST_F(LocalApicTest, VirtualWireConnectsThe8259) {
  cpu0.reset();
  cpu0.set_virtual_wire();
  pic.is_pending = true;
  cpu0.lint0().set(true);
  EXPECT_EQ(cpu0.acknowledge(), 0x20);
}

TEST_F(LocalApicTest, DisabledApicConnectsThe8259Directly) {
  ASSERT_TRUE(cpu0.write_msr(MSR_APIC_BASE, BASE | BASE_BSP));
  pic.is_pending = true;
  cpu0.lint0().set(true);
  EXPECT_EQ(cpu0.acknowledge(), 0x20);
}

TEST_F(LocalApicTest, ExtIntIsNotHeldBackByPriority) {
  cpu0.write(LVT_LINT0, 4, 0x700);
  cpu0.write(TPR, 4, 0xf0);
  pic.is_pending = true;
  cpu0.lint0().set(true);
  EXPECT_TRUE(cpu0.interrupt_pending());
}

TEST_F(LocalApicTest, Lint1InNmiModeRaisesNmi) {
  cpu0.write(LVT_LINT1, 4, 0x400);
  cpu0.lint1().set(true);
  EXPECT_TRUE(cpu0.nmi_pending());
}

TEST_F(LocalApicTest, LevelPinFiresAgainAfterEoi) {
  cpu0.write(LVT_LINT0, 4, 0x8041);
  cpu0.lint0().set(true);
  EXPECT_EQ(cpu0.acknowledge(), 0x41);
  cpu0.write(EOI, 4, 0);
  EXPECT_EQ(cpu0.acknowledge(), 0x41);
}

TEST_F(LocalApicTest, LevelPinThatNobodyAnswersIsQuietForAWhile) {
  cpu0.write(LVT_LINT0, 4, 0x8041);
  cpu0.lint0().set(true);
  std::uint32_t ended = 0;
  for (; ended < 2 * StormBrake::length && cpu0.interrupt_pending(); ++ended) {
    cpu0.acknowledge();
    cpu0.write(EOI, 4, 0);
  }
  EXPECT_EQ(ended, StormBrake::length);
  timers.advance(StormBrake::pause_ns - 1);
  EXPECT_FALSE(cpu0.interrupt_pending());
  timers.advance(1);
  EXPECT_EQ(cpu0.acknowledge(), 0x41);
}

TEST_F(LocalApicTest, EdgePinFiresOnce) {
  cpu0.write(LVT_LINT0, 4, 0x41);
  cpu0.lint0().set(true);
  cpu0.acknowledge();
  cpu0.write(EOI, 4, 0);
  EXPECT_FALSE(cpu0.interrupt_pending());
}

// --- MSI ---

TEST_F(LocalApicTest, MsiSelectsByAddressAndData) {
  bus.msi(0xfee01000, 0x4051, 0);
  EXPECT_EQ(cpu1.acknowledge(), 0x51);
}

TEST_F(LocalApicTest, MsiWithRedirectionHintGoesToOne) {
  cpu0.write(LDR, 4, 0x01000000);
  cpu1.write(LDR, 4, 0x02000000);
  bus.msi(0xfee0300c, 0x4051, 0);
  EXPECT_NE(cpu0.interrupt_pending(), cpu1.interrupt_pending());
}

// --- the register page ---

TEST_F(LocalApicTest, VersionRegister) { EXPECT_EQ(get(cpu0, 0x30), 0x01050014u); }

TEST_F(LocalApicTest, IdStandsInTheTopByte) { EXPECT_EQ(get(cpu2, 0x20), 0x02000000u); }

TEST_F(LocalApicTest, BetweenRegistersThereIsNothing) { EXPECT_EQ(get(cpu2, 0x24), 0u); }

TEST_F(LocalApicTest, ByteReadsSeePartOfTheRegister) { EXPECT_EQ(cpu2.read(0x23, 1), 0x02u); }

TEST_F(LocalApicTest, NarrowWritesAreIgnored) {
  cpu0.write(TPR, 1, 0x40);
  EXPECT_EQ(get(cpu0, TPR), 0u);
}

// --- IA32_APIC_BASE and x2APIC ---

TEST_F(LocalApicTest, ApicBaseAfterReset) { EXPECT_EQ(cpu0.read_msr(MSR_APIC_BASE), BASE | BASE_EN | BASE_BSP); }

TEST_F(LocalApicTest, ApplicationProcessorHasNoBspBit) { EXPECT_EQ(cpu1.read_msr(MSR_APIC_BASE), BASE | BASE_EN); }

TEST_F(LocalApicTest, X2apicWithoutEnableFaults) { EXPECT_FALSE(cpu0.write_msr(MSR_APIC_BASE, BASE | BASE_X2)); }

TEST_F(LocalApicTest, X2apicBackToXapicFaults) {
  enter_x2apic(cpu0);
  EXPECT_FALSE(cpu0.write_msr(MSR_APIC_BASE, BASE | BASE_EN | BASE_BSP));
}

TEST_F(LocalApicTest, DisabledToX2apicFaults) {
  ASSERT_TRUE(cpu0.write_msr(MSR_APIC_BASE, BASE));
  EXPECT_FALSE(cpu0.write_msr(MSR_APIC_BASE, BASE | BASE_EN | BASE_X2));
}

TEST_F(LocalApicTest, ReservedApicBaseBitsFault) { EXPECT_FALSE(cpu0.write_msr(MSR_APIC_BASE, BASE | BASE_EN | 1)); }

TEST_F(LocalApicTest, AddressBeyondPhysicalWidthFaults) {
  EXPECT_FALSE(cpu0.write_msr(MSR_APIC_BASE, (std::uint64_t{1} << 50) | BASE_EN));
}

TEST_F(LocalApicTest, ThePageMovesWithTheBase) {
  ASSERT_TRUE(cpu0.write_msr(MSR_APIC_BASE, 0xfec80000 | BASE_EN | BASE_BSP));
  EXPECT_EQ(cpu0.page_address(), 0xfec80000u);
  EXPECT_EQ(cpu1.page_address(), BASE);
}

TEST_F(LocalApicTest, WithoutX2apicTheBitFaults) {
  LocalApic old(3, bus, timers, nullptr, {.guest_tsc = {}, .x2apic = false});
  EXPECT_FALSE(old.write_msr(MSR_APIC_BASE, BASE | BASE_EN | BASE_X2));
}

TEST_F(LocalApicTest, AnAbsentOneIsOffAndItsPinIsIntr) {
  LocalApic absent(3, bus, timers, &pic, {.guest_tsc = {}, .present = false});
  EXPECT_FALSE(absent.enabled());
  pic.is_pending = true;
  absent.lint0().set(true);
  EXPECT_EQ(absent.acknowledge(), 0x20);
}

TEST_F(LocalApicTest, X2apicMsrsFaultInXapicMode) { EXPECT_EQ(cpu0.read_msr(0x802), std::nullopt); }

TEST_F(LocalApicTest, PageIsGoneInX2apicMode) {
  enter_x2apic(cpu0);
  EXPECT_EQ(get(cpu0, 0x30), 0xffffffffu);
}

TEST_F(LocalApicTest, X2apicIdHasThirtyTwoBits) {
  enter_x2apic(cpu2);
  EXPECT_EQ(cpu2.read_msr(0x802), 2u);
}

TEST_F(LocalApicTest, X2apicLogicalIdComesFromTheId) {
  LocalApic cpu18(18, bus, timers, nullptr, {});
  enter_x2apic(cpu18);
  EXPECT_EQ(cpu18.read_msr(0x80d), 0x00010004u);
}

TEST_F(LocalApicTest, X2apicIcrSendsInOneWrite) {
  enter_x2apic(cpu0);
  enter_x2apic(cpu1);
  ASSERT_TRUE(cpu0.write_msr(0x830, (std::uint64_t{1} << 32) | 0x41));
  EXPECT_TRUE(cpu1.interrupt_pending());
}

TEST_F(LocalApicTest, X2apicLogicalIpiSelectsClusterAndBit) {
  enter_x2apic(cpu0);
  enter_x2apic(cpu1);
  enter_x2apic(cpu2);
  ASSERT_TRUE(cpu0.write_msr(0x830, (std::uint64_t{0x4} << 32) | 0x841));
  EXPECT_FALSE(cpu1.interrupt_pending());
  EXPECT_TRUE(cpu2.interrupt_pending());
}

TEST_F(LocalApicTest, X2apicDestination255IsNoBroadcast) {
  enter_x2apic(cpu0);
  ASSERT_TRUE(cpu0.write_msr(0x830, (std::uint64_t{0xff} << 32) | 0x41));
  EXPECT_FALSE(cpu1.interrupt_pending());
}

TEST_F(LocalApicTest, X2apicBroadcastReachesAll) {
  enter_x2apic(cpu0);
  ASSERT_TRUE(cpu0.write_msr(0x830, (std::uint64_t{0xffffffff} << 32) | 0x41));
  EXPECT_TRUE(cpu1.interrupt_pending() && cpu2.interrupt_pending());
}

TEST_F(LocalApicTest, SelfIpiRegister) {
  enter_x2apic(cpu0);
  ASSERT_TRUE(cpu0.write_msr(0x83f, 0x77));
  EXPECT_EQ(cpu0.acknowledge(), 0x77);
}

TEST_F(LocalApicTest, EoiMsrTakesOnlyZero) {
  enter_x2apic(cpu0);
  EXPECT_FALSE(cpu0.write_msr(0x80b, 1));
}

TEST_F(LocalApicTest, EoiMsrIsWriteOnly) {
  enter_x2apic(cpu0);
  EXPECT_EQ(cpu0.read_msr(0x80b), std::nullopt);
}

TEST_F(LocalApicTest, ReadOnlyMsrFaultsOnWrite) {
  enter_x2apic(cpu0);
  EXPECT_FALSE(cpu0.write_msr(0x80a, 0));
}

TEST_F(LocalApicTest, ReservedMsrBitsFault) {
  enter_x2apic(cpu0);
  EXPECT_FALSE(cpu0.write_msr(0x808, 0x100));
}

TEST_F(LocalApicTest, UnhaltWakesOnce) {
  cpu0.unhalt();
  EXPECT_EQ(kicks, 1);
  EXPECT_TRUE(cpu0.signal_pending());
  EXPECT_FALSE(cpu0.interrupt_pending());
  EXPECT_TRUE(cpu0.take_unhalt());
  EXPECT_FALSE(cpu0.take_unhalt());
  EXPECT_FALSE(cpu0.signal_pending());
}

TEST_F(LocalApicTest, DfrAndIcr2DoNotExistInX2apicMode) {
  enter_x2apic(cpu0);
  EXPECT_EQ(cpu0.read_msr(0x80e), std::nullopt);
  EXPECT_EQ(cpu0.read_msr(0x831), std::nullopt);
}

TEST_F(LocalApicTest, RegistersAreReadableAsMsrs) {
  enter_x2apic(cpu0);
  fixed(cpu0, 0x41);
  EXPECT_EQ(cpu0.read_msr(0x822), 2u);
}

}  // namespace
}  // namespace veneer::devices
