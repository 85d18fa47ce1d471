// One fuzzed image, put through everything.
#include "one_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../memory_file.h"
#include "base/log.h"
#include "disk/qcow2/check.h"
#include "disk/qcow2/create.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk {
namespace {

using testing::MemoryFile;
using namespace qcow2;

constexpr std::size_t largest = 1 << 20;
constexpr std::uint64_t file_limit = 48 * MiB;  ///< what the "host disk" holds

void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

std::unique_ptr<MemoryFile> file_of(const std::vector<std::byte>& bytes) {
  auto file = std::make_unique<MemoryFile>(bytes);
  file->limit = file_limit;
  return file;
}

/// A few places of the disk: its ends, around table borders, and some that the content chooses.
std::vector<std::uint64_t> places(const Image& image, const std::vector<std::byte>& bytes) {
  std::vector<std::uint64_t> offsets = {
      0, 1, 511, 65535, image.size() / 2, image.size() > 600 ? image.size() - 600 : 0};
  for (std::size_t i = 0; i + 8 <= bytes.size() && offsets.size() < 12; i += bytes.size() / 5 + 1) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, 8);
    if (image.size() != 0) offsets.push_back(word % image.size());
  }
  return offsets;
}

void read_everything(Image& image, const std::vector<std::byte>& bytes) {
  std::vector<std::byte> buffer(70000);
  for (const std::uint64_t offset : places(image, bytes)) {
    if (offset >= image.size()) continue;
    const std::uint64_t length = std::min<std::uint64_t>(buffer.size(), image.size() - offset);
    const iovec iov{buffer.data(), static_cast<std::size_t>(length)};
    (void)image.read(offset, {&iov, 1});
    (void)image.status(offset, length);
    Mapping mapping;
    (void)image.map_for_read(offset, length, mapping);
  }
}

void write_everywhere(Qcow2Image& image, const std::vector<std::byte>& bytes) {
  std::vector<std::byte> buffer(5000, std::byte{0xa5});
  unsigned what = 0;
  for (const std::uint64_t offset : places(image, bytes)) {
    if (offset >= image.size()) continue;
    const std::uint64_t length = std::min<std::uint64_t>(buffer.size(), image.size() - offset);
    const iovec iov{buffer.data(), static_cast<std::size_t>(length)};
    (void)image.write(offset, {&iov, 1});
    if (++what % 3 == 0)
      (void)image.write_zeroes(offset, std::min<std::uint64_t>(image.size() - offset, 300000), ZeroMode::MayUnmap);
    if (what % 4 == 0) (void)image.discard(offset, std::min<std::uint64_t>(image.size() - offset, 200000));
    if (what % 5 == 0) (void)image.flush();
  }
}

}  // namespace

void fuzz_one_image(const std::uint8_t* data, std::size_t size) {
  if (size > largest) return;
  static const bool quiet = (set_log_sink([](LogLevel, std::string_view) {}), true);
  (void)quiet;
  const auto* first = reinterpret_cast<const std::byte*>(data);
  const std::vector<std::byte> bytes(first, first + size);
  MemoryFile probe(bytes);
  const auto header = read_header(probe);
  if (!header) return;
  {
    MemoryFile file(bytes);
    Header copy = header.value();
    (void)check_image(file, copy, Repair::None);
    promise(file.writes == 0, "a check wrote");
  }
  {
    auto file = file_of(bytes);
    MemoryFile& disk = *file;
    auto image =
        Qcow2Image::open(std::move(file), header.value(), {.format = Format::Qcow2, .read_only = true}, nullptr);
    if (image) {
      read_everything(*image.value(), bytes);
      promise(disk.writes == 0, "reading wrote");
    }
  }
  {
    auto file = file_of(bytes);
    MemoryFile& disk = *file;
    auto image = Qcow2Image::open(std::move(file), header.value(), {.format = Format::Qcow2}, nullptr);
    if (image) {
      write_everywhere(*image.value(), bytes);
      (void)image.value()->flush();
      // Where the backing file's name stands, and how long it is: what a guest must never change.
      promise(disk.bytes().size() >= 20 && std::memcmp(disk.bytes().data(), bytes.data(), 20) == 0,
              "a guest's write changed the header");
      (void)image.value()->resize(image.value()->size() + 3 * MiB, false);
      if (image.value()->create_snapshot("fuzz").ok()) (void)image.value()->delete_snapshot("fuzz");
      (void)image.value()->close();
    }
  }
  auto file = file_of(bytes);
  Header repaired = header.value();
  const auto report = check_image(*file, repaired, Repair::All);
  if (!report || !report.value().clean_after_repair()) return;
  const auto again = check_image(*file, repaired, Repair::None);
  promise(again.ok() && again.value().corruptions == 0, "a repaired image is damaged");
}

std::vector<std::vector<std::uint8_t>> fuzz_seeds() {
  std::vector<std::vector<std::uint8_t>> seeds;
  struct Kind {
    std::uint64_t cluster;
    std::uint32_t version, bits;
    Compression compression;
    bool backing;
  };
  for (const Kind& kind : {Kind{512, 3, 16, Compression::Zlib, false}, Kind{512, 3, 1, Compression::Zstd, true},
                           Kind{4096, 2, 16, Compression::Zlib, true}, Kind{4096, 3, 64, Compression::Zstd, false},
                           Kind{65536, 3, 16, Compression::Zlib, true}}) {
    auto file = std::make_unique<MemoryFile>();
    MemoryFile& disk = *file;
    CreateOptions create;
    create.size_bytes = 2 * MiB + 512;
    create.cluster_bytes = kind.cluster;
    create.version = kind.version;
    create.refcount_bits = kind.bits;
    create.compression = kind.compression;
    if (kind.backing) create.backing_file = "/nowhere/base.raw", create.backing_format = "raw";
    if (!create_image(*file, create)) std::abort();
    auto header = read_header(disk);
    auto image = Qcow2Image::open(std::move(file), header.value(), {.format = Format::Qcow2}, nullptr);
    std::vector<std::byte> cluster(kind.cluster);
    for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i] = static_cast<std::byte>(i / 64);
    for (std::uint64_t n = 0; n < 3; ++n) (void)image.value()->write_compressed(1 * MiB + n * kind.cluster, cluster);
    write_everywhere(*image.value(), {});
    if (kind.bits > 1) (void)image.value()->create_snapshot("one");
    write_everywhere(*image.value(), {});
    (void)image.value()->flush();
    const auto* begin = reinterpret_cast<const std::uint8_t*>(disk.bytes().data());
    seeds.emplace_back(begin, begin + disk.bytes().size());
    (void)image.value()->close();
  }
  return seeds;
}

}  // namespace veneer::disk
