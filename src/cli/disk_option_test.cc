// --disk: values and complaints.
#include "cli/disk_option.h"

#include <gmock/gmock.h>

namespace veneer::cli {
namespace {

vm::DiskConfig parsed(const std::string& text) {
  auto disk = parse_disk(text);
  EXPECT_TRUE(disk.ok()) << disk.error().message();
  return disk.ok() ? disk.value() : vm::DiskConfig{};
}
std::string complaint(const std::string& text) {
  const auto disk = parse_disk(text);
  EXPECT_FALSE(disk.ok());
  return disk.ok() ? "" : disk.error().message();
}

TEST(DiskOption, APathAlone) { EXPECT_EQ(parsed("a.img").path, "a.img"); }
TEST(DiskOption, WithoutAFormatItIsProbed) { EXPECT_FALSE(parsed("a.img").open.format.has_value()); }
TEST(DiskOption, ACommaInThePathIsWrittenTwice) { EXPECT_EQ(parsed("a,,b.img,readonly").path, "a,b.img"); }
TEST(DiskOption, Format) { EXPECT_EQ(parsed("a,format=qcow2").open.format, disk::Format::Qcow2); }
TEST(DiskOption, Interface) { EXPECT_EQ(parsed("a,if=nvme").interface, vm::DiskInterface::Nvme); }
TEST(DiskOption, Ahci) { EXPECT_EQ(parsed("a,if=ahci").interface, vm::DiskInterface::Ahci); }
TEST(CdromOption, HangsOnIde) { EXPECT_EQ(parse_cdrom("a.iso").value().interface, vm::DiskInterface::Ide); }
TEST(CdromOption, MayHangOnAhci) {
  const auto drive = parse_cdrom("a,,b.iso,if=ahci");
  ASSERT_TRUE(drive.ok());
  EXPECT_EQ(drive.value().path, "a,b.iso");
  EXPECT_EQ(drive.value().interface, vm::DiskInterface::Ahci);
}
TEST(CdromOption, HasNoOtherPlace) { EXPECT_FALSE(parse_cdrom("a.iso,if=nvme").ok()); }
TEST(CdromOption, HasNoOtherKeys) { EXPECT_FALSE(parse_cdrom("a.iso,cache=none").ok()); }
TEST(DiskOption, ReadOnly) { EXPECT_TRUE(parsed("a,readonly").open.read_only); }
TEST(DiskOption, ReadOnlyWithAValue) { EXPECT_FALSE(parsed("a,readonly=off").open.read_only); }
TEST(DiskOption, Snapshot) { EXPECT_TRUE(parsed("a,snapshot").snapshot); }
TEST(DiskOption, Cache) { EXPECT_EQ(parsed("a,cache=none").open.cache, disk::CacheMode::None); }
TEST(DiskOption, Discard) { EXPECT_EQ(parsed("a,discard=ignore").open.discard, disk::DiscardPolicy::Ignore); }
TEST(DiskOption, Queues) { EXPECT_EQ(parsed("a,queues=4").queues, 4u); }
TEST(DiskOption, Serial) { EXPECT_EQ(parsed("a,serial=S-1").serial, "S-1"); }
TEST(DiskOption, Rates) {
  const vm::DiskConfig disk = parsed("a,iops=500,bps=10M");
  EXPECT_EQ(disk.iops, 500u);
  EXPECT_EQ(disk.bytes_per_second, 10 * MiB);
}
TEST(DiskOption, ErrorPolicies) {
  const vm::DiskConfig disk = parsed("a,werror=report,rerror=stop");
  EXPECT_EQ(disk.write_errors, disk::ErrorPolicy::Report);
  EXPECT_EQ(disk.read_errors, disk::ErrorPolicy::Stop);
}
TEST(DiskOption, NoPath) { EXPECT_THAT(complaint(",readonly"), testing::HasSubstr("no file")); }
TEST(DiskOption, AnUnknownKeyNamesTheKnownOnes) {
  EXPECT_THAT(complaint("a,frobnicate=1"),
              testing::AllOf(testing::HasSubstr("frobnicate"), testing::HasSubstr("cache")));
}
TEST(DiskOption, AnUnknownValueNamesTheKnownOnes) {
  EXPECT_THAT(complaint("a,cache=fast"), testing::AllOf(testing::HasSubstr("fast"), testing::HasSubstr("writeback")));
}
TEST(DiskOption, AKeyWithoutItsValue) { EXPECT_THAT(complaint("a,cache"), testing::HasSubstr("cache=")); }
TEST(DiskOption, TooManyQueues) { EXPECT_THAT(complaint("a,queues=1000"), testing::HasSubstr("1 to 64")); }
TEST(DiskOption, ASerialThatIsTooLong) {
  EXPECT_THAT(complaint("a,serial=" + std::string(21, 'x')), testing::HasSubstr("20"));
}
TEST(DiskOption, AFormatThatIsNotSupported) { EXPECT_THAT(complaint("a,format=vmdk"), testing::HasSubstr("vmdk")); }
TEST(DiskOption, AnInterfaceOfLaterVersions) { EXPECT_THAT(complaint("a,if=scsi"), testing::HasSubstr("virtio")); }

}  // namespace
}  // namespace veneer::cli
