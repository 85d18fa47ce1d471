// Random and corner values for registers, vectors and memory.
#include "values.h"

#include <cpuid.h>

#include <cstring>

namespace veneer::fuzz {

std::uint64_t random_integer(Random& random) {
  static constexpr std::uint64_t corners[] = {0,
                                              1,
                                              2,
                                              0x7f,
                                              0x80,
                                              0x81,
                                              0xff,
                                              0x100,
                                              0x7fff,
                                              0x8000,
                                              0xffff,
                                              0x10000,
                                              0x7fffffff,
                                              0x80000000,
                                              0x80000001,
                                              0xffffffff,
                                              0x100000000,
                                              0x7fffffffffffffff,
                                              0x8000000000000000,
                                              0xffffffffffffffff,
                                              0xfffffffffffffffe,
                                              0xffffffffffffff80,
                                              0xffffffffffff8000,
                                              0xffffffff80000000,
                                              0x5555555555555555,
                                              0xaaaaaaaaaaaaaaaa};
  switch (random.below(8)) {
    case 0:
    case 1:
      return random.pick(corners);
    case 2:
      return random.below(64);
    case 3:
      return std::uint64_t{1} << random.below(64);
    case 4:
      return random.next() & 0xffffffff;
    case 5:
      return 0 - std::uint64_t{random.below(256)};
    default:
      return random.next();
  }
}

std::uint64_t random_lane(Random& random) {
  static constexpr std::uint64_t doubles[] = {0,
                                              0x8000000000000000,
                                              0x3ff0000000000000,
                                              0xbff0000000000000,
                                              0x7ff0000000000000,
                                              0xfff0000000000000,
                                              0x7ff8000000000000,
                                              0x7ff0000000000001,
                                              0xfff4000000000000,
                                              1,
                                              0x000fffffffffffff,
                                              0x0010000000000000,
                                              0x7fefffffffffffff,
                                              0x4330000000000000,
                                              0x3fe0000000000000,
                                              0x4059000000000000,
                                              0x43e0000000000000};
  static constexpr std::uint32_t floats[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
                                             0x7fc00000, 0x7f800001, 0xffa00000, 1,          0x007fffff, 0x00800000,
                                             0x7f7fffff, 0x4b000000, 0x3f000000, 0x42c80000, 0x4f000000};
  switch (random.below(6)) {
    case 0:
      return random.pick(doubles);
    case 1:
      return random.pick(floats) | std::uint64_t{random.pick(floats)} << 32;
    case 2:
      return random_integer(random);
    case 3:
      return (random.next() & 0x000fffffffffffff) | std::uint64_t{0x3f0 + random.below(32)} << 52;
    case 4:
      return (random.next() & 0x807fffff807fffff) | (0x3f8000003f800000 + (std::uint64_t{random.below(8)} << 55));
    default:
      return random.next();
  }
}

ComponentPlace component_place(unsigned component) {
  // Asked once: under a hypervisor each CPUID is an exit.
  static const auto places = [] {
    std::array<ComponentPlace, 32> all{};
    for (unsigned i = 2; i < all.size(); i++) {
      unsigned a = 0, b = 0, c = 0, d = 0;
      __cpuid_count(0xd, i, a, b, c, d);
      all[i] = {b, a};
    }
    return all;
  }();
  return places[component];
}

namespace {

constexpr unsigned fcw_at = 0, fsw_at = 2, ftw_at = 4, mxcsr_at = 24, st_at = 32, xmm_at = 160, xstate_bv_at = 512;

template <typename T>
void put(Image& image, unsigned offset, T value) {
  std::memcpy(image.xsave.data() + offset, &value, sizeof value);
}

void random_x87(Random& random, Image& image) {
  std::uint16_t control = 0x37f;
  if (random.percent(40)) control = static_cast<std::uint16_t>(0x7f | random.below(16) << 8);
  if (random.percent(10)) control = static_cast<std::uint16_t>(0x40 | (random.next() & 0xf3f));
  std::uint16_t status = static_cast<std::uint16_t>(random.below(8) << 11 | (random.next() & 0x4700));
  if (random.percent(10)) status = static_cast<std::uint16_t>(status | (random.next() & 0x7f));
  // ES and B follow from the flags and masks (SDM 1 8.1.3.3).
  if (status & ~control & 0x3f) status |= 0x8080;
  put(image, fcw_at, control);
  put(image, fsw_at, status);
  put(image, ftw_at, static_cast<std::uint16_t>(random.percent(60) ? 0xff : random.next() & 0xff));
  for (unsigned i = 0; i < 8; i++) {
    put(image, st_at + 16 * i, random_lane(random) | (random.percent(80) ? std::uint64_t{1} << 63 : 0));
    static constexpr std::uint16_t exponents[] = {0, 0x7fff, 0xffff, 0x8000, 0x3fff, 0xbfff, 0x4000, 0x3ffe, 1, 0x7ffe};
    const std::uint16_t exponent =
        random.percent(60) ? static_cast<std::uint16_t>(0x3fe0 + random.below(64)) : random.pick(exponents);
    put(image, st_at + 16 * i + 8, exponent);
  }
}

}  // namespace

void random_vectors(Random& random, std::uint64_t components, Image& image) {
  image.xsave.fill(0);
  put(image, fcw_at, std::uint16_t{0x37f});
  std::uint32_t mxcsr = 0x1f80;
  if (random.percent(40)) mxcsr = 0x1f80 | (random.next() & 0xe040);
  if (random.percent(10)) mxcsr = static_cast<std::uint32_t>(random.next() & 0xffff);
  put(image, mxcsr_at, mxcsr);
  std::uint64_t used = 0;
  for (unsigned i = 0; i < 8; i++) {
    if (!((components >> i) & 1) || random.percent(5)) continue;
    used |= std::uint64_t{1} << i;
    if (i == 0) {
      random_x87(random, image);
      continue;
    }
    const ComponentPlace place = i == 1 ? ComponentPlace{xmm_at, 256} : component_place(i);
    for (unsigned at = 0; at + 8 <= place.size; at += 8) put(image, place.offset + at, random_lane(random));
  }
  put(image, xstate_bv_at, used);
}

void canonicalise(std::uint64_t components, std::array<std::uint8_t, cpu::xsave_area_bytes>& xsave) {
  std::uint64_t used;
  std::memcpy(&used, xsave.data() + xstate_bv_at, 8);
  for (unsigned i = 0; i < 8; i++) {
    if (!((components >> i) & 1) || ((used >> i) & 1)) continue;
    if (i == 0) {
      std::memset(xsave.data(), 0, mxcsr_at);
      std::memset(xsave.data() + st_at, 0, 128);
      const std::uint16_t control = 0x37f;
      std::memcpy(xsave.data() + fcw_at, &control, 2);
      continue;
    }
    const ComponentPlace place = i == 1 ? ComponentPlace{xmm_at, 256} : component_place(i);
    std::memset(xsave.data() + place.offset, 0, place.size);
  }
  std::memcpy(xsave.data() + xstate_bv_at, &components, 8);
}

PatternPool::PatternPool(std::uint64_t seed) : bytes_(64 * 1024) {
  Random random(seed, 0x706f6f6c);
  for (std::size_t i = 0; i < bytes_.size(); i += 8) {
    const std::uint64_t lane = random.percent(15) ? random_integer(random) : random_lane(random);
    std::memcpy(bytes_.data() + i, &lane, 8);
  }
}

void PatternPool::fill(std::uint32_t start, std::span<std::uint8_t> out) const {
  std::size_t at = start % bytes_.size();
  for (std::size_t done = 0; done < out.size();) {
    const std::size_t part = std::min(out.size() - done, bytes_.size() - at);
    std::memcpy(out.data() + done, bytes_.data() + at, part);
    done += part;
    at = 0;
  }
}

}  // namespace veneer::fuzz
