// The IOMMU as a driver and the devices behind it see it: translation, interrupts, commands, events, saving.
#include "devices/iommu/amd_iommu.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "devices/iommu/amd_iommu_function.h"

namespace veneer::devices {
namespace {

using namespace amd_iommu;
using machine::DmaAccess;

constexpr std::uint64_t TABLE = 0x1'0000, COMMANDS = 0x2'0000, EVENTS = 0x3'0000, PAGES = 0x4'0000,
                        INTERRUPTS = 0x5'0000;
constexpr std::uint16_t DEVICE = 0x40, IOMMU = 0xf8;
constexpr std::uint64_t ON =
    CONTROL_IOMMU_EN | CONTROL_EVENT_LOG_EN | CONTROL_EVENT_INT_EN | CONTROL_COM_WAIT_INT_EN | CONTROL_CMD_BUF_EN;

class AmdIommuTest : public testing::Test {
 protected:
  AmdIommuTest() {
    EXPECT_TRUE(memory.add("ram", GuestPhys{0}, 1 * MiB, machine::SlotKind::Ram).ok());
    iommu.set_interrupt([this] { ++interrupts; });
    set_up(iommu);
  }
  static void set_up(AmdIommu& to) {
    to.write(DEVICE_TABLE_BASE, 8, TABLE | 1);  // 8 KiB: 256 entries
    to.write(COMMAND_BUFFER_BASE, 8, COMMANDS | std::uint64_t{8} << 56);
    to.write(EVENT_LOG_BASE, 8, EVENTS | std::uint64_t{8} << 56);
    to.write(CONTROL, 8, ON);
  }
  void put_device(std::uint64_t first, std::uint64_t second = 0, std::uint64_t third = 0) {
    const std::array<std::uint64_t, 4> entry = {first, second, third, 0};
    ASSERT_TRUE(memory.write_value(GuestPhys{TABLE + DEVICE * device_entry_bytes}, entry));
  }
  /// One level of pages, page 5 of which is at 7000h.
  void map_page_5(std::uint64_t permissions = PTE_IR | PTE_IW, std::uint64_t second = 0x1234) {
    put_device(DTE0_V | DTE0_TV | DTE0_IR | DTE0_IW | 1 << 9 | PAGES, second);
    ASSERT_TRUE(memory.write_value(GuestPhys{PAGES + 5 * 8}, PTE_PR | permissions | 0x7000));
  }
  std::optional<machine::DmaRun> translate(std::uint64_t address, DmaAccess access = DmaAccess::Read,
                                           std::uint16_t requester = DEVICE) {
    return iommu.translate(requester, address, 16, access);
  }
  std::uint64_t get(std::uint64_t offset) { return iommu.read(offset, 8); }
  unsigned events() { return static_cast<unsigned>(get(EVENT_TAIL) / 16); }
  std::array<std::uint64_t, 2> event(unsigned index = 0) {
    std::array<std::uint64_t, 2> entry{};
    EXPECT_TRUE(memory.read_value(GuestPhys{EVENTS + 16 * index}, entry));
    return entry;
  }
  static std::uint64_t code(Event event) { return static_cast<std::uint64_t>(event) << 60; }
  /// Puts a command into the ring and rings the bell.
  void command(std::uint64_t first, std::uint64_t second = 0) {
    const std::uint64_t tail = get(COMMAND_TAIL);
    const std::array<std::uint64_t, 2> entry = {first, second};
    ASSERT_TRUE(memory.write_value(GuestPhys{COMMANDS + tail}, entry));
    iommu.write(COMMAND_TAIL, 8, (tail + 16) % 4096);
  }
  static std::uint64_t op(Command command) { return static_cast<std::uint64_t>(command) << 60; }

  void put_interrupt(unsigned index, std::uint32_t entry) {
    put_device(0, 0, DTE2_IV | 9 << 1 | INTERRUPTS | std::uint64_t{INT_REMAP} << 60);
    ASSERT_TRUE(memory.write_value(GuestPhys{INTERRUPTS + 4 * index}, entry));
  }
  static ApicMessage message(std::uint8_t vector, DeliveryMode mode = DeliveryMode::Fixed) {
    ApicMessage out;
    out.vector = vector;
    out.delivery_mode = mode;
    return out;
  }

  machine::GuestMemory memory;
  AmdIommu iommu{memory, IOMMU};
  unsigned interrupts = 0;
};

// ---- Translation ----------------------------------------------------------------------------------------------------

TEST_F(AmdIommuTest, OffItTouchesNothing) {
  iommu.write(CONTROL, 8, 0);
  put_device(DTE0_V | DTE0_TV);
  EXPECT_EQ(translate(0x5123)->address, GuestPhys{0x5123});
}
TEST_F(AmdIommuTest, AnEntryThatIsNotValidLetsPass) { EXPECT_EQ(translate(0x5123)->address, GuestPhys{0x5123}); }
TEST_F(AmdIommuTest, ValidWithoutTranslationInformationIsRefused) {
  put_device(DTE0_V | DTE0_IR | DTE0_IW);
  EXPECT_FALSE(translate(0x5123));
}
TEST_F(AmdIommuTest, ModeZeroLetsPassWithPermission) {
  put_device(DTE0_V | DTE0_TV | DTE0_IR);
  EXPECT_EQ(translate(0x5123)->address, GuestPhys{0x5123});
  EXPECT_FALSE(translate(0x5123, DmaAccess::Write));
}
TEST_F(AmdIommuTest, PagesAreTranslated) {
  map_page_5();
  const auto run = iommu.translate(DEVICE, 0x5ff8, 16, DmaAccess::Write);
  ASSERT_TRUE(run);
  EXPECT_EQ(run->address, GuestPhys{0x7ff8});
  EXPECT_EQ(run->bytes, 8u);
}
TEST_F(AmdIommuTest, AMissingPageIsAnEventAndAnInterrupt) {
  map_page_5();
  EXPECT_FALSE(translate(0x6000));
  ASSERT_EQ(events(), 1u);
  EXPECT_EQ(event()[0], code(Event::IoPageFault) | std::uint64_t{0x1234} << 32 | DEVICE);
  EXPECT_EQ(event()[1], 0x6000u);
  EXPECT_EQ(get(STATUS) & STATUS_EVENT_LOG_INT, STATUS_EVENT_LOG_INT);
  EXPECT_EQ(interrupts, 1u);
}
TEST_F(AmdIommuTest, WritingWithoutPermissionSaysSo) {
  map_page_5(PTE_IR);
  EXPECT_FALSE(translate(0x5000, DmaAccess::Write));
  EXPECT_EQ(event()[0] & ~std::uint64_t{0xffff'ffff'ffff}, code(Event::IoPageFault) | EVENT_RW | EVENT_PR | EVENT_PE);
}
TEST_F(AmdIommuTest, ReadingWithoutPermissionIsRefused) {
  map_page_5(PTE_IW);
  EXPECT_FALSE(translate(0x5000));
  EXPECT_TRUE(translate(0x5000, DmaAccess::Write));
}
TEST_F(AmdIommuTest, SuppressedFaultsAreNoEvents) {
  map_page_5(PTE_IR, DTE1_SA);
  EXPECT_FALSE(translate(0x6000));
  EXPECT_EQ(events(), 0u);
}
TEST_F(AmdIommuTest, SevenLevelsAreIllegal) {
  put_device(DTE0_V | DTE0_TV | DTE0_IR | 7 << 9);
  EXPECT_FALSE(translate(0));
  EXPECT_EQ(Code::get(event()[0]), static_cast<std::uint64_t>(Event::IllegalDevTableEntry));
}
TEST_F(AmdIommuTest, ADeviceBeyondTheTableIsIllegal) {
  EXPECT_FALSE(translate(0, DmaAccess::Read, 0x100));
  EXPECT_EQ(event()[0], code(Event::IllegalDevTableEntry) | 0x100);
}
TEST_F(AmdIommuTest, ADeviceTableOutsideRam) {
  iommu.write(DEVICE_TABLE_BASE, 8, 0xfee0'0000);
  EXPECT_FALSE(translate(0));
  EXPECT_EQ(event()[0], code(Event::DevTabHardwareError) | DEVICE);
  EXPECT_EQ(event()[1], 0xfee0'0000u + DEVICE * 32u);
}
TEST_F(AmdIommuTest, APageTableOutsideRam) {
  put_device(DTE0_V | DTE0_TV | DTE0_IR | 2 << 9 | 0xfee0'0000);
  EXPECT_FALSE(translate(2 * MiB));
  EXPECT_EQ(event()[0], code(Event::PageTabHardwareError) | DEVICE);
  EXPECT_EQ(event()[1], 0xfee0'0008u);
}
TEST_F(AmdIommuTest, ItsOwnAccessesPass) {
  ASSERT_TRUE(memory.write_value(GuestPhys{TABLE + IOMMU * device_entry_bytes}, DTE0_V));
  EXPECT_TRUE(translate(0x1000, DmaAccess::Write, IOMMU));
}
TEST_F(AmdIommuTest, TheExclusionRangePassesWhereItIsAllowed) {
  put_device(DTE0_V | DTE0_TV, DTE1_EX);
  iommu.write(EXCLUSION_LIMIT, 8, 0x9000);
  iommu.write(EXCLUSION_BASE, 8, 0x8000 | EXCLUSION_EN);
  EXPECT_FALSE(translate(0x7fff));
  EXPECT_EQ(translate(0x9ff8)->address, GuestPhys{0x9ff8});
  EXPECT_EQ(translate(0x9ff8)->bytes, 8u);
  EXPECT_FALSE(translate(0xa000));
}

// ---- Interrupts -----------------------------------------------------------------------------------------------------

TEST_F(AmdIommuTest, WithoutATableInterruptsPass) { EXPECT_EQ(iommu.remap(DEVICE, message(0x31))->vector, 0x31); }
TEST_F(AmdIommuTest, AnEntryDecidesVectorAndDestination) {
  put_interrupt(0x31, IRTE_REMAP_EN | IRTE_LOGICAL | 1 << 2 | 0x05 << 8 | 0x77 << 16);
  ApicMessage level = message(0x31);
  level.trigger_mode = TriggerMode::Level;
  const auto out = iommu.remap(DEVICE, level);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->vector, 0x77);
  EXPECT_EQ(out->destination, 5u);
  EXPECT_EQ(out->destination_mode, DestinationMode::Logical);
  EXPECT_EQ(out->delivery_mode, DeliveryMode::LowestPriority);
  EXPECT_EQ(out->trigger_mode, TriggerMode::Level);
}
TEST_F(AmdIommuTest, TheDeliveryModeIsPartOfTheIndex) {
  put_interrupt(0x131, IRTE_REMAP_EN | 0x78 << 16);
  EXPECT_EQ(iommu.remap(DEVICE, message(0x31, DeliveryMode::LowestPriority))->vector, 0x78);
}
TEST_F(AmdIommuTest, AnEntryThatIsOffIsAnEvent) {
  put_interrupt(0x31, 0);
  EXPECT_FALSE(iommu.remap(DEVICE, message(0x31)));
  EXPECT_EQ(event()[0], code(Event::IoPageFault) | EVENT_I | DEVICE);
}
TEST_F(AmdIommuTest, AnEntryThatIsOffMaySaySoQuietly) {
  put_interrupt(0x31, IRTE_SUP_IOPF);
  EXPECT_FALSE(iommu.remap(DEVICE, message(0x31)));
  EXPECT_EQ(events(), 0u);
}
TEST_F(AmdIommuTest, AnIndexBeyondTheTableIsRefused) {
  put_interrupt(0x31, IRTE_REMAP_EN);
  put_device(0, 0, DTE2_IV | 5 << 1 | INTERRUPTS | std::uint64_t{INT_REMAP} << 60);
  EXPECT_FALSE(iommu.remap(DEVICE, message(0x31)));
  EXPECT_EQ(events(), 1u);
}
TEST_F(AmdIommuTest, UnmappedInterruptsMayBeIgnored) {
  put_device(0, 0, DTE2_IV | DTE2_IG | INTERRUPTS | std::uint64_t{INT_REMAP} << 60);
  EXPECT_FALSE(iommu.remap(DEVICE, message(0x31)));
  EXPECT_EQ(events(), 0u);
}
TEST_F(AmdIommuTest, ATypeThatCannotBeIsRefused) {
  put_interrupt(0x31, IRTE_REMAP_EN | 4 << 2);
  EXPECT_FALSE(iommu.remap(DEVICE, message(0x31)));
}
TEST_F(AmdIommuTest, IntControlAbortsOrForwards) {
  put_device(0, 0, DTE2_IV | std::uint64_t{INT_ABORT} << 60);
  EXPECT_FALSE(iommu.remap(DEVICE, message(0x31)));
  put_device(0, 0, DTE2_IV | std::uint64_t{INT_FORWARD} << 60);
  EXPECT_EQ(iommu.remap(DEVICE, message(0x31))->vector, 0x31);
}
TEST_F(AmdIommuTest, NmisPassWhereTheyMay) {
  put_device(0, 0, DTE2_IV);
  EXPECT_FALSE(iommu.remap(DEVICE, message(0, DeliveryMode::Nmi)));
  put_device(0, 0, DTE2_IV | DTE2_NMI_PASS);
  EXPECT_TRUE(iommu.remap(DEVICE, message(0, DeliveryMode::Nmi)));
}
TEST_F(AmdIommuTest, ATableOfInterruptsOutsideRam) {
  put_device(0, 0, DTE2_IV | 9 << 1 | 0xfee0'0000 | std::uint64_t{INT_REMAP} << 60);
  EXPECT_FALSE(iommu.remap(DEVICE, message(1)));
  EXPECT_EQ(Code::get(event()[0]), static_cast<std::uint64_t>(Event::PageTabHardwareError));
}

// ---- Commands -------------------------------------------------------------------------------------------------------

TEST_F(AmdIommuTest, CompletionWaitStores) {
  command(op(Command::CompletionWait) | 0x8008 | WAIT_STORE, 0x1122'3344'5566'7788);
  std::uint64_t stored = 0;
  ASSERT_TRUE(memory.read_value(GuestPhys{0x8008}, stored));
  EXPECT_EQ(stored, 0x1122'3344'5566'7788u);
  EXPECT_EQ(get(COMMAND_HEAD), 16u);
}
TEST_F(AmdIommuTest, CompletionWaitInterruptsUntilItIsAcknowledged) {
  command(op(Command::CompletionWait) | WAIT_INTERRUPT);
  command(op(Command::CompletionWait) | WAIT_INTERRUPT);
  EXPECT_EQ(interrupts, 1u);
  iommu.write(STATUS, 8, STATUS_COM_WAIT_INT);
  command(op(Command::CompletionWait) | WAIT_INTERRUPT);
  EXPECT_EQ(interrupts, 2u);
}
TEST_F(AmdIommuTest, InvalidationsAreTaken) {
  for (const Command each : {Command::InvalidateDevtabEntry, Command::InvalidateIommuPages,
                             Command::InvalidateInterruptTable, Command::InvalidateIommuAll})
    command(op(each));
  EXPECT_EQ(get(COMMAND_HEAD), 64u);
  EXPECT_EQ(events(), 0u);
}
TEST_F(AmdIommuTest, TheRingWraps) {
  for (unsigned i = 0; i < 300; ++i) command(op(Command::InvalidateIommuAll));
  EXPECT_EQ(get(COMMAND_HEAD), (300u - 256u) * 16u);
}
TEST_F(AmdIommuTest, AnIllegalCommandStopsTheRing) {
  command(op(Command::InvalidateIommuAll));
  command(std::uint64_t{15} << 60);
  EXPECT_EQ(get(COMMAND_HEAD), 16u);
  EXPECT_EQ(get(STATUS) & STATUS_CMD_BUF_RUN, 0u);
  EXPECT_EQ(event()[0], code(Event::IllegalCommandError));
  EXPECT_EQ(event()[1], COMMANDS + 16);
}
TEST_F(AmdIommuTest, AStoppedRingStartsAgainWhenItIsEnabledAgain) {
  command(std::uint64_t{15} << 60);
  iommu.write(CONTROL, 8, ON & ~CONTROL_CMD_BUF_EN);
  iommu.write(COMMAND_HEAD, 8, 16);
  iommu.write(CONTROL, 8, ON);
  command(op(Command::InvalidateIommuAll));
  EXPECT_EQ(get(COMMAND_HEAD), 32u);
}
TEST_F(AmdIommuTest, AStoreOutsideRamStopsTheRing) {
  command(op(Command::CompletionWait) | 0xfee0'0000 | WAIT_STORE);
  EXPECT_EQ(event()[0], code(Event::CommandHardwareError));
}
TEST_F(AmdIommuTest, ARingOutsideRamStops) {
  iommu.write(COMMAND_BUFFER_BASE, 8, 0xfee0'0000 | std::uint64_t{8} << 56);
  iommu.write(COMMAND_TAIL, 8, 16);
  EXPECT_EQ(event()[0], code(Event::CommandHardwareError));
}
TEST_F(AmdIommuTest, NothingRunsWhileTheIommuIsOff) {
  iommu.write(CONTROL, 8, ON & ~CONTROL_IOMMU_EN);
  command(op(Command::InvalidateIommuAll));
  EXPECT_EQ(get(COMMAND_HEAD), 0u);
  iommu.write(CONTROL, 8, ON);
  EXPECT_EQ(get(COMMAND_HEAD), 16u);
}

// ---- Events and registers -------------------------------------------------------------------------------------------

TEST_F(AmdIommuTest, AFullLogOverflowsAndStops) {
  map_page_5();
  for (unsigned i = 0; i < 300; ++i) EXPECT_FALSE(translate(0x6000));
  EXPECT_EQ(events(), 255u);
  EXPECT_EQ(get(STATUS) & (STATUS_EVENT_OVERFLOW | STATUS_EVENT_LOG_RUN), STATUS_EVENT_OVERFLOW);
  EXPECT_EQ(interrupts, 2u);  // the first event, the overflow
}
TEST_F(AmdIommuTest, AnOverflownLogGoesOnWhenItIsEnabledAgain) {
  map_page_5();
  for (unsigned i = 0; i < 300; ++i) EXPECT_FALSE(translate(0x6000));
  iommu.write(CONTROL, 8, ON & ~CONTROL_EVENT_LOG_EN);
  iommu.write(STATUS, 8, STATUS_EVENT_OVERFLOW);
  iommu.write(EVENT_HEAD, 8, get(EVENT_TAIL));
  iommu.write(CONTROL, 8, ON);
  EXPECT_FALSE(translate(0x6000));
  EXPECT_EQ(events(), 0u);  // the 256th
  EXPECT_EQ(event(255)[1], 0x6000u);
}
TEST_F(AmdIommuTest, RegistersMayBeWrittenInHalves) {
  iommu.write(DEVICE_TABLE_BASE + 4, 4, 0x1);
  iommu.write(DEVICE_TABLE_BASE, 4, 0x7001);
  EXPECT_EQ(get(DEVICE_TABLE_BASE), 0x1'0000'7001u);
  EXPECT_EQ(iommu.read(DEVICE_TABLE_BASE + 4, 4), 1u);
}
TEST_F(AmdIommuTest, FeaturesAreReadOnly) {
  iommu.write(EXTENDED_FEATURE, 8, ~std::uint64_t{0});
  EXPECT_EQ(get(EXTENDED_FEATURE), FEATURES);
}
TEST_F(AmdIommuTest, ABasesPointersStartAnew) {
  command(op(Command::InvalidateIommuAll));
  iommu.write(COMMAND_BUFFER_BASE, 8, COMMANDS | std::uint64_t{8} << 56);
  EXPECT_EQ(get(COMMAND_HEAD), 0u);
  EXPECT_EQ(get(COMMAND_TAIL), 0u);
}
TEST_F(AmdIommuTest, PointersStayInTheRing) {
  iommu.write(EVENT_HEAD, 8, ~std::uint64_t{0});
  EXPECT_EQ(get(EVENT_HEAD), 4096u - 16u);
}
TEST_F(AmdIommuTest, ResetTurnsItOff) {
  iommu.reset();
  EXPECT_EQ(get(CONTROL), 0u);
  EXPECT_EQ(get(DEVICE_TABLE_BASE), 0u);
}
TEST_F(AmdIommuTest, ARestoredOneGoesOn) {
  map_page_5();
  EXPECT_FALSE(translate(0x6000));
  machine::SnapshotWriter out;
  iommu.save(out);
  AmdIommu other(memory, IOMMU);
  machine::SnapshotReader in(out.data());
  other.restore(in);
  ASSERT_TRUE(in.ok());
  EXPECT_EQ(other.read(STATUS, 8), get(STATUS));
  EXPECT_EQ(other.translate(DEVICE, 0x5000, 1, DmaAccess::Read)->address, GuestPhys{0x7000});
  EXPECT_FALSE(other.translate(DEVICE, 0x6000, 1, DmaAccess::Read));
  EXPECT_EQ(other.read(EVENT_TAIL, 8), 32u);
  machine::SnapshotWriter again;
  iommu.save(again);
  EXPECT_EQ(std::vector(out.data().begin(), out.data().end()), std::vector(again.data().begin(), again.data().end()));
}
TEST_F(AmdIommuTest, ADamagedStateStaysWithinItsRings) {
  machine::SnapshotWriter out;
  out.section("amd-iommu");
  for (unsigned i = 0; i < 11; ++i) out.put(~std::uint64_t{0});
  machine::SnapshotReader in(out.data());
  iommu.restore(in);
  iommu.write(STATUS, 8, 0);
  iommu.write(COMMAND_TAIL, 8, 16);
  EXPECT_LT(get(COMMAND_HEAD), ring_entry_bytes << 15);
}

// ---- The PCI function -----------------------------------------------------------------------------------------------

TEST_F(AmdIommuTest, TheCapabilitySaysWhereItsRegistersAre) {
  AmdIommuFunction function(iommu, 0xfed8'0000);
  EXPECT_EQ(function.read_config(0x34, 1), 0x40u);
  EXPECT_EQ(function.read_config(0x40, 4) & 0xffff'00ff, 0x080b'000fu);
  EXPECT_EQ(function.read_config(0x44, 4), 0xfed8'0001u);
  EXPECT_EQ(function.read_config(0x48, 4), 0u);
}
TEST_F(AmdIommuTest, ItHasAnMsiCapability) {
  AmdIommuFunction function(iommu, 0xfed8'0000);
  EXPECT_EQ(function.read_config(function.read_config(0x41, 1), 1), 0x05u);
}

}  // namespace
}  // namespace veneer::devices
