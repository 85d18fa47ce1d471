// I/O page tables: levels, page sizes, skipped levels, permissions, and tables that make no sense.
#include "devices/iommu/amd_iommu_walk.h"

#include <gtest/gtest.h>

#include "devices/iommu/amd_iommu_defs.h"

namespace veneer::devices::amd_iommu {
namespace {

using Kind = WalkResult::Kind;
constexpr std::uint64_t READ_WRITE = PTE_IR | PTE_IW;

class AmdIommuWalkTest : public testing::Test {
 protected:
  AmdIommuWalkTest() { EXPECT_TRUE(memory.add("ram", GuestPhys{0}, 1 * MiB, machine::SlotKind::Ram).ok()); }
  void put(std::uint64_t table, unsigned index, std::uint64_t entry) {
    ASSERT_TRUE(memory.write_value(GuestPhys{table + 8 * index}, entry));
  }
  static std::uint64_t entry(std::uint64_t address, unsigned next_level, std::uint64_t permissions = READ_WRITE) {
    return PTE_PR | std::uint64_t{next_level} << 9 | address | permissions;
  }
  machine::GuestMemory memory;
};

TEST_F(AmdIommuWalkTest, OneLevel) {
  put(0x1000, 5, entry(0x7000, 0));
  const WalkResult found = walk(memory, GuestPhys{0x1000}, 1, 0x5123);
  ASSERT_EQ(found.kind, Kind::Mapped);
  EXPECT_EQ(found.address, GuestPhys{0x7123});
  EXPECT_EQ(found.run_bytes, 0xeddu);
  EXPECT_TRUE(found.readable && found.writable);
}
TEST_F(AmdIommuWalkTest, SixLevels) {
  for (unsigned level = 6; level > 1; --level) put(level * 0x1000, 0, entry((level - 1) * 0x1000, level - 1));
  put(0x6000, 0x7f, entry(0x5000, 5));
  put(0x1000, 1, entry(0x9000, 0));
  EXPECT_EQ(walk(memory, GuestPhys{0x6000}, 6, 0xfe00'0000'0000'1010).address, GuestPhys{0x9010});
}
TEST_F(AmdIommuWalkTest, LargePageOfALevel) {
  put(0x2000, 3, entry(0x8060'0000, 0));
  const WalkResult found = walk(memory, GuestPhys{0x2000}, 2, 3 * 2 * MiB + 0x12345);
  EXPECT_EQ(found.address, GuestPhys{0x8061'2345});
  EXPECT_EQ(found.run_bytes, 2 * MiB - 0x12345);
}
TEST_F(AmdIommuWalkTest, PageThatSaysItsSize) {
  // Bits 15 to 12 are 0111b: the lowest clear bit is 15, so the page has 64 KiB.
  put(0x1000, 0x13, entry(0x4'7000, 7));
  const WalkResult found = walk(memory, GuestPhys{0x1000}, 1, 0x1'3456);
  EXPECT_EQ(found.address, GuestPhys{0x4'3456});
  EXPECT_EQ(found.run_bytes, 64 * KiB - 0x3456);
}
TEST_F(AmdIommuWalkTest, SizesThatALevelCannotHaveAreReserved) {
  put(0x1000, 0, entry(0x000f'f000, 7));  // 2 MiB, in a table of 4 KiB pages
  EXPECT_EQ(walk(memory, GuestPhys{0x1000}, 1, 0).kind, Kind::Reserved);
}
TEST_F(AmdIommuWalkTest, SkippedLevels) {
  put(0x4000, 0, entry(0x1000, 1));
  put(0x1000, 2, entry(0x9000, 0));
  EXPECT_EQ(walk(memory, GuestPhys{0x4000}, 4, 0x2000).address, GuestPhys{0x9000});
}
TEST_F(AmdIommuWalkTest, AddressBitsOfSkippedLevelsAreClear) {
  put(0x4000, 0, entry(0x1000, 1));
  put(0x1000, 2, entry(0x9000, 0));
  EXPECT_EQ(walk(memory, GuestPhys{0x4000}, 4, 2 * MiB + 0x2000).kind, Kind::NotPresent);
}
TEST_F(AmdIommuWalkTest, BeyondTheTablesIsNothing) {
  put(0x1000, 0, entry(0x9000, 0));
  EXPECT_EQ(walk(memory, GuestPhys{0x1000}, 1, 2 * MiB).kind, Kind::NotPresent);
}
TEST_F(AmdIommuWalkTest, PermissionsAreThoseOfAllLevels) {
  put(0x2000, 0, entry(0x1000, 1, PTE_IR));
  put(0x1000, 0, entry(0x9000, 0));
  const WalkResult found = walk(memory, GuestPhys{0x2000}, 2, 0);
  EXPECT_TRUE(found.readable);
  EXPECT_FALSE(found.writable);
}
TEST_F(AmdIommuWalkTest, AbsentEntry) { EXPECT_EQ(walk(memory, GuestPhys{0x1000}, 1, 0).kind, Kind::NotPresent); }
TEST_F(AmdIommuWalkTest, ATableThatLeadsToItselfIsReserved) {
  put(0x3000, 0, entry(0x3000, 3));
  EXPECT_EQ(walk(memory, GuestPhys{0x3000}, 3, 0).kind, Kind::Reserved);
}
TEST_F(AmdIommuWalkTest, ATableThatLeadsUpwardsIsReserved) {
  put(0x3000, 0, entry(0x4000, 5));
  EXPECT_EQ(walk(memory, GuestPhys{0x3000}, 3, 0).kind, Kind::Reserved);
}
TEST_F(AmdIommuWalkTest, NoPageIsAsLargeAsTheTopLevel) {
  put(0x6000, 0, entry(0, 0));
  EXPECT_EQ(walk(memory, GuestPhys{0x6000}, 6, 0).kind, Kind::Reserved);
}
TEST_F(AmdIommuWalkTest, ATableOutsideRamIsSaidWhere) {
  put(0x2000, 1, entry(0xfee0'0000, 1));
  const WalkResult found = walk(memory, GuestPhys{0x2000}, 2, 2 * MiB + 0x3000);
  EXPECT_EQ(found.kind, Kind::NoTable);
  EXPECT_EQ(found.address, GuestPhys{0xfee0'0018});
}

}  // namespace
}  // namespace veneer::devices::amd_iommu
