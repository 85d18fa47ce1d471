// Chooses the roles of registers and their values.
#include "roles.h"

#include <algorithm>
#include <cstring>

#include "values.h"

namespace veneer::fuzz {

using namespace cpu;

std::uint64_t random_address(Random& random, bool low_only) {
  const std::uint64_t region = low_only || random.coin() ? low_data : high_data;
  const std::uint64_t region_end = region == low_data ? low_data + 3 * page_bytes : high_data + 2 * page_bytes;
  const std::uint64_t read_only = low_data + 2 * page_bytes;
  const unsigned kind = random.below(100);
  if (kind < 55) return region + 256 + 16 * random.below(478);
  if (kind < 70) return region + 256 + random.below(7600);
  if (kind < 82) return region + page_bytes - random.below(66);
  if (kind < 86) return read_only - random.below(66);
  if (kind < 90) return region_end - random.below(66);
  if (kind < 93) return region - random.below(32);
  if (kind < 96) return read_only + random.below(4096);
  if (kind < 97) return code_base + random.below(2 * page_bytes);
  if (kind < 98) return region + 0x10000 + random.below(4096);
  if (low_only) return random.below(1 << 20);
  constexpr std::uint64_t end_of_low_half = 0x8000'0000'0000, start_of_high_half = 0xffff'8000'0000'0000;
  static constexpr std::uint64_t edges[] = {end_of_low_half, 0x1234'0000'0000'0000, start_of_high_half};
  return random.pick(edges) - random.below(32);
}

namespace {

std::uint64_t random_stack_pointer(Random& random) {
  if (random.percent(5)) return random_address(random, false);
  if (random.percent(10)) return high_data + random.below(64);  // a push or two reach the unmapped page
  if (random.percent(10)) return high_data + 2 * page_bytes - random.below(64);  // and a pop or two
  if (random.percent(15)) return high_data + page_bytes - 32 + random.below(64);
  const std::uint64_t middle = high_data + 1024 + 8 * random.below(768);
  return random.percent(85) ? middle : middle + random.below(8);
}

std::uint64_t random_index(Random& random) {
  static constexpr std::uint64_t common[] = {0, 16, 32, 64, 128, 0ull - 16, 0ull - 64};
  return random.percent(75) ? random.pick(common) : static_cast<std::uint64_t>(std::int64_t{random.between(-40, 40)});
}

std::uint64_t random_segment_base(Random& random) {
  if (random.percent(40)) return 0;
  if (random.percent(60)) return 16 * random.below(16);
  if (random.percent(10)) return 0 - std::uint64_t{random.below(4096)};
  return random_address(random, false) & 0x7fff'ffff'ffff;
}

}  // namespace

RegisterRoles random_registers(Random& random, Image& image) {
  RegisterRoles roles;
  for (unsigned i = 0; i < gpr_count; i++) image.gpr[i] = random_integer(random);
  if (random.percent(60)) image.gpr[RCX] = random.below(40);
  std::vector<unsigned> free;
  for (unsigned i = 0; i < gpr_count; i++)
    if (i != RSP) free.push_back(i);
  const auto take = [&](unsigned which) {
    free.erase(std::find(free.begin(), free.end(), which));
    roles.kept |= 1u << which;
    return which;
  };
  roles.pointers.push_back(RSP);
  roles.kept |= 1u << RSP;
  image.gpr[RSP] = random_stack_pointer(random);
  if (random.percent(60)) roles.pointers.push_back(take(RSI));
  if (random.percent(60)) roles.pointers.push_back(take(RDI));
  while (roles.pointers.size() < 5) roles.pointers.push_back(take(random.pick(free)));
  while (roles.indices.size() < 2) roles.indices.push_back(take(random.pick(free)));
  for (const unsigned i : roles.pointers)
    if (i != RSP) image.gpr[i] = random_address(random, false);
  for (const unsigned i : roles.indices) image.gpr[i] = random_index(random);
  roles.vector_index = random.below(32);

  image.rflags = RFLAGS_FIXED1 | RFLAGS_IF | (random.next() & RFLAGS_ARITH);
  if (random.percent(20)) image.rflags |= RFLAGS_DF;
  image.fs_base = random_segment_base(random);
  image.gs_base = random_segment_base(random);
  const auto canonical = [](std::uint64_t a) {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(a << 16) >> 16);
  };
  image.fs_base = canonical(image.fs_base);
  image.gs_base = canonical(image.gs_base);
  return roles;
}

void fill_vector_index(Random& random, const RegisterRoles& roles, std::uint64_t components, Image& image) {
  std::uint64_t used;
  constexpr unsigned xstate_bv_at = 512;
  std::memcpy(&used, image.xsave.data() + xstate_bv_at, 8);
  const bool quads = random.coin();
  const auto fill = [&](unsigned component, unsigned offset, unsigned bytes) {
    if (!((components >> component) & (used >> component) & 1)) return;
    for (unsigned at = 0; at < bytes; at += quads ? 8 : 4) {
      const std::int64_t value = random.between(-64, 64) * (random.coin() ? 1 : 8);
      std::memcpy(image.xsave.data() + offset + at, &value, quads ? 8 : 4);
    }
  };
  const unsigned n = roles.vector_index;
  if (n >= 16) return fill(7, component_place(7).offset + 64 * (n - 16), 64);
  fill(1, 160 + 16 * n, 16);
  fill(2, component_place(2).offset + 16 * n, 16);
  fill(6, component_place(6).offset + 32 * n, 32);
}

}  // namespace veneer::fuzz
