// Unit tests of the reset vector.
#include "boot/reset_vector.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <span>

#include "base/units.h"

namespace veneer::boot {
namespace {

TEST(ResetVector, StartsWithAFarJumpToTheStub) {
  machine::GuestMemory memory;
  ASSERT_TRUE(memory.add("low", GuestPhys{0}, MiB, machine::SlotKind::Ram).ok());
  ASSERT_TRUE(write_reset_vector(memory));
  struct [[gnu::packed]] {
    std::uint8_t opcode;
    std::uint16_t offset, segment;
  } jump{};
  ASSERT_TRUE(memory.read(GuestPhys{0xffff0}, std::as_writable_bytes(std::span(&jump, 1))));
  EXPECT_EQ(jump.opcode, 0xea);
  EXPECT_EQ(jump.segment * 16u + jump.offset, RESET_STUB.value);
}

TEST(ResetVector, NeedsRam) {
  machine::GuestMemory memory;
  ASSERT_TRUE(memory.add("low", GuestPhys{0}, 512 * KiB, machine::SlotKind::Ram).ok());
  EXPECT_FALSE(write_reset_vector(memory));
}

}  // namespace
}  // namespace veneer::boot
