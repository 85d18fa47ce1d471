// A host disk that fills up or breaks under a qcow2 image.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <utility>

#include "disk/qcow2/check.h"
#include "disk/qcow2/create.h"
#include "disk/qcow2/qcow2_image.h"
#include "memory_file.h"

namespace veneer::disk::qcow2 {
namespace {

using testing::MemoryFile;

class FailingDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = std::make_unique<MemoryFile>();
    disk = file.get();
    CreateOptions create;
    create.size_bytes = 4 * MiB;
    create.cluster_bytes = 4096;
    ASSERT_TRUE(create_image(*file, create).ok());
    auto header = read_header(*file);
    auto opened = Qcow2Image::open(std::move(file), header.value(), {.format = Format::Qcow2}, nullptr);
    ASSERT_TRUE(opened.ok());
    image = std::move(opened).value();
  }
  Result<void> put(std::uint64_t offset, std::size_t length) {
    std::vector<std::byte> bytes(length, std::byte{7});
    const iovec iov{bytes.data(), bytes.size()};
    return image->write(offset, {&iov, 1});
  }
  MemoryFile* disk = nullptr;
  std::unique_ptr<Qcow2Image> image;
};

TEST_F(FailingDisk, FullDiskIsSaidAsSuch) {
  disk->limit = 100 * 1024;
  const auto result = put(0, 1 * MiB);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), ENOSPC);
}

TEST_F(FailingDisk, SameWriteWorksOnceThereIsSpace) {
  disk->limit = 100 * 1024;
  ASSERT_FALSE(put(0, 1 * MiB).ok());
  disk->limit = 64 * MiB;
  EXPECT_TRUE(put(0, 1 * MiB).ok());
}

TEST_F(FailingDisk, FlushWorksOnceThereIsSpaceForTables) {
  ASSERT_TRUE(put(0, 512).ok());
  // What the write took and nothing more: the L2 table stands behind it in the file.
  const std::uint64_t now = disk->bytes().size();
  ASSERT_TRUE(put(3 * MiB, 512).ok());
  disk->limit = now;
  (void)image->flush();
  disk->limit = 64 * MiB;
  EXPECT_TRUE(image->flush().ok());
}

TEST_F(FailingDisk, NoDamageIsLeftByAFullDisk) {
  disk->limit = 100 * 1024;
  ASSERT_FALSE(put(0, 1 * MiB).ok());
  (void)image->flush();
  MemoryFile copy(disk->bytes());
  auto header = read_header(copy);
  const auto report = check_image(copy, header.value(), Repair::None);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report.value().corruptions, 0u);
  disk->limit = 64 * MiB;
}

TEST_F(FailingDisk, AfterAFailedSyncNothingIsWritten) {
  ASSERT_TRUE(put(0, 512).ok());
  disk->fail_sync = true;
  ASSERT_FALSE(image->flush().ok());
  disk->fail_sync = false;
  const std::uint64_t writes = disk->writes;
  EXPECT_FALSE(put(4096, 512).ok());
  EXPECT_FALSE(image->flush().ok());
  EXPECT_EQ(disk->writes, writes);
}

/// A host that takes its time over a table must not hold up those who ask for places: they have the whole machine's lock.
TEST_F(FailingDisk, PlacesAreGivenAndTakenBackWhileATableIsWritten) {
  disk->fd = 0;
  ASSERT_TRUE(put(0, 4096).ok());
  ASSERT_TRUE(image->flush().ok());
  Mapping held, refused;
  ASSERT_TRUE(image->map_for_read(0, 4096, held));
  ASSERT_TRUE(put(2 * MiB, 4096).ok());  // another L2 table
  std::promise<void> reached, gate;
  bool first = true;
  disk->before_write = [&] {
    if (!std::exchange(first, false)) return;
    reached.set_value();
    gate.get_future().wait();
  };
  auto flush = std::async(std::launch::async, [&] { return image->flush().ok(); });
  reached.get_future().wait();
  auto answer = std::async(std::launch::async, [&] {
    const bool mapped = image->map_for_read(0, 4096, refused);
    held.release();
    return mapped;
  });
  EXPECT_EQ(answer.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  gate.set_value();
  EXPECT_FALSE(answer.get());
  EXPECT_TRUE(flush.get());
  EXPECT_TRUE(image->map_for_read(0, 4096, held));
}

}  // namespace
}  // namespace veneer::disk::qcow2
