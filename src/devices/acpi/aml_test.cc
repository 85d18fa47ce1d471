// AML encodings, against bytes worked out by hand from ACPI 6.4 chapter 20.
#include "devices/acpi/aml.h"

#include <gmock/gmock.h>

namespace veneer::devices::aml {
namespace {

using testing::ElementsAre;

TEST(Aml, SmallIntegersAreOpcodes) {
  EXPECT_THAT(integer(0), ElementsAre(0x00));
  EXPECT_THAT(integer(1), ElementsAre(0x01));
}

TEST(Aml, IntegersTakeTheShortestForm) {
  EXPECT_THAT(integer(0xff), ElementsAre(0x0a, 0xff));
  EXPECT_THAT(integer(0x100), ElementsAre(0x0b, 0x00, 0x01));
  EXPECT_THAT(integer(0x10000), ElementsAre(0x0c, 0, 0, 1, 0));
  EXPECT_THAT(integer(0x100000000), ElementsAre(0x0e, 0, 0, 0, 0, 1, 0, 0, 0));
}

TEST(Aml, AShortPackage) { EXPECT_THAT(package({integer(5), integer(0)}), ElementsAre(0x12, 0x05, 2, 0x0a, 5, 0)); }

TEST(Aml, AName) { EXPECT_THAT(name("_UID", integer(1)), ElementsAre(0x08, '_', 'U', 'I', 'D', 1)); }

TEST(Aml, AScopeOfTwoSegments) {
  EXPECT_THAT(scope("\\_SB_.PCI0", {}), ElementsAre(0x10, 0x0b, '\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0'));
}

TEST(Aml, LengthsUpTo63TakeOneByte) {
  EXPECT_EQ(buffer(Bytes(60))[1], 63);  // length byte, size operand of two bytes, 60
  EXPECT_EQ(buffer(Bytes(61))[1], 0x40 | (65 & 0xf));
}

TEST(Aml, LengthsUpTo4095TakeTwoBytes) {
  const Bytes encoded = buffer(Bytes(4090));  // 2 + 3 + 4090 = 4095
  EXPECT_EQ(encoded[1], 0x4f);
  EXPECT_EQ(encoded[2], 0xff);
}

TEST(Aml, LongerLengthsTakeThreeBytes) {
  const Bytes encoded = buffer(Bytes(4091));  // 3 + 3 + 4091 = 4097
  EXPECT_EQ(encoded[1], 0x81);
  EXPECT_EQ(encoded[2], 0x00);
  EXPECT_EQ(encoded[3], 0x01);
}

TEST(Aml, ManyElementsMakeAVarPackage) {
  const Bytes encoded = package(std::vector<Bytes>(256, integer(0)));
  EXPECT_EQ(encoded[0], 0x13);
}

TEST(Aml, AMemoryWindowSaysFirstLastAndLength) {
  const Bytes window = resource_memory32_window(0xc0000000, 0x1000);
  EXPECT_EQ(window.size(), 26u);
  EXPECT_EQ(window[0], 0x87);
  EXPECT_EQ(window[14], 0xff);  // last: c0000fff
  EXPECT_EQ(window[15], 0x0f);
}

}  // namespace
}  // namespace veneer::devices::aml
