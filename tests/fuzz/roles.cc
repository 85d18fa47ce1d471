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

std::uint64_t random_stack_pointer(Random& random, bool low) {
  const std::uint64_t region = low ? low_data : high_data;
  if (random.percent(5)) return random_address(random, low);
  if (random.percent(10)) return region + random.below(64);                   // a push or two reach the unmapped page
  if (random.percent(10)) return region + 2 * page_bytes - random.below(64);  // and a pop or two
  if (random.percent(15)) return region + page_bytes - 32 + random.below(64);
  const std::uint64_t middle = region + 1024 + 8 * random.below(768);
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

namespace {

/// 16-bit addresses are made of these only: bases point, indices are small.
void roles_of_16_bit_code(RegisterRoles& roles) {
  roles.pointers = {RSP, RBX, RBP};
  roles.indices = {RSI, RDI};
  for (const unsigned i : {RSP, RBX, RBP, RSI, RDI}) roles.kept |= 1u << i;
  roles.counter = RDX;
  roles.code_pointer = RAX;
}

/// As code of this width can hold it.
std::uint64_t pointer_value(CodeWidth width, std::uint64_t address) {
  if (width == CodeWidth::Bits64) return address;
  return (address - data_segment_base(width)) & 0xffffffff;
}

}  // namespace

RegisterRoles random_registers(Random& random, CodeWidth width, Image& image) {
  const bool low = width != CodeWidth::Bits64;
  const std::uint64_t mask = low ? 0xffffffff : ~std::uint64_t{0};
  RegisterRoles roles;
  image.gpr = {};
  const unsigned registers = low ? 8u : unsigned{gpr_count};
  for (unsigned i = 0; i < registers; i++) image.gpr[i] = random_integer(random) & mask;
  if (random.percent(60)) image.gpr[RCX] = random.below(40);
  std::vector<unsigned> free;
  for (unsigned i = 0; i < registers; i++)
    if (i != RSP) free.push_back(i);
  const auto take = [&](unsigned which) {
    free.erase(std::find(free.begin(), free.end(), which));
    roles.kept |= 1u << which;
    return which;
  };
  image.gpr[RSP] = pointer_value(width, random_stack_pointer(random, low));
  if (width == CodeWidth::Bits16) {
    roles_of_16_bit_code(roles);
  } else {
    roles.pointers.push_back(RSP);
    roles.kept |= 1u << RSP;
    if (random.percent(60)) roles.pointers.push_back(take(RSI));
    if (random.percent(60)) roles.pointers.push_back(take(RDI));
    roles.counter = take(random.pick(free));
    roles.code_pointer = take(random.pick(free));
    while (roles.pointers.size() < (low ? 4u : 5u)) roles.pointers.push_back(take(random.pick(free)));
    while (roles.indices.size() < (low ? 1u : 2u)) roles.indices.push_back(take(random.pick(free)));
  }
  for (const unsigned i : roles.pointers)
    if (i != RSP) image.gpr[i] = pointer_value(width, random_address(random, low));
  for (const unsigned i : roles.indices) image.gpr[i] = random_index(random) & mask;
  image.gpr[roles.counter] = 1 + random.below(5);
  const unsigned shape = random.below(100);
  roles.shape = shape < 68   ? Shape::Straight
                : shape < 83 ? Shape::Loop
                : shape < 93 ? Shape::Function
                             : Shape::ThroughRegister;
  if (roles.shape == Shape::Loop) roles.reserved = 1u << roles.counter;
  if (roles.shape == Shape::ThroughRegister) roles.reserved = 1u << roles.code_pointer;
  roles.vector_index = random.below(low ? 8 : 32);

  image.rflags = RFLAGS_FIXED1 | RFLAGS_IF | (random.next() & RFLAGS_ARITH);
  if (random.percent(20)) image.rflags |= RFLAGS_DF;
  image.fs_base = low ? 0 : random_segment_base(random);
  image.gs_base = low ? 0 : random_segment_base(random);
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
