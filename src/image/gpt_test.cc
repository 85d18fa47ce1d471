#include "image/gpt.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <span>

#include "image/le.h"

namespace veneer::image {
namespace {

constexpr std::uint64_t disk_sectors = 16384;

GptTables two_partitions() {
  return make_gpt(disk_sectors, Guid::of("00112233-4455-6677-8899-aabbccddeeff"),
                  {{Guid::of(partition_type::efi_system), Guid::random(), 2048, 4095, "EFI system"},
                   {Guid::of(partition_type::linux_root_x86_64), Guid::random(), 4096, 10000, "root"}});
}

/// As UEFI 2.10 5.3.2 says: over 92 bytes, with the field itself as zero.
std::uint64_t crc_of_header(std::span<const std::uint8_t> header) {
  std::vector<std::uint8_t> copy(header.begin(), header.begin() + 92);
  put_le(copy, 16, 0, 4);
  return ::crc32(0, copy.data(), 92);
}

TEST(Gpt, ProtectiveEntryCoversTheDisk) {
  const GptTables tables = two_partitions();
  EXPECT_EQ(get_le(tables.head, 446 + 4, 1), 0xeeu);
  EXPECT_EQ(get_le(tables.head, 446 + 8, 4), 1u);
  EXPECT_EQ(get_le(tables.head, 446 + 12, 4), disk_sectors - 1);
  EXPECT_EQ(get_le(tables.head, 510, 2), 0xaa55u);
}
TEST(Gpt, LargeDiskSaturatesTheProtectiveEntry) {
  const GptTables tables = make_gpt(1ull << 33, {}, {});
  EXPECT_EQ(get_le(tables.head, 446 + 12, 4), 0xffffffffu);
}
TEST(Gpt, HeadersPointAtEachOther) {
  const GptTables tables = two_partitions();
  const auto head = std::span(tables.head).subspan(512);
  const auto tail = std::span(tables.tail).subspan(32 * 512);
  EXPECT_EQ(get_le(head, 24, 8), 1u);
  EXPECT_EQ(get_le(head, 32, 8), disk_sectors - 1);
  EXPECT_EQ(get_le(tail, 24, 8), disk_sectors - 1);
  EXPECT_EQ(get_le(tail, 32, 8), 1u);
}
TEST(Gpt, HeadersPointAtTheirEntries) {
  const GptTables tables = two_partitions();
  EXPECT_EQ(get_le(std::span(tables.head).subspan(512), 72, 8), 2u);
  EXPECT_EQ(get_le(std::span(tables.tail).subspan(32 * 512), 72, 8), disk_sectors - 33);
  EXPECT_TRUE(std::equal(tables.head.begin() + 1024, tables.head.end(), tables.tail.begin()));
}
TEST(Gpt, ChecksumsAreRight) {
  const GptTables tables = two_partitions();
  const auto head = std::span(tables.head).subspan(512);
  const auto tail = std::span(tables.tail).subspan(32 * 512);
  EXPECT_EQ(get_le(head, 16, 4), crc_of_header(head));
  EXPECT_EQ(get_le(tail, 16, 4), crc_of_header(tail));
  EXPECT_EQ(get_le(head, 88, 4), ::crc32(0, tables.tail.data(), 128 * 128));
}
TEST(Gpt, PartitionsMayLieBetweenTheTables) {
  const GptTables tables = two_partitions();
  EXPECT_EQ(get_le(tables.head, 512 + 40, 8), 34u);
  EXPECT_EQ(get_le(tables.head, 512 + 48, 8), disk_sectors - 34);
}
TEST(Gpt, EntrySaysWhereAndWhat) {
  const GptTables tables = two_partitions();
  const auto entry = std::span(tables.head).subspan(1024 + 128);
  EXPECT_EQ(get_le(entry, 32, 8), 4096u);
  EXPECT_EQ(get_le(entry, 40, 8), 10000u);
  EXPECT_EQ(entry[56], 'r');
  EXPECT_EQ(entry[57], 0);
}
TEST(Guid, FirstThreeFieldsAreLittleEndianOnDisk) {
  const auto bytes = Guid::of("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").on_disk();
  constexpr std::array<std::uint8_t, 16> expected = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                                     0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};
  EXPECT_EQ(bytes, expected);
}
TEST(Guid, TextComesBack) {
  EXPECT_EQ(Guid::of("00112233-4455-6677-8899-AABBccddeeff").text(), "00112233-4455-6677-8899-aabbccddeeff");
}
TEST(Guid, RandomOnesDiffer) { EXPECT_NE(Guid::random(), Guid::random()); }
TEST(Guid, RandomOnesAreVersion4) { EXPECT_EQ(Guid::random().text()[14], '4'); }

}  // namespace
}  // namespace veneer::image
