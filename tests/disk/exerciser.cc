// disk_exerciser: puts load on a disk image, for the tests of tests/disk.
//
//   disk_exerciser random IMAGE FORMAT MODEL SEED OPERATIONS THREADS
//       Random reads, writes, zeros, discards and flushes; every one is done to the raw file MODEL, too, and reads must
//       agree. Threads own alternate stripes that are no multiple of a cluster, so they meet inside clusters.
//   disk_exerciser stamp IMAGE FORMAT SEED
//       For ever: writes blocks that carry a sequence number; "F n" on standard output means that everything up to n
//       was flushed. To be killed.
//   disk_exerciser verify IMAGE FORMAT SEED FLUSHED
//       Checks the blocks after a kill: each holds its last flushed version or a later one, whole.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "disk/image.h"

namespace {

using namespace veneer;
using namespace veneer::disk;

[[noreturn]] void fail(const std::string& what) {
  fmt::print(stderr, "disk_exerciser: {}\n", what);
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) fail(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

constexpr std::uint64_t stripe = 20000;  ///< no multiple of any cluster size

class RandomLoad {
 public:
  RandomLoad(Image& image, int model, std::uint64_t seed, unsigned threads)
      : image_(image), model_(model), seed_(seed), threads_(threads) {}

  void run(std::uint64_t operations) {
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < threads_; ++t)
      workers.emplace_back([this, t, operations] { work(t, operations / threads_); });
    for (std::thread& worker : workers) worker.join();
  }

 private:
  void work(unsigned index, std::uint64_t operations) {
    std::mt19937_64 random(seed_ * 1000 + index);
    std::vector<std::byte> bytes, other;
    const std::uint64_t size = image_.size();
    const std::uint64_t stripes = size / stripe + 1;
    for (std::uint64_t i = 0; i < operations; ++i) {
      const std::uint64_t which = random() % ((stripes + threads_ - 1) / threads_) * threads_ + index;
      if (which * stripe >= size) continue;
      std::uint64_t begin = which * stripe;
      std::uint64_t end = std::min(begin + stripe * (threads_ == 1 ? 12 : 1), size);
      begin += random() % (end - begin);
      std::uint64_t length = 1 + random() % (end - begin);
      if (random() % 2) {  // as guests do it
        begin &= ~std::uint64_t{511};
        if (begin < which * stripe) continue;
        length = std::max<std::uint64_t>(length & ~std::uint64_t{511}, 512);
        if (begin + length > end) continue;
      }
      one(random, begin, length, bytes, other);
    }
  }

  void one(std::mt19937_64& random, std::uint64_t offset, std::uint64_t length, std::vector<std::byte>& bytes,
           std::vector<std::byte>& other) {
    bytes.resize(length);
    const std::uint64_t what = random() % 100;
    if (what < 45) {
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
      write(random, offset, bytes);
      put_model(offset, bytes);
    } else if (what < 60) {
      const ZeroMode mode = random() % 2 ? ZeroMode::MayUnmap : ZeroMode::KeepAllocated;
      must(image_.write_zeroes(offset, length, mode));
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
      put_model(offset, bytes);
    } else if (what < 68) {
      must(image_.discard(offset, length));
      read(offset, bytes);  // old content or zeros: from now on the model's
      put_model(offset, bytes);
    } else if (what < 96) {
      if (random() % 2 && !read_mapped(offset, bytes))
        read(offset, bytes);
      else
        read(offset, bytes);
      other.resize(length);
      if (pread(model_, other.data(), length, static_cast<off_t>(offset)) != static_cast<ssize_t>(length))
        fail("reading the model");
      if (bytes != other) {
        const auto at = std::mismatch(bytes.begin(), bytes.end(), other.begin()).first - bytes.begin();
        fail(fmt::format("wrong data at {:#x} (a read of {} bytes at {:#x})", offset + static_cast<std::uint64_t>(at),
                         length, offset));
      }
    } else {
      must(image_.flush());
    }
  }

  void write(std::mt19937_64& random, std::uint64_t offset, std::vector<std::byte>& bytes) {
    if (random() % 2) {
      Mapping mapping;
      if (image_.map_for_write(offset, bytes.size(), mapping)) {
        std::uint64_t done = 0;
        for (const HostExtent& extent : mapping.extents) {
          if (pwrite(extent.fd, bytes.data() + done, extent.length, static_cast<off_t>(extent.host_offset)) !=
              static_cast<ssize_t>(extent.length))
            fail("writing mapped");
          done += extent.length;
        }
        return;
      }
    }
    const std::size_t half = bytes.size() / 2;
    const iovec iov[2] = {{bytes.data(), half}, {bytes.data() + half, bytes.size() - half}};
    must(image_.write(offset, iov));
  }
  void read(std::uint64_t offset, std::vector<std::byte>& bytes) {
    const iovec iov{bytes.data(), bytes.size()};
    must(image_.read(offset, {&iov, 1}));
  }
  bool read_mapped(std::uint64_t offset, std::vector<std::byte>& bytes) {
    Mapping mapping;
    if (!image_.map_for_read(offset, bytes.size(), mapping)) return false;
    std::uint64_t done = 0;
    for (const HostExtent& extent : mapping.extents) {
      std::memset(bytes.data() + done, 0, extent.length);
      if (extent.fd != HostExtent::zeroes &&
          pread(extent.fd, bytes.data() + done, extent.length, static_cast<off_t>(extent.host_offset)) < 0)
        fail("reading mapped");
      done += extent.length;
    }
    return done == bytes.size();
  }
  void put_model(std::uint64_t offset, const std::vector<std::byte>& bytes) {
    if (pwrite(model_, bytes.data(), bytes.size(), static_cast<off_t>(offset)) != static_cast<ssize_t>(bytes.size()))
      fail("writing the model");
  }

  Image& image_;
  int model_;
  std::uint64_t seed_;
  unsigned threads_;
};

constexpr std::uint64_t stamp_bytes = 4096;

std::uint64_t mixed(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}
std::uint64_t block_of(std::uint64_t seed, std::uint64_t sequence, std::uint64_t blocks) {
  return mixed(seed ^ mixed(sequence)) % blocks;
}
/// Every 31st step drops the block instead of writing it.
bool is_zeroing(std::uint64_t sequence) { return sequence % 31 == 0; }

void fill_stamp(std::uint64_t* words, std::uint64_t block, std::uint64_t sequence) {
  for (std::size_t i = 0; i < stamp_bytes / 8; ++i) words[i] = mixed(block) ^ (sequence + i);
  words[0] = sequence;
}

void stamp_for_ever(Image& image, std::uint64_t seed) {
  const std::uint64_t blocks = image.size() / stamp_bytes;
  std::vector<std::uint64_t> words(stamp_bytes / 8);
  const iovec iov{words.data(), stamp_bytes};
  for (std::uint64_t sequence = 1;; ++sequence) {
    const std::uint64_t block = block_of(seed, sequence, blocks);
    if (is_zeroing(sequence)) {
      must(image.write_zeroes(block * stamp_bytes, stamp_bytes, ZeroMode::MayUnmap));
    } else {
      fill_stamp(words.data(), block, sequence);
      must(image.write(block * stamp_bytes, {&iov, 1}));
    }
    if (mixed(sequence) % 64 == 0) {
      must(image.flush());
      fmt::print("F {}\n", sequence);
      std::fflush(stdout);
    }
  }
}

/// What a killed writer left: every block holds its last flushed stamp or a later one. The kill came in the middle of
/// one write at most, later than all others that can be seen; with clusters smaller than a stamp some of its clusters
/// may be there already, each whole.
class Verifier {
 public:
  Verifier(Image& image, std::uint64_t seed, std::uint64_t flushed)
      : image_(image),
        seed_(seed),
        flushed_(flushed),
        blocks_(image.size() / stamp_bytes),
        cluster_words_(std::min<std::uint64_t>(image.limits().optimal_io_bytes, stamp_bytes) / 8),
        last_(blocks_, 0) {
    for (std::uint64_t s = 1; s <= flushed; ++s) last_[block_of(seed, s, blocks_)] = s;
  }

  void verify() {
    std::vector<std::uint64_t> words(stamp_bytes / 8), torn_words;
    std::uint64_t torn = blocks_;
    const iovec iov{words.data(), stamp_bytes};
    for (std::uint64_t block = 0; block < blocks_; ++block) {
      must(image_.read(block * stamp_bytes, {&iov, 1}));
      if (const auto sequence = sequence_of(block, words, 0, words.size())) {
        must_be_legal(block, *sequence);
        newest_ = std::max(newest_, *sequence);
      } else if (torn != blocks_) {
        fail(fmt::format("blocks {} and {} are torn", torn, block));
      } else {
        torn = block;
        torn_words = words;
      }
    }
    if (torn != blocks_) verify_torn(torn, torn_words);
  }

 private:
  /// The one stamp that these words are part of, 0 for zeros; nothing if they are neither.
  static std::optional<std::uint64_t> sequence_of(std::uint64_t block, const std::vector<std::uint64_t>& words,
                                                  std::size_t from, std::size_t to) {
    if (std::all_of(words.begin() + static_cast<std::ptrdiff_t>(from), words.begin() + static_cast<std::ptrdiff_t>(to),
                    [](std::uint64_t word) { return word == 0; }))
      return 0;
    const std::uint64_t sequence = from == 0 ? words[0] : (words[from] ^ mixed(block)) - from;
    std::vector<std::uint64_t> expected(stamp_bytes / 8);
    fill_stamp(expected.data(), block, sequence);
    for (std::size_t i = from; i < to; ++i)
      if (words[i] != expected[i]) return std::nullopt;
    return sequence;
  }

  /// A zeroing of this block after step `from`.
  bool zeroed_after(std::uint64_t block, std::uint64_t from) const {
    for (std::uint64_t s = from + 1; s < from + 100000; ++s)
      if (is_zeroing(s) && block_of(seed_, s, blocks_) == block) return true;
    return false;
  }

  void must_be_legal(std::uint64_t block, std::uint64_t sequence) const {
    const std::uint64_t last = last_[block];
    if (sequence == 0) {
      // Never written, zeroed last, or zeroed after the last flush.
      if (last != 0 && !is_zeroing(last) && !zeroed_after(block, flushed_))
        fail(fmt::format("block {} lost write {}", block, last));
      return;
    }
    if (sequence < last) fail(fmt::format("block {} holds write {}, but {} was flushed", block, sequence, last));
    if (is_zeroing(sequence) || block_of(seed_, sequence, blocks_) != block)
      fail(fmt::format("block {} holds write {}, which is another block's", block, sequence));
  }

  void verify_torn(std::uint64_t block, const std::vector<std::uint64_t>& words) const {
    if (cluster_words_ == words.size()) fail(fmt::format("block {} is torn inside a cluster", block));
    std::set<std::uint64_t> found;
    for (std::size_t from = 0; from < words.size(); from += cluster_words_) {
      const auto sequence = sequence_of(block, words, from, from + cluster_words_);
      if (!sequence) fail(fmt::format("block {} is torn inside a cluster", block));
      found.insert(*sequence);
    }
    if (found.size() != 2) fail(fmt::format("block {} holds parts of {} writes", block, found.size()));
    const std::uint64_t older = *found.begin(), newer = *found.rbegin(), before = std::max(newest_, flushed_);
    must_be_legal(block, newer);
    if (newer > before) return must_be_legal(block, older);  // the write was interrupted
    // Or its zeroing, the stamp being what was there.
    if (older != 0 || !zeroed_after(block, before))
      fail(fmt::format("block {} is torn by write {}, which was done before others", block, newer));
  }

  Image& image_;
  std::uint64_t seed_, flushed_, blocks_;
  std::size_t cluster_words_;
  std::vector<std::uint64_t> last_;  ///< flushed step of each block
  std::uint64_t newest_ = 0;         ///< of the blocks that are whole
};

std::uint64_t number(const char* text) { return std::strtoull(text, nullptr, 10); }

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 4) fail("wrong arguments");
  OpenOptions options;
  options.format = must(parse_format(words[2]));
  options.read_only = words[0] == "verify";
  if (const char* cache = std::getenv("EXERCISER_METADATA_CACHE")) options.metadata_cache_bytes = number(cache);
  const std::unique_ptr<Image> image = must(open_image(words[1], options));
  if (words[0] == "random" && words.size() == 7) {
    const int model = open(words[3].c_str(), O_RDWR | O_CLOEXEC);
    if (model < 0) fail("opening the model");
    RandomLoad(*image, model, number(words[4].c_str()), static_cast<unsigned>(number(words[6].c_str())))
        .run(number(words[5].c_str()));
  } else if (words[0] == "stamp" && words.size() == 4) {
    stamp_for_ever(*image, number(words[3].c_str()));
  } else if (words[0] == "verify" && words.size() == 5) {
    Verifier(*image, number(words[3].c_str()), number(words[4].c_str())).verify();
  } else {
    fail("wrong arguments");
  }
  must(image->close());
  return 0;
}
