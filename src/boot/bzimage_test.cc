// What parse_bzimage accepts, and what it says of everything else.
#include "boot/bzimage.h"

#include <gmock/gmock.h>

#include "boot/fake_kernel.h"

namespace veneer::boot {
namespace {

using testing::HasSubstr;

std::string error_of(FakeKernel& kernel) {
  const auto result = parse_bzimage(kernel.head(), kernel.bytes().size());
  return result ? "accepted" : result.error().message();
}

TEST(BzImage, TakesAValidHeader) {
  FakeKernel kernel(4096);
  const auto image = parse_bzimage(kernel.head(), kernel.bytes().size());
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image.value().payload_offset, FakeKernel::setup_bytes);
  EXPECT_EQ(image.value().payload_bytes, 4096u);
  EXPECT_EQ(image.value().setup_header.size(), 0x26cu - 0x1f1u);
}

TEST(BzImage, ZeroSetupSectorsMeansFour) {
  FakeKernel kernel(8192);
  kernel.put<std::uint8_t>(0x1f1, 0);
  kernel.put<std::uint32_t>(0x1f4, 1);
  const auto image = parse_bzimage(kernel.head(), kernel.bytes().size());
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image.value().payload_offset, 5u * 512);
}

TEST(BzImage, ForgivesALastParagraphThatIsNotFull) {
  FakeKernel kernel(4096);
  kernel.bytes().resize(kernel.bytes().size() - 15);
  const auto image = parse_bzimage(kernel.head(), kernel.bytes().size());
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image.value().payload_bytes, 4096u - 15);
}

TEST(BzImage, RefusesATruncatedFile) {
  FakeKernel kernel(4096);
  kernel.bytes().resize(kernel.bytes().size() - 16);
  EXPECT_THAT(error_of(kernel), HasSubstr("truncated"));
}

TEST(BzImage, RefusesAnEmptyFile) { EXPECT_THAT(parse_bzimage({}, 0).error().message(), HasSubstr("empty")); }

TEST(BzImage, RefusesAFileShorterThanAHeader) {
  FakeKernel kernel(4096);
  kernel.bytes().resize(0x210);
  EXPECT_THAT(error_of(kernel), HasSubstr("too few"));
}

TEST(BzImage, NamesAnElfFile) {
  FakeKernel kernel;
  kernel.put<std::uint32_t>(0, 0x464c457f);
  kernel.put<std::uint32_t>(0x202, 0);
  EXPECT_THAT(error_of(kernel), HasSubstr("ELF"));
}

TEST(BzImage, NamesAnInitrd) {
  FakeKernel kernel;
  std::memcpy(kernel.bytes().data(), "070701", 6);
  kernel.put<std::uint16_t>(0x1fe, 0);
  EXPECT_THAT(error_of(kernel), HasSubstr("cpio"));
}

TEST(BzImage, RefusesAnOldProtocol) {
  FakeKernel kernel;
  kernel.put<std::uint16_t>(0x206, 0x0209);
  EXPECT_THAT(error_of(kernel), HasSubstr("2.09"));
}

TEST(BzImage, TellsA32BitKernel) {
  FakeKernel kernel;
  kernel.put<std::uint16_t>(0x236, 0);
  const auto image = parse_bzimage(kernel.head(), kernel.bytes().size());
  ASSERT_TRUE(image.ok());
  EXPECT_FALSE(image.value().entry64);
}

TEST(BzImage, RefusesAnImpossibleAlignment) {
  FakeKernel kernel;
  kernel.put<std::uint32_t>(0x230, 0x300000);
  EXPECT_THAT(error_of(kernel), HasSubstr("kernel_alignment"));
}

TEST(BzImage, RefusesAPreferredAddressBelowOneMegabyte) {
  FakeKernel kernel;
  kernel.put<std::uint64_t>(0x258, 0x7000);
  EXPECT_THAT(error_of(kernel), HasSubstr("pref_address"));
}

TEST(BzImage, RefusesLessWorkingRoomThanPayload) {
  FakeKernel kernel;
  kernel.put<std::uint32_t>(0x260, 16);
  EXPECT_THAT(error_of(kernel), HasSubstr("init_size"));
}

TEST(BzImage, RefusesAHeaderThatEndsInBootParams) {
  FakeKernel kernel;
  kernel.put<std::uint8_t>(0x201, 0xff);
  EXPECT_THAT(error_of(kernel), HasSubstr("jump"));
}

TEST(BzImage, RefusesAnEmptyPayload) {
  FakeKernel kernel;
  kernel.put<std::uint32_t>(0x1f4, 0);
  EXPECT_THAT(error_of(kernel), HasSubstr("syssize"));
}

TEST(BzImage, RefusesAPayloadOfSixtyFourGigabytes) {
  FakeKernel kernel;
  kernel.put<std::uint32_t>(0x1f4, 0xffffffff);
  EXPECT_THAT(error_of(kernel), HasSubstr("truncated"));
}

}  // namespace
}  // namespace veneer::boot
