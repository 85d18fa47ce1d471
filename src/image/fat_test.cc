// The oracle is mtools, which reads FAT file systems in plain files.
#include "image/fat.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "image/command.h"
#include "image/le.h"

namespace veneer::image {
namespace {

constexpr std::uint64_t fat16_bytes = 8 << 20, fat32_bytes = 64 << 20;

/// A volume in a file of its own.
class Volume {
 public:
  Volume(std::uint64_t size_bytes, const std::vector<FatFile>& files) {
    auto made = make_fat({size_bytes, "LABEL", 0x1234abcd, 0}, files);
    EXPECT_TRUE(made.ok());
    if (made) bytes_ = std::move(made).value();
    const int fd = ::mkstemp(path_.data());
    ::close(fd);
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
    EXPECT_EQ(::truncate(path_.c_str(), static_cast<off_t>(size_bytes)), 0);
  }
  ~Volume() { ::unlink(path_.c_str()); }

  std::string mtools(std::vector<std::string> command) const {
    command.insert(command.begin() + 1, {"-i", path_});
    auto output = output_of(command);
    EXPECT_TRUE(output.ok()) << output.error().message();
    return output ? output.value() : "";
  }
  std::string content_of(const std::string& path) const { return mtools({"mtype", "::/" + path}); }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::string path_ = "/tmp/veneer-fat-XXXXXX";
  std::vector<std::uint8_t> bytes_;
};

std::string lines(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += fmt::format("line {}\n", i);
  return text;
}

TEST(Fat, ShortNameInFolders) {
  const Volume volume(fat32_bytes, {{"EFI/BOOT/BOOTX64.EFI", "loader\n"}});
  EXPECT_EQ(volume.content_of("EFI/BOOT/BOOTX64.EFI"), "loader\n");
}
TEST(Fat, FileOfManyClusters32) {
  const Volume volume(fat32_bytes, {{"A", "a\n"}, {"BIG.TXT", lines(30000)}, {"Z", "z\n"}});
  EXPECT_EQ(volume.content_of("BIG.TXT"), lines(30000));
}
TEST(Fat, FileOfManyClusters16) {
  const Volume volume(fat16_bytes, {{"A", "a\n"}, {"BIG.TXT", lines(30000)}, {"Z", "z\n"}});
  EXPECT_EQ(volume.content_of("BIG.TXT"), lines(30000));
}
TEST(Fat, LongNames) {
  const Volume volume(fat16_bytes, {{"user-data", "u\n"}, {"network-config", "n\n"}});
  EXPECT_EQ(volume.content_of("network-config"), "n\n");
  EXPECT_NE(volume.mtools({"mdir", "::/"}).find("network-config"), std::string::npos);
}
TEST(Fat, LongNamesThatLookAlikeStayApart) {
  const Volume volume(fat16_bytes, {{"longer-name-1", "1\n"}, {"longer-name-2", "2\n"}, {"LONGER~1", "3\n"}});
  EXPECT_EQ(volume.content_of("longer-name-1"), "1\n");
  EXPECT_EQ(volume.content_of("longer-name-2"), "2\n");
  EXPECT_EQ(volume.content_of("LONGER~1"), "3\n");
}
TEST(Fat, FolderOfManyClusters) {
  std::vector<FatFile> files;
  for (int i = 0; i < 300; ++i) files.push_back({fmt::format("folder/file number {}.text", i), fmt::format("{}\n", i)});
  const Volume volume(fat32_bytes, files);
  EXPECT_EQ(volume.content_of("folder/file number 299.text"), "299\n");
}
TEST(Fat, Label) {
  const Volume volume(fat16_bytes, {});
  EXPECT_NE(volume.mtools({"mdir", "::/"}).find("LABEL"), std::string::npos);
}
TEST(Fat, TypeFollowsFromTheSize) {
  const auto type_of = [](const Volume& volume, std::size_t at) {
    return std::string(volume.bytes().begin() + static_cast<std::ptrdiff_t>(at),
                       volume.bytes().begin() + static_cast<std::ptrdiff_t>(at + 5));
  };
  EXPECT_EQ(type_of(Volume(fat16_bytes, {}), 54), "FAT16");
  EXPECT_EQ(type_of(Volume(fat32_bytes, {}), 82), "FAT32");
}
TEST(Fat, SerialNumber) { EXPECT_EQ(get_le(Volume(fat32_bytes, {}).bytes(), 67, 4), 0x1234abcdu); }
TEST(Fat, TooMuchIsRefused) {
  EXPECT_FALSE(make_fat({fat16_bytes, "L", 0, 0}, {{"BIG", std::string(fat16_bytes, 'x')}}).ok());
}
TEST(Fat, TooManyFilesInTheRootAreRefused) {
  std::vector<FatFile> files;
  for (int i = 0; i < 512; ++i) files.push_back({fmt::format("F{}", i), ""});
  EXPECT_FALSE(make_fat({fat16_bytes, "L", 0, 0}, files).ok());
}
TEST(Fat, NamesThatDifferInCaseOnlyAreRefused) {
  EXPECT_FALSE(make_fat({fat16_bytes, "L", 0, 0}, {{"name", ""}, {"NAME", ""}}).ok());
}
TEST(Fat, ForbiddenCharacterIsRefused) { EXPECT_FALSE(make_fat({fat16_bytes, "L", 0, 0}, {{"a:b", ""}}).ok()); }
TEST(Fat, FileAsFolderIsRefused) { EXPECT_FALSE(make_fat({fat16_bytes, "L", 0, 0}, {{"A", ""}, {"A/B", ""}}).ok()); }
TEST(Fat, SizeThatNoFatHasIsRefused) { EXPECT_FALSE(make_fat({1000, "L", 0, 0}, {}).ok()); }

}  // namespace
}  // namespace veneer::image
