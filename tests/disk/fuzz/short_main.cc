// The driver for ctest: seeds with random damage to their tables, a fixed number of them, without libFuzzer.
//
// usage: disk_fuzz_short CASES [SEED]. Memory is limited: an image must not make us allocate much.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "one_image.h"

namespace {

/// Values that are interesting as offsets, counts and flags.
std::uint64_t interesting(std::mt19937_64& random) {
  switch (random() % 7) {
    case 0:
      return random() % 64 * 512;
    case 1:
      return (random() % 64 * 512) | (std::uint64_t{1} << 63);
    case 2:
      return std::uint64_t{1} << (random() % 64);
    case 3:
      return ~std::uint64_t{0} >> (random() % 64);
    case 4:
      return (std::uint64_t{1} << 62) | random();
    case 5:
      return random() % 16;
    default:
      return random();
  }
}

void damage(std::vector<std::uint8_t>& image, std::mt19937_64& random) {
  for (std::uint64_t n = 1 + random() % 6; n != 0; --n) {
    // Half of it in the first sectors, where the header and (with small clusters) the tables stand.
    const std::size_t range = random() % 2 ? std::min<std::size_t>(image.size(), 4096) : image.size();
    const std::size_t at = random() % range / 4 * 4;
    const std::uint64_t value = interesting(random);
    const std::size_t width = random() % 2 ? 4 : 8;
    for (std::size_t i = 0; i < width && at + i < image.size(); ++i)
      image[at + i] = static_cast<std::uint8_t>(value >> (8 * (width - 1 - i)));
  }
  if (random() % 20 == 0) image.resize(random() % image.size() + 1);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t cases = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
  std::mt19937_64 random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
#ifndef VENEER_SANITIZED
  const rlimit limit{std::uint64_t{2} << 30, std::uint64_t{2} << 30};
  setrlimit(RLIMIT_AS, &limit);
#endif
  const auto seeds = veneer::disk::fuzz_seeds();
  for (const auto& seed : seeds) veneer::disk::fuzz_one_image(seed.data(), seed.size());
  for (std::uint64_t i = 0; i < cases; ++i) {
    std::vector<std::uint8_t> image = seeds[random() % seeds.size()];
    damage(image, random);
    veneer::disk::fuzz_one_image(image.data(), image.size());
  }
  std::printf("%llu damaged images\n", static_cast<unsigned long long>(cases));
  return 0;
}
