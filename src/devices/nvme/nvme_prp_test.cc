// PRP lists: well-made, wrong, and malicious.
#include "devices/nvme/nvme_prp.h"

#include <gtest/gtest.h>

namespace veneer::devices::nvme {
namespace {

class PrpTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t ram = 4 * MiB;
  PrpTest() { EXPECT_TRUE(memory.add("ram", GuestPhys{0}, ram, machine::SlotKind::Ram).ok()); }
  Status collect(std::uint64_t prp1, std::uint64_t prp2, std::uint64_t bytes) {
    Command command{};
    command.prp1 = prp1;
    command.prp2 = prp2;
    return collect_prp(memory, command, bytes, machine::DmaAccess::Write, data);
  }
  void list(std::uint64_t at, std::uint64_t first_page, unsigned count, std::uint64_t step = 2 * page_bytes) {
    for (unsigned i = 0; i < count; ++i) ASSERT_TRUE(memory.write_value(GuestPhys{at + 8 * i}, first_page + step * i));
  }
  machine::GuestMemory memory;
  machine::DmaBuffers data;
};

TEST_F(PrpTest, OneEntry) {
  EXPECT_EQ(collect(0x1200, 0, 512), Status::Success);
  EXPECT_EQ(data.bytes(), 512u);
}
TEST_F(PrpTest, TwoEntries) {
  EXPECT_EQ(collect(0x1e00, 0x8000, 1024), Status::Success);
  EXPECT_EQ(data.pieces().size(), 2u);
}
TEST_F(PrpTest, AList) {
  list(0x3000, 0x10000, 3);
  EXPECT_EQ(collect(0x1000, 0x3000, 4 * page_bytes), Status::Success);
  EXPECT_EQ(data.bytes(), 4 * page_bytes);
}
TEST_F(PrpTest, AListOverTwoPages) {
  list(0x3ff0, 0x10000, 1);
  ASSERT_TRUE(memory.write_value(GuestPhys{0x3ff8}, std::uint64_t{0x5000}));
  list(0x5000, 0x20000, 3);
  EXPECT_EQ(collect(0x1000, 0x3ff0, 5 * page_bytes), Status::Success);
  EXPECT_EQ(data.bytes(), 5 * page_bytes);
}
TEST_F(PrpTest, TheLastEntryOfAPageIsDataWhenTheDataEndsThere) {
  list(0x3ff0, 0x10000, 2);
  EXPECT_EQ(collect(0x1000, 0x3ff0, 3 * page_bytes), Status::Success);
}
TEST_F(PrpTest, ASecondEntryInsideAPageIsRefused) {
  EXPECT_EQ(collect(0x1000, 0x8010, 2 * page_bytes), Status::PrpOffsetInvalid);
}
TEST_F(PrpTest, AListEntryInsideAPageIsRefused) {
  list(0x3000, 0x10008, 3);
  EXPECT_EQ(collect(0x1000, 0x3000, 4 * page_bytes), Status::PrpOffsetInvalid);
}
TEST_F(PrpTest, AnOddListIsRefused) { EXPECT_EQ(collect(0x1000, 0x3004, 4 * page_bytes), Status::PrpOffsetInvalid); }
TEST_F(PrpTest, AListThatLeadsToItsOwnEndIsRefused) {  // else it would never end
  ASSERT_TRUE(memory.write_value(GuestPhys{0x3ff8}, std::uint64_t{0x3ff8}));
  EXPECT_EQ(collect(0x1000, 0x3ff8, 4 * page_bytes), Status::PrpOffsetInvalid);
}
TEST_F(PrpTest, AListInACircleEnds) {
  list(0x3000, 0x10000, 511, 0);
  ASSERT_TRUE(memory.write_value(GuestPhys{0x3ff8}, std::uint64_t{0x3000}));
  EXPECT_EQ(collect(0x1000, 0x3000, transfer_bytes_max), Status::Success);
}
TEST_F(PrpTest, NoRam) { EXPECT_EQ(collect(ram, 0, 512), Status::DataTransferError); }
TEST_F(PrpTest, NoRamForTheList) { EXPECT_EQ(collect(0x1000, ram, 4 * page_bytes), Status::DataTransferError); }
TEST_F(PrpTest, NoRamBehindTheList) {
  list(0x3000, ram, 3);
  EXPECT_EQ(collect(0x1000, 0x3000, 4 * page_bytes), Status::DataTransferError);
}
TEST_F(PrpTest, AnAddressAtTheVeryEnd) {
  EXPECT_EQ(collect(~std::uint64_t{0} - 3, 0, 4096), Status::DataTransferError);
}

}  // namespace
}  // namespace veneer::devices::nvme
