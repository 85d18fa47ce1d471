// MSI-X masking and pending bits.
#include "devices/pci/msix.h"

#include <gmock/gmock.h>

#include <utility>
#include <vector>

namespace veneer::devices {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

class MsixTest : public testing::Test {
 protected:
  void program(unsigned vector, std::uint64_t address, std::uint32_t data, std::uint32_t control = 0) {
    table.write(16u * vector, 8, address);
    table.write(16u * vector + 8, 8, data | (std::uint64_t{control} << 32));
  }
  std::vector<std::pair<std::uint64_t, std::uint32_t>> sent;
  MsixTable table{3, [this](std::uint64_t address, std::uint32_t data) { sent.emplace_back(address, data); }};
};

TEST_F(MsixTest, SendsWhatTheEntrySays) {
  program(1, 0x1'fee0'0000, 0x41);
  table.set_control(true, false);
  table.signal(1);
  EXPECT_THAT(sent, ElementsAre(Pair(0x1'fee0'0000, 0x41)));
}

TEST_F(MsixTest, EntriesStartMasked) { EXPECT_EQ(table.read(12, 4), 1u); }

TEST_F(MsixTest, AMaskedVectorIsPending) {
  table.set_control(true, false);
  table.signal(2);
  EXPECT_EQ(table.read(MsixTable::pba_offset, 8), 4u);
  EXPECT_THAT(sent, IsEmpty());
}

TEST_F(MsixTest, UnmaskingSendsThePendingOne) {
  table.set_control(true, false);
  table.signal(0);
  program(0, 0xfee00000, 0x50);
  EXPECT_THAT(sent, ElementsAre(Pair(0xfee00000, 0x50)));
  EXPECT_EQ(table.read(MsixTable::pba_offset, 4), 0u);
}

TEST_F(MsixTest, TheFunctionMaskHoldsEverythingBack) {
  program(0, 0xfee00000, 0x50);
  table.set_control(true, true);
  table.signal(0);
  EXPECT_THAT(sent, IsEmpty());
}

TEST_F(MsixTest, LiftingTheFunctionMaskSends) {
  program(0, 0xfee00000, 0x50);
  table.set_control(true, true);
  table.signal(0);
  table.set_control(true, false);
  EXPECT_EQ(sent.size(), 1u);
}

TEST_F(MsixTest, DisabledSendsNothing) {
  program(0, 0xfee00000, 0x50);
  table.signal(0);
  EXPECT_THAT(sent, IsEmpty());
}

TEST_F(MsixTest, IgnoresVectorsItDoesNotHave) {
  table.set_control(true, false);
  table.signal(3);
  EXPECT_EQ(table.read(MsixTable::pba_offset, 4), 0u);
}

TEST_F(MsixTest, AccessesBeyondTheTableReadZero) { EXPECT_EQ(table.read(16 * 3, 8), 0u); }

TEST_F(MsixTest, OddAccessesReadZero) { EXPECT_EQ(table.read(2, 4), 0u); }

TEST_F(MsixTest, PendingBitsAreReadOnly) {
  table.write(MsixTable::pba_offset, 8, 7);
  EXPECT_EQ(table.read(MsixTable::pba_offset, 8), 0u);
}

}  // namespace
}  // namespace veneer::devices
