// Gathers and scatters: order, restart after a fault, devices, overlapping registers (SDM 2C VGATHERDPS, VPSCATTERDD).
#include "vectors.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Gathers : public EngineTest {
 protected:
  void start(Code code) {
    user_program(code);
    use_all_vectors(m.state);
    m.state.gpr[RBX] = user_data_at;
    for (unsigned i = 0; i < 1024; i++) m.put(user_data_physical + 4 * i, 0x1000 + i, 4);
  }
};

constexpr std::uint64_t behind_user_data = user_data_at + user_pages * page_size;
constexpr unsigned beyond = (user_pages * page_size) / 4;  ///< the first dword index that is not mapped

GUEST_CODE(vpgatherdd_ymm, 64, "vpgatherdd ymm1, [rbx + ymm2*4], ymm3\nint3");

TEST_P(Gathers, OnlyElementsWithASignBitAreLoaded) {
  start(vpgatherdd_ymm);
  Lanes<std::uint32_t> old, index{}, mask{}, expected{};
  old.fill(0xdddddddd);
  for (unsigned i = 0; i < 8; i++) {
    index[i] = 10 * i;
    mask[i] = i % 2 ? 0x80000000u : 0x7fffffffu;
    expected[i] = i % 2 ? 0x1000 + 10 * i : 0xdddddddd;
  }
  set_vector(m.state, 1, old);
  set_vector(m.state, 2, index);
  set_vector(m.state, 3, mask);
  ASSERT_TRUE(m.run_to_exception());
  EXPECT_EQ(vector<std::uint32_t>(m.state, 1), expected) << "and above 256 bits zeros";
  EXPECT_EQ(vector<std::uint32_t>(m.state, 3), Lanes<std::uint32_t>{});
}

TEST_P(Gathers, AFaultLeavesFinishedElementsAndTheRestartDoesTheOthers) {
  start(vpgatherdd_ymm);
  Lanes<std::uint32_t> index{}, mask{};
  for (unsigned i = 0; i < 8; i++) index[i] = i == 3 ? beyond + 5 : i;
  mask.fill(~0u);
  set_vector(m.state, 2, index);
  set_vector(m.state, 3, mask);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  ASSERT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(m.state.cr2, behind_user_data + 20);
  EXPECT_EQ(taken->rip, user_code_at);
  const auto partial = vector<std::uint32_t>(m.state, 1), left = vector<std::uint32_t>(m.state, 3);
  EXPECT_EQ(partial[2], 0x1002u);
  EXPECT_EQ(left[2], 0u);
  EXPECT_EQ(left[3], ~0u);
  EXPECT_EQ(left[7], ~0u);

  m.map(behind_user_data, user_data_physical + user_pages * page_size, PTE_U | PTE_W);
  m.put(user_data_physical + user_pages * page_size + 20, 0x9999, 4);
  m.put(user_data_physical, 0xbad, 4);  // element 0 is not read again
  const auto registers = m.state.xsave;
  m.user_mode();
  m.state.xsave = registers;
  m.state.gpr[RBX] = user_data_at;
  const auto end = m.run_to_exception();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->vector, VECTOR_BP);
  Lanes<std::uint32_t> expected{};
  for (unsigned i = 0; i < 8; i++) expected[i] = i == 3 ? 0x9999 : 0x1000 + i;
  EXPECT_EQ(vector<std::uint32_t>(m.state, 1), expected);
}

GUEST_CODE(vpgatherdq_high, 64, "vpgatherdq zmm17{k2}, [rbx + ymm30*8]\nint3");

TEST_P(Gathers, AnOpmaskChoosesAmongHighRegisters) {
  NEEDS_AVX512;
  start(vpgatherdq_high);
  Lanes<std::uint32_t> index{};
  for (unsigned i = 0; i < 8; i++) index[i] = i;
  set_vector(m.state, 30, index);
  set_opmask(m.state, 2, 0b10000001);
  ASSERT_TRUE(m.run_to_exception());
  const auto result = vector<std::uint64_t>(m.state, 17);
  EXPECT_EQ(result[0], 0x0000100100001000u);
  EXPECT_EQ(result[1], 0u);
  EXPECT_EQ(result[7], 0x0000100f0000100eu);
  EXPECT_EQ(opmask(m.state, 2), 0u);
}

GUEST_CODE(gather_from_device, 64, "vpgatherqd xmm1, [rbx + ymm2*1], xmm3\nhlt");

TEST_P(Gathers, ADeviceSeesEachElementOnceLowToHigh) {
  program(gather_from_device);
  use_all_vectors(m.state);
  m.state.gpr[RBX] = mmio_at;
  set_vector(m.state, 2, Lanes<std::uint64_t>{0x40, 0x10, 0x20, 0x30});
  set_vector(m.state, 3, Lanes<std::uint32_t>{~0u, 0, ~0u, ~0u});
  m.board.mmio_values = {{mmio_at + 0x40, 1}, {mmio_at + 0x20, 3}, {mmio_at + 0x30, 4}};
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  const std::vector<BusAccess> expected = {
      {false, mmio_at + 0x40, 4, 1}, {false, mmio_at + 0x20, 4, 3}, {false, mmio_at + 0x30, 4, 4}};
  EXPECT_EQ(m.board.mmio, expected);
  EXPECT_EQ((vector<std::uint32_t>(m.state, 1)), (Lanes<std::uint32_t>{1, 0, 3, 4}));
}

GUEST_CODE(scatter, 64, "vpscatterdd [rbx + zmm2*4]{k1}, zmm1\nint3");

TEST_P(Gathers, OverlappingScattersEndWithTheHighestElement) {
  NEEDS_AVX512;
  start(scatter);
  Lanes<std::uint32_t> data, index{};
  for (unsigned i = 0; i < 16; i++) data[i] = 100 + i;
  index.fill(7);
  index[15] = 8;
  set_vector(m.state, 1, data);
  set_vector(m.state, 2, index);
  set_opmask(m.state, 1, 0xffff);
  ASSERT_TRUE(m.run_to_exception());
  EXPECT_EQ(m.get(user_data_physical + 28, 4), 114u);
  EXPECT_EQ(m.get(user_data_physical + 32, 4), 115u);
  EXPECT_EQ(opmask(m.state, 1), 0u);
}

TEST_P(Gathers, AScatterStopsAtTheElementThatFaults) {
  NEEDS_AVX512;
  start(scatter);
  Lanes<std::uint32_t> data, index{};
  for (unsigned i = 0; i < 16; i++) {
    data[i] = 100 + i;
    index[i] = i == 9 ? beyond : i;
  }
  set_vector(m.state, 1, data);
  set_vector(m.state, 2, index);
  set_opmask(m.state, 1, 0xfff0);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  ASSERT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(m.state.cr2, behind_user_data);
  EXPECT_EQ(taken->error, 6u);
  EXPECT_EQ(opmask(m.state, 1), 0xfe00u);
  EXPECT_EQ(m.get(user_data_physical + 4 * 3, 4), 0x1003u);
  EXPECT_EQ(m.get(user_data_physical + 4 * 8, 4), 108u);
  EXPECT_EQ(m.get(user_data_physical + 4 * 10, 4), 0x100au);
}

GUEST_CODE(mask_is_destination, 64, ".byte 0xc4, 0xe2, 0x75, 0x90, 0x0c, 0x93\nint3");  // ymm1, [rbx + ymm2*4], ymm1
GUEST_CODE(no_opmask, 64, ".byte 0x62, 0xf2, 0x7d, 0x48, 0x90, 0x0c, 0x93\nint3");      // zmm1{k0}, [rbx + zmm2*4]
GUEST_CODE(index_is_destination, 64, ".byte 0x62, 0xf2, 0x7d, 0x49, 0x90, 0x14, 0x93\nint3");

#define UNDEFINED(name, code)                \
  TEST_P(Gathers, name##IsUndefined) {       \
    start(code);                             \
    const auto taken = m.run_to_exception(); \
    ASSERT_TRUE(taken);                      \
    EXPECT_EQ(taken->vector, VECTOR_UD);     \
  }
UNDEFINED(MaskAsDestination, mask_is_destination)
UNDEFINED(OpmaskZero, no_opmask)
UNDEFINED(IndexAsDestination, index_is_destination)

ENGINE_SUITE(Gathers);

}  // namespace
}  // namespace veneer::engine_tests
