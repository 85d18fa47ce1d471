// SMBIOS tables: an independent reader walks them as dmidecode does.
#include "devices/firmware/smbios.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace veneer::devices {
namespace {

struct Structure {
  std::uint8_t type;
  std::uint16_t handle;
  std::vector<std::uint8_t> fields;  // with the header
  std::vector<std::string> strings;
  std::size_t bytes;
  std::uint64_t at(std::size_t offset, unsigned size) const {
    std::uint64_t value = 0;
    std::memcpy(&value, fields.data() + offset, size);
    return value;
  }
  std::string text(std::size_t offset) const {
    const std::uint8_t number = fields.at(offset);
    return number == 0 ? "" : strings.at(number - 1u);
  }
};

std::vector<Structure> walk(const std::vector<std::byte>& tables) {
  std::vector<Structure> all;
  const auto byte = [&](std::size_t at) { return std::to_integer<std::uint8_t>(tables.at(at)); };
  for (std::size_t at = 0; at < tables.size();) {
    Structure s{byte(at), static_cast<std::uint16_t>(byte(at + 2) | byte(at + 3) << 8), {}, {}, 0};
    const std::size_t begin = at;
    for (std::size_t i = 0; i < byte(begin + 1); ++i) s.fields.push_back(byte(at++));
    while (byte(at) != 0) {
      std::string text;
      while (byte(at) != 0) text += static_cast<char>(byte(at++));
      ++at;
      s.strings.push_back(text);
    }
    at += s.strings.empty() ? 2 : 1;
    s.bytes = at - begin;
    all.push_back(s);
  }
  return all;
}

class Smbios : public testing::Test {
 protected:
  Smbios() {
    platform.version = "1.2";
    platform.uuid = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    platform.cpus = 4;
    platform.cpu_brand = "A processor";
    platform.memory_below_4g = 3 * GiB;
    platform.memory_above_4g = 17 * GiB;
  }
  std::vector<Structure> structures() { return walk(build_smbios(platform, GuestPhys{0xf0020}).tables); }
  std::vector<Structure> of_type(std::uint8_t type) {
    std::vector<Structure> found = structures();
    std::erase_if(found, [&](const Structure& s) { return s.type != type; });
    return found;
  }
  SmbiosPlatform platform;
};

TEST_F(Smbios, AnchorDescribesTheTables) {
  const SmbiosTables made = build_smbios(platform, GuestPhys{0xf0020});
  const std::vector<Structure> all = walk(made.tables);
  const auto field = [&](std::size_t offset, unsigned size) {
    std::uint64_t value = 0;
    std::memcpy(&value, made.anchor.data() + offset, size);
    return value;
  };
  std::size_t largest = 0;
  for (const Structure& s : all) largest = std::max(largest, s.bytes);
  EXPECT_EQ(made.anchor.size(), 0x1fu);
  EXPECT_EQ(field(0x08, 2), largest);
  EXPECT_EQ(field(0x16, 2), made.tables.size());
  EXPECT_EQ(field(0x18, 4), 0xf0020u);
  EXPECT_EQ(field(0x1c, 2), all.size());
}

TEST_F(Smbios, BothPartsOfTheAnchorAddUpToZero) {
  const std::vector<std::byte> anchor = build_smbios(platform, GuestPhys{0xf0020}).anchor;
  const auto sum = [&](std::size_t from) {
    std::uint8_t total = 0;
    for (std::size_t i = from; i < anchor.size(); ++i) total += std::to_integer<std::uint8_t>(anchor[i]);
    return total;
  };
  EXPECT_EQ(sum(0), 0);
  EXPECT_EQ(sum(0x10), 0);
}

TEST_F(Smbios, EveryHandleIsThereOnce) {
  std::map<std::uint16_t, int> seen;
  for (const Structure& s : structures()) ++seen[s.handle];
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& entry) { return entry.second == 1; }));
}

TEST_F(Smbios, EndsWithTheEnd) { EXPECT_EQ(structures().back().type, 127); }

/// DSP0134 3.6: the lengths that these structures have in version 2.8.
TEST_F(Smbios, LengthsAreThoseOfTheVersion) {
  platform.bios = true;
  const std::map<std::uint8_t, std::size_t> lengths = {{0, 0x18},  {1, 0x1b},  {3, 0x16},  {4, 0x2a}, {16, 0x17},
                                                       {17, 0x28}, {19, 0x1f}, {32, 0x0b}, {127, 4}};
  std::map<std::uint8_t, std::size_t> found;
  for (const Structure& s : structures()) found[s.type] = s.fields.size();
  EXPECT_EQ(found, lengths);
}

TEST_F(Smbios, SystemIsNamed) {
  const Structure system = of_type(1).at(0);
  EXPECT_EQ(system.text(4), "Veneer");
  EXPECT_EQ(system.text(6), "1.2");
  EXPECT_EQ(system.at(8, 8), 0x6677445500112233u);  // the first three fields are numbers, little-endian
}

TEST_F(Smbios, ProcessorHasTheCores) {
  const Structure processor = of_type(4).at(0);
  EXPECT_EQ(processor.text(0x10), "A processor");
  EXPECT_EQ(processor.at(0x23, 1), 4u);
}

TEST_F(Smbios, ModulesAddUpToTheMemory) {
  std::uint64_t mebibytes = 0;
  for (const Structure& s : of_type(17)) mebibytes += s.at(0x0c, 2);
  EXPECT_EQ(mebibytes, 20u * 1024);
}

TEST_F(Smbios, RangesAreWhereTheMemoryIs) {
  const std::vector<Structure> ranges = of_type(19);
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].at(0x17, 8), 3 * GiB - 1);
  EXPECT_EQ(ranges[1].at(0x0f, 8), 4 * GiB);
}

TEST_F(Smbios, OnlyAMachineWithoutFirmwareHasABios) {
  EXPECT_TRUE(of_type(0).empty());
  platform.bios = true;
  EXPECT_EQ(of_type(0).size(), 1u);
}

}  // namespace
}  // namespace veneer::devices
