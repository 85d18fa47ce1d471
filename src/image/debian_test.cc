#include "image/debian.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "image/debian_files.h"
#include "image/package_progress.h"

namespace veneer::image {
namespace {

const DiskNames names{Guid::of("00112233-4455-6677-8899-aabbccddeeff"), 0x1234abcd};

std::string file(const DebianOptions& options, const std::string& path) {
  for (const SystemFile& each : debian_files(options, names))
    if (each.path == path) return each.content;
  return "(none)";
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(DebianFiles, FstabNamesBothFileSystems) {
  EXPECT_TRUE(has(file({}, "etc/fstab"), "UUID=00112233-4455-6677-8899-aabbccddeeff / ext4"));
  EXPECT_TRUE(has(file({}, "etc/fstab"), "UUID=1234-ABCD /boot/efi vfat"));
}
TEST(DebianFiles, GrubStartsTheRightRoot) {
  EXPECT_TRUE(has(file({}, "boot/grub/grub.cfg"), "linux /vmlinuz root=UUID=00112233-4455-6677-8899-aabbccddeeff"));
}
TEST(DebianFiles, HostName) {
  DebianOptions options;
  options.hostname = "web";
  EXPECT_EQ(file(options, "etc/hostname"), "web\n");
}
TEST(DebianScript, PasswordIsQuoted) {
  DebianOptions options;
  options.password = "it's $HOME";
  EXPECT_TRUE(has(debian_script(options, names), "'debian:it'\\''s $HOME' | chpasswd"));
}
TEST(DebianScript, WithAPasswordSudoAsksForIt) {
  DebianOptions options;
  options.password = "secret";
  EXPECT_FALSE(has(debian_script(options, names), "NOPASSWD"));
}
TEST(DebianScript, WithAKeyAloneSudoDoesNotAsk) {
  DebianOptions options;
  options.ssh_keys = {"ssh-ed25519 AAAA"};
  EXPECT_TRUE(has(debian_script(options, names), "NOPASSWD"));
  EXPECT_TRUE(has(debian_script(options, names), "'ssh-ed25519 AAAA' >>/home/debian/.ssh/authorized_keys"));
}
TEST(DebianSources, FollowTheHost) {
  const auto sources = debian_sources({},
                                      "http://m/debian/ bookworm main\nhttp://m/debian/ bookworm contrib\n"
                                      "http://s/ bookworm-security main\nhttp://x/ trixie main\n");
  EXPECT_EQ(sources,
            (std::vector<std::string>{"deb http://m/debian/ bookworm main", "deb http://s/ bookworm-security main"}));
}
TEST(DebianSources, OfAnotherSuiteAreDebians) {
  const auto sources = debian_sources({}, "http://x/ trixie main\n");
  ASSERT_EQ(sources.size(), 3u);
  EXPECT_EQ(sources[0], "deb http://deb.debian.org/debian bookworm main");
}
TEST(DebianSources, MirrorAlone) {
  DebianOptions options;
  options.mirror = "http://mirror/debian";
  EXPECT_EQ(debian_sources(options, "http://m/debian/ bookworm main\n"),
            std::vector<std::string>{"deb http://mirror/debian bookworm main"});
}
TEST(DebianOptions, DefaultsAreFine) { EXPECT_TRUE(check({}).ok()); }
TEST(DebianOptions, SmallDisk) {
  DebianOptions options;
  options.size_bytes = 1 * GiB;
  EXPECT_FALSE(check(options).ok());
}
TEST(DebianOptions, UserThatWouldBeAnOption) {
  DebianOptions options;
  options.user = "-rf";
  EXPECT_FALSE(check(options).ok());
}
TEST(DebianOptions, RootAsUser) {
  DebianOptions options;
  options.user = "root";
  EXPECT_FALSE(check(options).ok());
}
TEST(DebianOptions, PackageThatWouldBeMore) {
  DebianOptions options;
  options.packages = {"vim nginx"};
  EXPECT_FALSE(check(options).ok());
}
TEST(PackageProgress, Counts) {
  PackageProgress progress;
  progress.take("0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.");
  progress.take("Unpacking libc6:amd64 (2.36-9) ...");
  EXPECT_EQ(progress.take("Unpacking bash (5.2) ..."), "unpacking 2 of 69 packages");
}
TEST(PackageProgress, SecondInstallationCountsAnew) {
  PackageProgress progress;
  progress.take("0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.");
  progress.take("Setting up bash (5.2) ...");
  progress.take("0 upgraded, 3 newly installed, 0 to remove and 0 not upgraded.");
  EXPECT_EQ(progress.take("Setting up less (590) ..."), "setting up 1 of 3 packages");
}

}  // namespace
}  // namespace veneer::image
