// Raw images: transfers, ends, mapping, the guarded first sector, locks.
#include "disk/raw.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

namespace veneer::disk {
namespace {

class RawTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "raw_test_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    path = folder + "/disk.img";
    std::ofstream(path, std::ios::binary) << std::string(64 * 1024, 'a');
  }
  void TearDown() override {
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
  }
  std::unique_ptr<Image> open_as(OpenOptions options) {
    auto image = open_image(path, options);
    EXPECT_TRUE(image.ok()) << image.error().message();
    return image.ok() ? std::move(image).value() : nullptr;
  }
  static Result<void> put(Image& image, std::uint64_t offset, std::string text) {
    const iovec iov{text.data(), text.size()};
    return image.write(offset, {&iov, 1});
  }
  static std::string get(Image& image, std::uint64_t offset, std::size_t length) {
    std::string text(length, '?');
    const iovec iov{text.data(), text.size()};
    EXPECT_TRUE(image.read(offset, {&iov, 1}).ok());
    return text;
  }
  std::string folder, path;
};

TEST_F(RawTest, WrittenTextReadsBack) {
  auto image = open_as({.format = Format::Raw});
  ASSERT_TRUE(put(*image, 1000, "hello").ok());
  EXPECT_EQ(get(*image, 999, 7), "ahelloa");
}

TEST_F(RawTest, WritingPastTheEndIsRefused) {
  auto image = open_as({.format = Format::Raw});
  const auto result = put(*image, 64 * 1024 - 2, "hello");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), EINVAL);
}

TEST_F(RawTest, ReadOnlyRefusesWrites) {
  auto image = open_as({.format = Format::Raw, .read_only = true});
  const auto result = put(*image, 0, "hello");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), EROFS);
}

TEST_F(RawTest, ProbedImageRefusesAFormatMarkInItsFirstSector) {
  auto image = open_as({});
  const auto result = put(*image, 0, std::string("QFI\xfb\0\0\0\3", 8));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(get(*image, 0, 4), "aaaa");
}

TEST_F(RawTest, ProbedImageRefusesAFormatMarkWrittenInPieces) {
  auto image = open_as({});
  ASSERT_TRUE(put(*image, 1, "FI\xfb").ok());
  EXPECT_FALSE(put(*image, 0, "Q").ok());
}

TEST_F(RawTest, NamedRawTakesAnyFirstSector) {
  auto image = open_as({.format = Format::Raw});
  EXPECT_TRUE(put(*image, 0, std::string("QFI\xfb\0\0\0\3", 8)).ok());
}

TEST_F(RawTest, MappingOfAProbedImageLeavesTheFirstSectorToWrite) {
  auto image = open_as({});
  Mapping mapping;
  EXPECT_FALSE(image->map_for_write(0, 4096, mapping));
}

TEST_F(RawTest, MappingLeadsToTheFile) {
  auto image = open_as({.format = Format::Raw});
  Mapping mapping;
  ASSERT_TRUE(image->map_for_read(4096, 8192, mapping));
  ASSERT_EQ(mapping.extents.size(), 1u);
  EXPECT_EQ(mapping.extents[0].host_offset, 4096u);
  EXPECT_EQ(mapping.extents[0].length, 8192u);
}

TEST_F(RawTest, WritethroughIsNeverMappedForWriting) {
  auto image = open_as({.format = Format::Raw, .cache = CacheMode::Writethrough});
  Mapping mapping;
  EXPECT_FALSE(image->map_for_write(4096, 4096, mapping));
}

TEST_F(RawTest, ZeroesReadAsZeroes) {
  auto image = open_as({.format = Format::Raw});
  ASSERT_TRUE(image->write_zeroes(100, 9000, ZeroMode::MayUnmap).ok());
  EXPECT_EQ(get(*image, 99, 9002), "a" + std::string(9000, '\0') + "a");
}

TEST_F(RawTest, StatusFindsHoles) {
  auto image = open_as({.format = Format::Raw});
  ASSERT_TRUE(image->discard(16384, 16384).ok());
  const auto status = image->status(16384, 40000);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status.value().kind, Image::Status::Kind::Zero);
  EXPECT_EQ(status.value().length, 16384u);
}

TEST_F(RawTest, SecondWriterIsRefused) {
  auto image = open_as({.format = Format::Raw});
  const auto second = open_image(path, {.format = Format::Raw});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), EBUSY);
}

TEST_F(RawTest, ReaderBesideAWriterIsRefused) {
  auto image = open_as({.format = Format::Raw});
  EXPECT_FALSE(open_image(path, {.format = Format::Raw, .read_only = true}).ok());
}

TEST_F(RawTest, WriterBesideAReaderIsRefused) {
  auto image = open_as({.format = Format::Raw, .read_only = true});
  EXPECT_FALSE(open_image(path, {.format = Format::Raw}).ok());
}

TEST_F(RawTest, TwoReadersAgree) {
  auto image = open_as({.format = Format::Raw, .read_only = true});
  EXPECT_TRUE(open_image(path, {.format = Format::Raw, .read_only = true}).ok());
}

TEST_F(RawTest, ClosingGivesTheLockUp) {
  auto image = open_as({.format = Format::Raw});
  ASSERT_TRUE(image->close().ok());
  EXPECT_TRUE(open_image(path, {.format = Format::Raw}).ok());
}

TEST_F(RawTest, GrowthBySomebodyElseIsSeen) {
  auto image = open_as({.format = Format::Raw});
  ASSERT_EQ(truncate(path.c_str(), 128 * 1024), 0);
  EXPECT_EQ(image->size(), 64u * 1024);
  ASSERT_TRUE(image->refresh_size().ok());
  EXPECT_EQ(get(*image, 100 * 1024, 2), std::string(2, '\0'));
}

TEST_F(RawTest, AFileThatEndsWithinASectorReadsWithZeros) {
  std::ofstream(path, std::ios::binary) << std::string(1000, 'x');
  auto image = open_as({.format = Format::Raw});
  EXPECT_EQ(image->size(), 1024u);
  EXPECT_EQ(get(*image, 990, 34), std::string(10, 'x') + std::string(24, '\0'));
}

TEST_F(RawTest, TheLastSectorOfSuchAFileCanBeWritten) {
  std::ofstream(path, std::ios::binary) << std::string(1000, 'x');
  ASSERT_TRUE(put(*open_as({.format = Format::Raw}), 512, std::string(512, 'y')).ok());
  EXPECT_EQ(get(*open_as({.format = Format::Raw}), 510, 514), "xx" + std::string(512, 'y'));
}

TEST_F(RawTest, WhatWasCutOffByOthersIsNoZeros) {
  auto image = open_as({.format = Format::Raw});
  ASSERT_EQ(truncate(path.c_str(), 4096), 0);
  ASSERT_TRUE(image->refresh_size().ok());
  std::array<char, 512> bytes{};
  const iovec iov{bytes.data(), bytes.size()};
  EXPECT_FALSE(image->read(8192, {&iov, 1}).ok());
}

TEST_F(RawTest, ShrinkingNeedsPermission) {
  auto image = open_as({.format = Format::Raw});
  EXPECT_FALSE(image->resize(4096, false).ok());
  ASSERT_TRUE(image->resize(4096, true).ok());
  EXPECT_EQ(image->size(), 4096u);
}

TEST_F(RawTest, ForeignFormatsAreNamed) {
  std::ofstream(path, std::ios::binary) << "KDMV" << std::string(1000, '\0');
  const auto image = open_image(path, {});
  ASSERT_FALSE(image.ok());
  EXPECT_NE(image.error().message().find("VMDK"), std::string::npos);
}

TEST_F(RawTest, MissingImageSaysWhatToDo) {
  const auto image = open_image(folder + "/none.img", {});
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.error().code(), ENOENT);
  EXPECT_NE(image.error().message().find("veneer disk create"), std::string::npos);
}

}  // namespace
}  // namespace veneer::disk
