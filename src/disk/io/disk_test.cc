// The engine with images that work, fail, and are slow.
#include "disk/io/disk.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include "base/units.h"
#include "disk/iov.h"

namespace veneer::disk {
namespace {

/// An image in memory that can be told to fail. It maps nothing, so that workers do all.
class MemoryImage : public Image {
 public:
  explicit MemoryImage(std::size_t size) : bytes(size) {}
  Format format() const override { return Format::Raw; }
  const std::string& name() const override { return name_; }
  bool read_only() const override { return false; }
  std::uint64_t size() const override { return bytes.size(); }
  Limits limits() const override { return {}; }
  Result<void> read(std::uint64_t offset, std::span<const iovec> iov) override {
    if (fail_with != 0) return Error::from_errno("the test", fail_with);
    const std::lock_guard hold(mutex);
    iov_copy_in(iov, bytes.data() + offset);
    return {};
  }
  Result<void> write(std::uint64_t offset, std::span<const iovec> iov) override {
    if (fail_with != 0) return Error::from_errno("the test", fail_with);
    const std::lock_guard hold(mutex);
    iov_copy_out(iov, bytes.data() + offset);
    unflushed = true;
    return {};
  }
  Result<void> flush() override {
    if (fail_with != 0) return Error::from_errno("the test", fail_with);
    ++flushes;
    unflushed = false;
    return {};
  }
  Result<void> discard(std::uint64_t, std::uint64_t) override { return {}; }
  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroMode) override {
    const std::lock_guard hold(mutex);
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
    return {};
  }
  Result<void> resize(std::uint64_t new_size, bool) override {
    bytes.resize(new_size);
    return {};
  }
  Result<Status> status(std::uint64_t, std::uint64_t length) override { return Status{Status::Kind::Data, length}; }
  Result<void> close() override { return flush(); }

  std::mutex mutex;
  std::vector<std::byte> bytes;
  std::atomic<int> fail_with{0};
  std::atomic<int> flushes{0};
  std::atomic<bool> unflushed{false};

 protected:
  bool map_extents(std::uint64_t, std::uint64_t, bool, std::vector<HostExtent>&, std::uint64_t&) override {
    return false;
  }
  void end_lease(std::uint64_t) override {}

 private:
  std::string name_ = "memory";
};

class DiskTest : public testing::Test {
 protected:
  DiskTest() {
    set_log_sink([this](LogLevel, std::string_view line) { log += std::string(line) + "\n"; });
    events.start();
  }
  ~DiskTest() override {
    disk.reset();
    events.stop();
    set_log_sink({});
  }
  MemoryImage& in_memory(DiskOptions options = {}) {
    auto made = std::make_unique<MemoryImage>(1 * MiB);
    MemoryImage& image = *made;
    use(std::move(made), std::move(options));
    return image;
  }
  /// A raw image in a file that is gone when the test is.
  void in_file(CacheMode cache = CacheMode::Writeback, DiskOptions options = {}) {
    std::string path = testing::TempDir() + "veneer-disk-XXXXXX";
    const Fd fd(mkstemp(path.data()));
    ASSERT_EQ(ftruncate(fd.get(), 1 * MiB), 0);
    OpenOptions open;
    open.format = Format::Raw;
    open.cache = cache;
    auto image = open_image(path, open);
    unlink(path.c_str());
    if (!image && cache == CacheMode::None) GTEST_SKIP() << image.error().message();
    ASSERT_TRUE(image.ok()) << image.error().message();
    use(std::move(image).value(), std::move(options));
  }
  void use(std::unique_ptr<Image> image, DiskOptions options) {
    options.label = "vda";
    auto made = Disk::create(std::move(image), std::move(options), events, lock, [this] { ++pauses; });
    ASSERT_TRUE(made.ok()) << made.error().message();
    disk = std::move(made).value();
  }
  /// Hands a request over; the future has its end.
  std::future<IoStatus> begin(IoKind kind, std::uint64_t offset, std::span<std::byte> data = {},
                              std::uint64_t bytes = 0) {
    auto promise = std::make_shared<std::promise<IoStatus>>();
    IoRequest request;
    request.kind = kind;
    request.offset = offset;
    request.bytes = data.empty() ? bytes : data.size();
    if (!data.empty()) request.buffers = {{data.data(), data.size()}};
    request.done = [promise](IoStatus status) { promise->set_value(status); };
    const std::lock_guard hold(lock);
    disk->submit(std::move(request));
    disk->start();
    return promise->get_future();
  }
  static bool ready(std::future<IoStatus>& future, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    return future.wait_for(limit) == std::future_status::ready;
  }
  IoStatus now(IoKind kind, std::uint64_t offset, std::span<std::byte> data = {}, std::uint64_t bytes = 0) {
    auto future = begin(kind, offset, data, bytes);
    return ready(future) ? future.get() : IoStatus::Cancelled;
  }
  template <typename Work>
  auto locked(Work work) {
    const std::lock_guard hold(lock);
    return work();
  }
  std::vector<std::byte> pattern(std::size_t size, unsigned seed) {
    std::vector<std::byte> data(size);
    for (std::byte& byte : data) byte = static_cast<std::byte>((seed = seed * 1664525 + 1013904223) >> 24);
    return data;
  }

  std::recursive_mutex lock;
  EventLoop events{lock};
  std::atomic<int> pauses{0};
  std::string log;
  std::unique_ptr<Disk> disk;
};

TEST_F(DiskTest, WhatIsWrittenIsRead) {
  in_memory();
  auto data = pattern(8192, 1);
  ASSERT_EQ(now(IoKind::Write, 4096, data), IoStatus::Ok);
  std::vector<std::byte> back(8192);
  ASSERT_EQ(now(IoKind::Read, 4096, back), IoStatus::Ok);
  EXPECT_EQ(back, data);
}

TEST_F(DiskTest, AFileBehindThePageCache) {
  in_file();
  auto data = pattern(8192, 2);
  ASSERT_EQ(now(IoKind::Write, 512, data), IoStatus::Ok);
  std::vector<std::byte> back(8192);
  ASSERT_EQ(now(IoKind::Read, 512, back), IoStatus::Ok);
  EXPECT_EQ(back, data);
}

TEST_F(DiskTest, AFileWithDirectIo) {
  in_file(CacheMode::None);
  if (IsSkipped()) return;
  auto data = pattern(3 * 4096, 3);
  ASSERT_EQ(now(IoKind::Write, 512, data), IoStatus::Ok);  // neither place nor memory is aligned
  std::vector<std::byte> back(3 * 4096);
  ASSERT_EQ(now(IoKind::Read, 512, back), IoStatus::Ok);
  EXPECT_EQ(back, data);
}

TEST_F(DiskTest, ManyDirectRequestsAtOnce) {
  in_file(CacheMode::None);
  if (IsSkipped()) return;
  struct alignas(4096) Page {
    std::array<std::byte, 4096> bytes;
  };
  std::vector<Page> data(64), back(64);
  std::vector<std::future<IoStatus>> ends;
  for (unsigned i = 0; i < 64; ++i) data[i].bytes.fill(static_cast<std::byte>(i + 1));
  for (unsigned i = 0; i < 64; ++i) ends.push_back(begin(IoKind::Write, i * 8192, data[i].bytes));
  for (auto& end : ends) ASSERT_TRUE(ready(end) && end.get() == IoStatus::Ok);
  ends.clear();
  for (unsigned i = 0; i < 64; ++i) ends.push_back(begin(IoKind::Read, i * 8192, back[i].bytes));
  for (auto& end : ends) ASSERT_TRUE(ready(end) && end.get() == IoStatus::Ok);
  for (unsigned i = 0; i < 64; ++i) EXPECT_EQ(back[i].bytes, data[i].bytes);
  EXPECT_TRUE(!disk->uses_uring() || disk->counters().by_uring == 128);
}

TEST_F(DiskTest, AFileWithoutUring) {
  in_file(CacheMode::Writeback, {.engine = IoEngine::Threads});
  auto data = pattern(4096, 4);
  ASSERT_EQ(now(IoKind::Write, 0, data), IoStatus::Ok);
  std::vector<std::byte> back(4096);
  ASSERT_EQ(now(IoKind::Read, 0, back), IoStatus::Ok);
  EXPECT_EQ(back, data);
  EXPECT_FALSE(disk->uses_uring());
}

TEST_F(DiskTest, ManyRequestsAtOnce) {
  in_file();
  std::vector<std::vector<std::byte>> data, back(64, std::vector<std::byte>(4096));
  std::vector<std::future<IoStatus>> ends;
  for (unsigned i = 0; i < 64; ++i) data.push_back(pattern(4096, i));
  for (unsigned i = 0; i < 64; ++i) ends.push_back(begin(IoKind::Write, i * 8192, data[i]));
  for (auto& end : ends) ASSERT_EQ(end.get(), IoStatus::Ok);
  ends.clear();
  for (unsigned i = 0; i < 64; ++i) ends.push_back(begin(IoKind::Read, i * 8192, back[i]));
  for (auto& end : ends) ASSERT_EQ(end.get(), IoStatus::Ok);
  EXPECT_EQ(back, data);
}

TEST_F(DiskTest, FlushReachesTheImage) {
  MemoryImage& image = in_memory();
  auto data = pattern(512, 1);
  ASSERT_EQ(now(IoKind::Write, 0, data), IoStatus::Ok);
  ASSERT_TRUE(image.unflushed);
  ASSERT_EQ(now(IoKind::Flush, 0), IoStatus::Ok);
  EXPECT_FALSE(image.unflushed);
}

TEST_F(DiskTest, ForcedUnitAccessIsStableWhenItCompletes) {
  MemoryImage& image = in_memory();
  auto data = pattern(512, 1);
  std::promise<bool> stable;
  IoRequest request;
  request.kind = IoKind::Write;
  request.bytes = data.size();
  request.buffers = {{data.data(), data.size()}};
  request.force_unit_access = true;
  request.done = [&](IoStatus) { stable.set_value(!image.unflushed); };
  locked([&] {
    disk->submit(std::move(request));
    disk->start();
  });
  EXPECT_TRUE(stable.get_future().get());
}

TEST_F(DiskTest, AnErrorIsReported) {
  in_memory().fail_with = EIO;
  auto data = pattern(512, 1);
  EXPECT_EQ(now(IoKind::Write, 0, data), IoStatus::Failed);
  EXPECT_THAT(log, testing::HasSubstr("vda: writing 512 bytes at 0"));
  EXPECT_EQ(pauses, 0);
}

TEST_F(DiskTest, NoSpacePausesAndNothingIsLost) {
  MemoryImage& image = in_memory();
  image.fail_with = ENOSPC;
  auto data = pattern(512, 1);
  auto end = begin(IoKind::Write, 1024, data);
  EXPECT_FALSE(ready(end, std::chrono::milliseconds(200)));
  EXPECT_EQ(pauses, 1);
  image.fail_with = 0;
  locked([&] { disk->resume(); });
  ASSERT_EQ(end.get(), IoStatus::Ok);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), image.bytes.begin() + 1024));
}

TEST_F(DiskTest, WhatStillFailsAfterResumingPausesAgain) {
  MemoryImage& image = in_memory();
  image.fail_with = ENOSPC;
  auto data = pattern(512, 1);
  auto end = begin(IoKind::Write, 0, data);
  while (pauses < 1) std::this_thread::yield();
  locked([&] { disk->resume(); });
  while (pauses < 2) std::this_thread::yield();
  image.fail_with = 0;
  locked([&] { disk->resume(); });
  EXPECT_EQ(end.get(), IoStatus::Ok);
}

TEST_F(DiskTest, NoSpaceIsReportedWhenSoWanted) {
  in_memory({.write_errors = ErrorPolicy::Report}).fail_with = ENOSPC;
  auto data = pattern(512, 1);
  EXPECT_EQ(now(IoKind::Write, 0, data), IoStatus::NoSpace);
}

TEST_F(DiskTest, AReadErrorPausesWhenSoWanted) {
  MemoryImage& image = in_memory({.read_errors = ErrorPolicy::Stop});
  image.fail_with = EIO;
  std::vector<std::byte> back(512);
  auto end = begin(IoKind::Read, 0, back);
  while (pauses < 1) std::this_thread::yield();
  image.fail_with = 0;
  locked([&] { disk->resume(); });
  EXPECT_EQ(end.get(), IoStatus::Ok);
}

TEST_F(DiskTest, SettleWaitsForWhatRuns) {
  in_memory();
  auto data = pattern(512, 1);
  auto end = begin(IoKind::Write, 0, data);
  locked([&] { disk->settle(); });
  EXPECT_TRUE(ready(end, std::chrono::milliseconds(0)));
}

TEST_F(DiskTest, SettlingOftenUnderOneLockLeavesWorkersToWork) {
  in_memory();
  unsigned done = 0;
  ::alarm(60);  // should all workers wait for the lock, nobody is left to end the wait in settle()
  const std::lock_guard hold(lock);
  for (unsigned i = 0; i < 32; ++i) {
    disk->submit({.kind = IoKind::Flush, .done = [&done](IoStatus) { ++done; }});
    disk->settle();
  }
  ::alarm(0);
  EXPECT_EQ(done, 32u);
}

TEST_F(DiskTest, CancelGivesUpWhatIsStopped) {
  in_memory().fail_with = ENOSPC;
  auto data = pattern(512, 1);
  auto end = begin(IoKind::Write, 0, data);
  while (pauses < 1) std::this_thread::yield();
  locked([&] { disk->cancel(); });
  EXPECT_EQ(end.get(), IoStatus::Cancelled);
}

TEST_F(DiskTest, ARateHoldsRequestsBack) {
  in_memory({.iops = 100});
  auto data = pattern(512, 1);
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < 30; ++i) ASSERT_EQ(now(IoKind::Write, 0, data), IoStatus::Ok);
  EXPECT_GT(std::chrono::steady_clock::now() - started,
            std::chrono::milliseconds(150));  // 10 at once, then 20 at 100/s
}

TEST_F(DiskTest, SettleDoesNotWaitForTheRate) {
  in_memory({.bytes_per_second = 512});
  auto data = pattern(4096, 1);
  std::vector<std::future<IoStatus>> ends;
  for (int i = 0; i < 5; ++i) ends.push_back(begin(IoKind::Write, 0, data));
  locked([&] { disk->settle(); });
  for (auto& end : ends) EXPECT_TRUE(ready(end, std::chrono::milliseconds(0)));
}

TEST_F(DiskTest, GrowingTellsTheListener) {
  in_memory();
  bool told = false;
  locked([&] {
    disk->set_resize_listener([&] { told = true; });
    EXPECT_TRUE(disk->grow(2 * MiB).ok());
  });
  EXPECT_TRUE(told);
  EXPECT_EQ(disk->size_bytes(), 2 * MiB);
}

TEST_F(DiskTest, ShrinkingIsRefused) {
  in_memory();
  EXPECT_FALSE(locked([&] { return disk->grow(512); }).ok());
}

TEST_F(DiskTest, CloseFlushes) {
  MemoryImage& image = in_memory();
  auto data = pattern(512, 1);
  ASSERT_EQ(now(IoKind::Write, 0, data), IoStatus::Ok);
  ASSERT_TRUE(locked([&] { return disk->close(); }).ok());
  EXPECT_FALSE(image.unflushed);
}

TEST_F(DiskTest, CloseSaysWhenFlushingFails) {
  in_memory().fail_with = EIO;
  const auto closed = locked([&] { return disk->close(); });
  ASSERT_FALSE(closed.ok());
  EXPECT_THAT(closed.error().message(), testing::HasSubstr("disk vda"));
}

TEST_F(DiskTest, CountsWhatWasDone) {
  in_memory();
  auto data = pattern(1024, 1);
  ASSERT_EQ(now(IoKind::Write, 0, data), IoStatus::Ok);
  ASSERT_EQ(now(IoKind::Read, 0, data), IoStatus::Ok);
  EXPECT_EQ(disk->counters().written_bytes, 1024u);
  EXPECT_EQ(disk->counters().reads, 1u);
}

}  // namespace
}  // namespace veneer::disk
