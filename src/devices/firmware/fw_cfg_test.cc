// fw_cfg: both ways of reading, the directory, and DMA that a hostile guest asks for.
#include "devices/firmware/fw_cfg.h"

#include <gtest/gtest.h>

#include <string>

namespace veneer::devices {
namespace {

class FwCfgTest : public testing::Test {
 protected:
  FwCfgTest() {
    EXPECT_TRUE(memory.add("ram", GuestPhys{0}, 0x10000, machine::SlotKind::Ram).ok());
    EXPECT_TRUE(memory.add("rom", GuestPhys{0x10000}, 0x1000, machine::SlotKind::Rom).ok());
    fw.add_file_value("etc/one", std::uint32_t{0x11223344});
    fw.add_file_value("etc/two", std::uint8_t{7});
  }
  std::string read_port(std::uint16_t item, unsigned count) {
    fw.write(0, 2, item);
    std::string out;
    for (unsigned i = 0; i < count; ++i) out += static_cast<char>(fw.read(1, 1));
    return out;
  }
  /// Control field afterwards.
  std::uint32_t dma(std::uint32_t control, std::uint32_t length, std::uint64_t address, std::uint64_t at = 0x100) {
    struct {
      std::uint32_t control, length;
      std::uint64_t address;
    } access{__builtin_bswap32(control), __builtin_bswap32(length), __builtin_bswap64(address)};
    (void)memory.write_value(GuestPhys{at}, access);
    fw.write(4, 4, __builtin_bswap32(static_cast<std::uint32_t>(at >> 32)));
    fw.write(8, 4, __builtin_bswap32(static_cast<std::uint32_t>(at)));
    std::uint32_t result = 0xffffffff;
    (void)memory.read_value(GuestPhys{at}, result);
    return __builtin_bswap32(result);
  }
  machine::GuestMemory memory;
  FwCfg fw{memory};
};

TEST_F(FwCfgTest, SignsAsQemu) { EXPECT_EQ(read_port(FwCfg::SIGNATURE, 4), "QEMU"); }
TEST_F(FwCfgTest, OffersDma) { EXPECT_EQ(read_port(FwCfg::INTERFACE_VERSION, 4), std::string("\3\0\0\0", 4)); }
TEST_F(FwCfgTest, DmaRegisterShowsItsSignature) {
  EXPECT_EQ(fw.read(4, 4), __builtin_bswap32(0x51454d55u));
  EXPECT_EQ(fw.read(8, 4), __builtin_bswap32(0x20434647u));
}
TEST_F(FwCfgTest, BehindTheEndAreZeros) { EXPECT_EQ(read_port(FwCfg::FIRST_FILE + 1, 3), std::string("\7\0\0", 3)); }
TEST_F(FwCfgTest, UnknownItemsAreZeros) { EXPECT_EQ(read_port(0x1234, 2), std::string("\0\0", 2)); }
TEST_F(FwCfgTest, DirectoryListsFiles) {
  const std::string directory = read_port(FwCfg::FILE_DIRECTORY, 4 + 2 * 64);
  EXPECT_EQ(directory.substr(0, 4), std::string("\0\0\0\2", 4));
  EXPECT_EQ(directory.substr(4, 8), std::string("\0\0\0\4\0\x20\0\0", 8));
  EXPECT_STREQ(directory.c_str() + 4 + 64 + 8, "etc/two");
}
TEST_F(FwCfgTest, DmaReadsASelectedItem) {
  EXPECT_EQ(dma((std::uint32_t{FwCfg::FIRST_FILE} << 16) | 0xa, 4, 0x2000), 0u);
  std::uint32_t value = 0;
  ASSERT_TRUE(memory.read_value(GuestPhys{0x2000}, value));
  EXPECT_EQ(value, 0x11223344u);
}
TEST_F(FwCfgTest, DmaSkips) {
  EXPECT_EQ(dma((std::uint32_t{FwCfg::FIRST_FILE} << 16) | 0xc, 3, 0), 0u);
  EXPECT_EQ(fw.read(1, 1), 0x11u);
}
TEST_F(FwCfgTest, DmaIntoNothingIsAnError) {
  EXPECT_EQ(dma((std::uint32_t{FwCfg::FIRST_FILE} << 16) | 0xa, 4, 0xfff0'0000'0000), 1u);
}
TEST_F(FwCfgTest, HugeDmaStopsAtTheEndOfMemory) { EXPECT_EQ(dma((0x4321u << 16) | 0xa, 0xffff'ffff, 0x3000), 1u); }
TEST_F(FwCfgTest, DmaWriteIsRefused) { EXPECT_EQ(dma((std::uint32_t{FwCfg::FIRST_FILE} << 16) | 0x18, 4, 0x2000), 1u); }
TEST_F(FwCfgTest, DmaIntoRomChangesNothing) {
  (void)dma((std::uint32_t{FwCfg::FIRST_FILE} << 16) | 0xa, 4, 0x10000);
  std::uint32_t value = 1;
  ASSERT_TRUE(memory.read_value(GuestPhys{0x10000}, value));
  EXPECT_EQ(value, 0u);
}
TEST_F(FwCfgTest, DmaStructureOutsideOfMemoryIsIgnored) {
  EXPECT_EQ(dma(0xa, 4, 0x2000, 0x7000'0000'0000), 0xffffffffu);
}
TEST_F(FwCfgTest, RefreshIsAskedForTheSelectedFile) {
  std::string asked;
  fw.set_refresh([&](const std::string& name) { asked = name; });
  (void)read_port(FwCfg::FIRST_FILE + 1, 1);
  EXPECT_EQ(asked, "etc/two");
}

}  // namespace
}  // namespace veneer::devices
