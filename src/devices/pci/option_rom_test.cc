// Option ROMs: what is none, and ids that change with the checksum right.
#include "devices/pci/option_rom.h"

#include <gmock/gmock.h>

#include <cstring>
#include <numeric>
#include <vector>

namespace veneer::devices {
namespace {

/// One image of 512 bytes whose bytes sum to zero.
std::vector<std::byte> image(std::uint8_t code_type, bool last) {
  std::vector<std::byte> rom(512);
  const auto put = [&rom](std::size_t at, std::initializer_list<unsigned> bytes) {
    for (const unsigned byte : bytes) rom[at++] = static_cast<std::byte>(byte);
  };
  put(0, {0x55, 0xaa, 1});
  put(0x18, {0x40, 0});
  put(0x40, {'P', 'C', 'I', 'R', 0xf4, 0x1a, 0x00, 0x10});
  put(0x50, {1, 0, 0, 0, code_type, last ? 0x80u : 0u});
  unsigned sum = 0;
  for (const std::byte byte : rom) sum += std::to_integer<unsigned>(byte);
  rom[6] = static_cast<std::byte>(0u - sum);
  return rom;
}

unsigned sum(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte byte : bytes) sum += std::to_integer<unsigned>(byte);
  return sum & 0xff;
}

std::uint16_t device_of(const std::vector<std::byte>& rom, std::size_t start) {
  std::uint16_t device = 0;
  std::memcpy(&device, rom.data() + start + 0x46, 2);
  return device;
}

TEST(OptionRom, OneImage) { EXPECT_TRUE(check_option_rom(image(0, true)).ok()); }
TEST(OptionRom, AnyBytesAreNone) {
  EXPECT_THAT(check_option_rom(std::vector<std::byte>(4096)).error().message(), ::testing::HasSubstr("55h AAh"));
}
TEST(OptionRom, AnEmptyFileIsNone) { EXPECT_FALSE(check_option_rom({}).ok()); }
TEST(OptionRom, ACutOffImageIsFound) {
  EXPECT_THAT(check_option_rom(image(0, false)).error().message(), ::testing::HasSubstr("cut off"));
}
TEST(OptionRom, APointerOutOfTheFileIsSurvived) {
  auto rom = image(0, true);
  rom[0x19] = std::byte{0xff};
  EXPECT_FALSE(check_option_rom(rom).ok());
}
TEST(OptionRom, TheDeviceChangesAndTheSumStays) {
  auto rom = image(0, true);
  set_rom_device(rom, 0x1af4, 0x1041);
  EXPECT_EQ(device_of(rom, 0), 0x1041);
  EXPECT_EQ(sum(rom), 0u);
}
TEST(OptionRom, EveryImageIsForTheDevice) {
  auto rom = image(0, false);
  const auto second = image(3, true);
  rom.insert(rom.end(), second.begin(), second.end());
  set_rom_device(rom, 0x1af4, 0x1041);
  EXPECT_EQ(device_of(rom, 0), 0x1041);
  EXPECT_EQ(device_of(rom, 512), 0x1041);
}
TEST(OptionRom, AnotherVendorsImageStays) {
  auto rom = image(0, true);
  const auto before = rom;
  set_rom_device(rom, 0x8086, 0x100e);
  EXPECT_EQ(rom, before);
}

}  // namespace
}  // namespace veneer::devices
