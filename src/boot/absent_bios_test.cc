// Unit tests of what stands in for a BIOS: where things are; tests/engine/absent_bios_test.cc runs the code.
#include "boot/absent_bios.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <span>

#include "base/units.h"

namespace veneer::boot {
namespace {

class AbsentBios : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(memory.add("low", GuestPhys{0}, MiB, machine::SlotKind::Ram).ok()); }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }
  machine::GuestMemory memory;
  const E820Map map = {{0, 0x9fc00, E820Type::Ram}, {0x9fc00, 0x400, E820Type::Reserved}};
};

TEST_F(AbsentBios, TheDataAreaSaysWhereConventionalMemoryEnds) {
  ASSERT_TRUE(write_absent_bios(memory, map));
  EXPECT_EQ(peek<std::uint16_t>(0x40e), 0x9fc0);
  EXPECT_EQ(peek<std::uint16_t>(0x413), 639);
}

TEST_F(AbsentBios, TheExtendedDataAreaBeginsWithItsSize) {
  ASSERT_TRUE(write_absent_bios(memory, map));
  EXPECT_EQ(peek<std::uint8_t>(0x9fc00), 1);
}

TEST_F(AbsentBios, NothingIsWrittenBehindMemoryWithoutAnExtendedDataArea) {
  ASSERT_TRUE(write_absent_bios(memory, {{0, 0xa0000, E820Type::Ram}}));
  EXPECT_EQ(peek<std::uint16_t>(0x40e), 0xa000);
  EXPECT_EQ(peek<std::uint8_t>(0xa0000), 0);
}

TEST_F(AbsentBios, VectorsLeadToTheStubs) {
  ASSERT_TRUE(write_absent_bios(memory, map));
  for (unsigned vector = 0; vector < 256; ++vector) {
    const auto offset = peek<std::uint16_t>(vector * 4), segment = peek<std::uint16_t>(vector * 4 + 2);
    EXPECT_GE(segment * 16u + offset, BIOS_STUBS.value) << vector;
    EXPECT_LT(segment * 16u + offset, MiB) << vector;
  }
}

TEST_F(AbsentBios, TheResetVectorIsAFarJump) {
  ASSERT_TRUE(write_absent_bios(memory, map));
  struct [[gnu::packed]] {
    std::uint8_t opcode;
    std::uint16_t offset, segment;
  } jump{};
  ASSERT_TRUE(memory.read(GuestPhys{0xffff0}, std::as_writable_bytes(std::span(&jump, 1))));
  EXPECT_EQ(jump.opcode, 0xea);
  EXPECT_EQ(jump.segment * 16u + jump.offset, 0xfffe0u);
}

TEST(AbsentBiosMemory, NeedsRam) {
  machine::GuestMemory memory;
  ASSERT_TRUE(memory.add("low", GuestPhys{0}, 512 * KiB, machine::SlotKind::Ram).ok());
  EXPECT_FALSE(write_absent_bios(memory, {{0, 512 * KiB, E820Type::Ram}}));
}

}  // namespace
}  // namespace veneer::boot
