// Cut-off writes: what a small load writes to the host file is replayed as a crash could have left it.
//
// Everything before a sync has happened; of what came after it any subset of sectors may have. A killed process is the
// other case: everything up to some moment, syncs or not. In every such state the image must be free of damage (leaks
// are allowed), and each sector must hold what the last completed flush covered, or something that was written later.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <random>

#include "disk/qcow2/check.h"
#include "disk/qcow2/create.h"
#include "disk/qcow2/qcow2_image.h"
#include "disk/raw.h"
#include "memory_file.h"

namespace veneer::disk::qcow2 {
namespace {

using testing::MemoryFile;
using Step = MemoryFile::Step;

constexpr std::uint64_t sector = 512;

/// What a sector holds: the number of the operation that wrote it, 0 for zeros, this for the backing file's content.
constexpr std::uint64_t from_backing = ~std::uint64_t{0};

struct Operation {
  enum class Kind : std::uint8_t { Write, Zero, Discard, Flush };
  Kind kind;
  std::uint64_t first, count;  ///< sectors
  std::size_t log_begin;       ///< steps logged before it began
  std::size_t log_end;
};

struct Setup {
  std::uint64_t size_bytes;
  std::uint64_t cluster_bytes;
  std::uint32_t refcount_bits;
  std::uint32_t version;
  bool backing;
  unsigned operations;
  std::uint64_t resize_to = 0;
};

class Replay {
 public:
  Replay(const Setup& setup, std::uint64_t seed) : setup_(setup), random_(seed) {}

  void record();
  /// The state after a loss of power in the middle of the epoch that follows sync number `epoch`.
  void check_power_loss(std::size_t epoch, double kept);
  /// The state after a kill: exactly the first `steps` steps.
  void check_kill(std::size_t steps);

  std::size_t epochs() const { return syncs_.size(); }
  std::size_t steps() const { return log_.size(); }
  unsigned judged() const { return judged_; }

 private:
  std::unique_ptr<Image> backing() const;
  std::unique_ptr<Qcow2Image> open(std::unique_ptr<HostFile> file, bool read_only) const;
  std::uint64_t value_at(const std::vector<std::byte>& content, std::uint64_t index) const;
  void judge(std::vector<std::byte> bytes, std::size_t steps_begun, std::size_t durable_steps, const std::string& what);
  void ask_qemu(const std::vector<std::byte>& bytes, const std::string& what);

  Setup setup_;
  std::mt19937_64 random_;
  std::vector<std::byte> start_;
  std::vector<Step> log_;
  std::vector<std::size_t> syncs_;  ///< positions behind each sync; the first is 0
  std::vector<Operation> operations_;
  unsigned judged_ = 0;
};

std::unique_ptr<Image> Replay::backing() const {
  if (!setup_.backing) return nullptr;
  std::vector<std::byte> content(setup_.size_bytes / 2);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = std::byte{0xbb};
  auto image =
      open_raw(std::make_unique<MemoryFile>(std::move(content)), {.format = Format::Raw, .read_only = true}, false);
  return std::move(image).value();
}

std::unique_ptr<Qcow2Image> Replay::open(std::unique_ptr<HostFile> file, bool read_only) const {
  auto header = read_header(*file);
  EXPECT_TRUE(header.ok()) << header.error().message();
  if (!header.ok()) return nullptr;
  auto image =
      Qcow2Image::open(std::move(file), header.value(), {.format = Format::Qcow2, .read_only = read_only}, backing());
  EXPECT_TRUE(image.ok()) << image.error().message();
  return image.ok() ? std::move(image).value() : nullptr;
}

void Replay::record() {
  auto file = std::make_unique<MemoryFile>();
  CreateOptions create;
  create.size_bytes = setup_.size_bytes;
  create.cluster_bytes = setup_.cluster_bytes;
  create.refcount_bits = setup_.refcount_bits;
  create.version = setup_.version;
  if (setup_.backing) create.backing_file = "backing";
  if (setup_.backing) create.backing_format = "raw";
  ASSERT_TRUE(create_image(*file, create).ok());
  start_ = file->bytes();
  file->logging = true;
  MemoryFile& disk = *file;
  auto image = open(std::move(file), false);
  ASSERT_NE(image, nullptr);
  std::uint64_t sectors = setup_.size_bytes / sector;
  for (unsigned i = 1; i <= setup_.operations; ++i) {
    if (setup_.resize_to != 0 && i == setup_.operations / 2) {
      ASSERT_TRUE(image->resize(setup_.resize_to, false).ok());
      sectors = setup_.resize_to / sector;
    }
    Operation operation{};
    const unsigned what = static_cast<unsigned>(random_() % 10);
    operation.kind = what < 6   ? Operation::Kind::Write
                     : what < 7 ? Operation::Kind::Zero
                     : what < 8 ? Operation::Kind::Discard
                                : Operation::Kind::Flush;
    operation.first = random_() % sectors;
    const std::uint64_t longest = random_() % 4 == 0 ? 8 * setup_.cluster_bytes / sector : 9;
    operation.count = 1 + random_() % std::min(longest, sectors - operation.first);
    operation.log_begin = disk.log.size();
    std::vector<std::uint64_t> words(operation.count * sector / 8, i);
    const iovec iov{words.data(), operation.count * sector};
    const std::uint64_t offset = operation.first * sector, length = operation.count * sector;
    switch (operation.kind) {
      case Operation::Kind::Write:
        ASSERT_TRUE(image->write(offset, {&iov, 1}).ok());
        break;
      case Operation::Kind::Zero:
        ASSERT_TRUE(
            image->write_zeroes(offset, length, random_() % 2 ? ZeroMode::MayUnmap : ZeroMode::KeepAllocated).ok());
        break;
      case Operation::Kind::Discard:
        ASSERT_TRUE(image->discard(offset, length).ok());
        break;
      case Operation::Kind::Flush:
        ASSERT_TRUE(image->flush().ok());
        break;
    }
    operation.log_end = disk.log.size();
    operations_.push_back(operation);
  }
  log_ = disk.log;
  syncs_.push_back(0);
  for (std::size_t i = 0; i < log_.size(); ++i)
    if (log_[i].kind == Step::Kind::Sync) syncs_.push_back(i + 1);
  ASSERT_TRUE(image->close().ok());
}

std::uint64_t Replay::value_at(const std::vector<std::byte>& content, std::uint64_t index) const {
  std::uint64_t words[sector / 8];
  std::memcpy(words, content.data() + index * sector, sector);
  for (const std::uint64_t word : words)
    if (word != words[0]) return from_backing - 1;  // torn: matches nothing
  return words[0] == 0xbbbbbbbbbbbbbbbb ? from_backing : words[0];
}

void Replay::judge(std::vector<std::byte> bytes, std::size_t steps_begun, std::size_t durable_steps,
                   const std::string& what) {
  if (++judged_ % 97 == 0) ask_qemu(bytes, what);
  MemoryFile for_check(bytes);
  auto header = read_header(for_check);
  ASSERT_TRUE(header.ok()) << what << ": " << header.error().message();
  auto report = check_image(for_check, header.value(), Repair::None);
  ASSERT_TRUE(report.ok()) << what << ": " << report.error().message();
  ASSERT_EQ(report.value().corruptions, 0u) << what << ": " << report.value().messages[0];

  // The last flush that had returned when everything up to durable_steps had reached the disk.
  std::size_t flushed = 0;
  for (std::size_t i = 0; i < operations_.size(); ++i)
    if (operations_[i].kind == Operation::Kind::Flush && operations_[i].log_end <= durable_steps) flushed = i + 1;

  auto image = open(std::make_unique<MemoryFile>(std::move(bytes)), true);
  ASSERT_NE(image, nullptr) << what;
  std::vector<std::byte> content(image->size());
  const iovec iov{content.data(), content.size()};
  ASSERT_TRUE(image->read(0, {&iov, 1}).ok()) << what;
  std::vector<std::vector<std::uint64_t>> allowed(content.size() / sector);
  for (std::uint64_t s = 0; s < allowed.size(); ++s)
    allowed[s].push_back(setup_.backing && s < setup_.size_bytes / 2 / sector ? from_backing : 0);
  for (std::size_t i = 0; i < operations_.size(); ++i) {
    const Operation& operation = operations_[i];
    if (operation.kind == Operation::Kind::Flush || operation.log_begin > steps_begun) continue;
    for (std::uint64_t s = operation.first; s < std::min(operation.first + operation.count, allowed.size()); ++s) {
      const bool keep_old = i >= flushed || operation.kind == Operation::Kind::Discard;
      if (!keep_old) allowed[s].clear();
      allowed[s].push_back(operation.kind == Operation::Kind::Write ? i + 1 : 0);
    }
  }
  for (std::uint64_t s = 0; s < allowed.size(); ++s) {
    const std::uint64_t found = value_at(content, s);
    ASSERT_NE(std::find(allowed[s].begin(), allowed[s].end(), found), allowed[s].end())
        << what << ": sector " << s << " holds " << found << ", flushed was operation " << flushed;
  }
}

/// A second opinion on some of the states.
void Replay::ask_qemu(const std::vector<std::byte>& bytes, const std::string& what) {
  if (std::system("command -v qemu-img >/dev/null 2>&1") != 0) return;
  std::string folder = ::testing::TempDir() + "replay_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/image.qcow2";
  std::ofstream(folder + "/backing") << std::string(setup_.size_bytes / 2, '\xbb');
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  const int status = std::system(("qemu-img check -q -f qcow2 " + path + " >/dev/null 2>&1").c_str());
  unlink(path.c_str());
  unlink((folder + "/backing").c_str());
  rmdir(folder.c_str());
  EXPECT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3) << what << ": qemu-img check says " << status;
}

void Replay::check_power_loss(std::size_t epoch, double kept) {
  const std::size_t begin = syncs_[epoch];
  const std::size_t end = epoch + 1 < syncs_.size() ? syncs_[epoch + 1] : log_.size();
  std::vector<std::byte> bytes = start_;
  for (std::size_t i = 0; i < begin; ++i) MemoryFile::apply(bytes, log_[i]);
  std::bernoulli_distribution keep(kept);
  for (std::size_t i = begin; i < end; ++i) {
    const Step& step = log_[i];
    if (step.kind != Step::Kind::Write) {
      if (keep(random_)) MemoryFile::apply(bytes, step);
      continue;
    }
    const bool by_sector = random_() % 2 == 0;
    const bool whole = keep(random_);
    for (std::uint64_t at = 0; at < step.length;) {
      const std::uint64_t next = std::min((step.offset + at) / sector * sector + sector - step.offset, step.length);
      if (by_sector ? keep(random_) : whole)
        MemoryFile::apply(bytes, {Step::Kind::Write,
                                  step.offset + at,
                                  next - at,
                                  {step.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                   step.bytes.begin() + static_cast<std::ptrdiff_t>(next)}});
      at = next;
    }
  }
  judge(std::move(bytes), end, begin, "power lost after sync " + std::to_string(epoch));
}

void Replay::check_kill(std::size_t count) {
  std::vector<std::byte> bytes = start_;
  for (std::size_t i = 0; i < count; ++i) MemoryFile::apply(bytes, log_[i]);
  judge(std::move(bytes), count, count, "killed after step " + std::to_string(count));
}

class ReplayTest : public ::testing::TestWithParam<Setup> {};

TEST_P(ReplayTest, EveryStateIsWholeAndHoldsWhatWasFlushed) {
  const bool thorough = std::getenv("VENEER_DISK_TESTS") != nullptr;
  unsigned states = 0;
  for (std::uint64_t seed = 1; seed <= (thorough ? 20u : 2u); ++seed) {
    Replay replay(GetParam(), seed);
    replay.record();
    ASSERT_FALSE(HasFatalFailure());
    for (std::size_t epoch = 0; epoch < replay.epochs(); ++epoch)
      for (const double kept : {0.0, 0.1, 0.5, 0.5, 0.9}) {
        replay.check_power_loss(epoch, kept);
        ASSERT_FALSE(HasFatalFailure()) << "seed " << seed;
      }
    for (std::size_t steps = 0; steps <= replay.steps(); ++steps) {
      replay.check_kill(steps);
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed;
    }
    states += replay.judged();
  }
  std::printf("%u states judged\n", states);
}

INSTANTIATE_TEST_SUITE_P(
    Images, ReplayTest,
    ::testing::Values(Setup{256 * KiB, 4096, 16, 3, false, 90}, Setup{256 * KiB, 4096, 16, 3, true, 90},
                      Setup{256 * KiB, 4096, 16, 2, false, 90}, Setup{256 * KiB, 512, 1, 3, true, 90},
                      // Blocks of few counts, and a table that outgrows its cluster.
                      Setup{1024 * KiB, 512, 64, 3, false, 400}, Setup{128 * KiB, 512, 64, 3, true, 90, 512 * KiB}));

}  // namespace
}  // namespace veneer::disk::qcow2
