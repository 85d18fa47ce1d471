#include "image/grub_boot.h"

#include <gtest/gtest.h>

#include "image/le.h"

namespace veneer::image {
namespace {

std::vector<std::uint8_t> boot_sector() {
  std::vector<std::uint8_t> sector(512, 0x90);
  put_le(sector, 510, 0xaa55, 2);
  return sector;
}

/// `sectors` of core image, the last one half full; its block list is as grub-mkimage writes it.
std::vector<std::uint8_t> core_image(std::size_t sectors) {
  std::vector<std::uint8_t> image(512 * sectors - 256, 0xcc);
  put_le(image, 496, 0, 2);
  put_le(image, 500, 2, 8);
  put_le(image, 508, sectors - 1, 2);
  put_le(image, 510, 0x820, 2);
  return image;
}

TEST(GrubBoot, BootSectorKnowsWhereTheCoreImageIs) {
  const auto boot = link_grub(boot_sector(), core_image(10), 2048, 2048);
  ASSERT_TRUE(boot.ok());
  EXPECT_EQ(get_le(boot.value().boot_code, 0x5c, 8), 2048u);
}
TEST(GrubBoot, CoreImageKnowsWhereItsRestIs) {
  const auto boot = link_grub(boot_sector(), core_image(10), 2048, 2048);
  ASSERT_TRUE(boot.ok());
  EXPECT_EQ(get_le(boot.value().core, 500, 8), 2049u);
  EXPECT_EQ(get_le(boot.value().core, 508, 2), 9u);
  EXPECT_EQ(get_le(boot.value().core, 510, 2), 0x820u);
}
TEST(GrubBoot, PartitionTableIsLeftAlone) {
  const auto boot = link_grub(boot_sector(), core_image(10), 2048, 2048);
  ASSERT_TRUE(boot.ok());
  EXPECT_EQ(boot.value().boot_code.size(), 440u);
}
TEST(GrubBoot, CoreImageIsFilledUpToWholeSectors) {
  const auto boot = link_grub(boot_sector(), core_image(10), 2048, 2048);
  ASSERT_TRUE(boot.ok());
  EXPECT_EQ(boot.value().core.size(), 5120u);
  EXPECT_EQ(boot.value().core.back(), 0);
}
TEST(GrubBoot, CoreImageThatDoesNotFit) { EXPECT_FALSE(link_grub(boot_sector(), core_image(10), 2048, 9).ok()); }
TEST(GrubBoot, SomethingElseAsBootSector) {
  EXPECT_FALSE(link_grub(std::vector<std::uint8_t>(512), core_image(10), 2048, 2048).ok());
}
TEST(GrubBoot, SomethingElseAsCoreImage) {
  EXPECT_FALSE(link_grub(boot_sector(), std::vector<std::uint8_t>(5000), 2048, 2048).ok());
}

}  // namespace
}  // namespace veneer::image
