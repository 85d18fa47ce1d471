// Masked memory operands: elements that the mask leaves out are neither touched nor can they fault (SDM 1 15.6.4).
#include "vectors.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t page_end = user_data_at + user_pages * page_size;
constexpr std::uint64_t page_end_physical = user_data_physical + user_pages * page_size;

class Masks : public EngineTest {
 protected:
  /// User code with RBX `before_end` bytes below unmapped memory.
  void at_the_end(Code code, std::uint64_t before_end, std::uint64_t k1 = 0) {
    user_program(code);
    prepare(k1);
    m.state.gpr[RBX] = page_end - before_end;
    for (std::uint64_t i = 1; i <= 8; i++) m.put(page_end_physical - 8 * i, 0x1111111111111111 * i);
  }
  void at_device(Code code, std::uint64_t k1 = 0) {
    program(code);
    prepare(k1);
    m.state.gpr[RBX] = mmio_at;
  }
  void prepare(std::uint64_t k1) {
    use_all_vectors(m.state);
    Lanes<std::uint32_t> data;
    for (unsigned i = 0; i < 16; i++) data[i] = 0xa0 + i;
    set_vector(m.state, 1, data);
    if (host_has_avx512()) set_opmask(m.state, 1, k1);
  }
  void expect_no_fault() {
    const auto taken = m.run_to_exception();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->vector, VECTOR_BP);
  }
  void expect_fault_at(std::uint64_t address) {
    const auto taken = m.run_to_exception();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->vector, VECTOR_PF);
    EXPECT_EQ(m.state.cr2, address);
  }
};

GUEST_CODE(load_zmm, 64, "vmovdqu32 zmm2{k1}{z}, [rbx]\nint3");

TEST_P(Masks, ALoadSeesOnlyActiveElements) {
  NEEDS_AVX512;
  at_the_end(load_zmm, 16, 0b1010);
  expect_no_fault();
  EXPECT_EQ(vector<std::uint32_t>(m.state, 2), (Lanes<std::uint32_t>{0, 0x22222222, 0, 0x11111111}));
}

TEST_P(Masks, ALoadFaultsAtItsLowestActiveElementThatIsNotThere) {
  NEEDS_AVX512;
  at_the_end(load_zmm, 16, 0b1100000001);
  expect_fault_at(page_end + 16);
}

GUEST_CODE(add_broadcast, 64, "vpaddd zmm2{k1}, zmm1, dword ptr [rbx]{1to16}\nint3");

TEST_P(Masks, ABroadcastUnderAMaskOfZerosTouchesNothing) {
  NEEDS_AVX512;
  at_the_end(add_broadcast, 0, 0);
  expect_no_fault();
}

TEST_P(Masks, ABroadcastWithAnyElementActiveFaults) {
  NEEDS_AVX512;
  at_the_end(add_broadcast, 0, 0x8000);
  expect_fault_at(page_end);
}

GUEST_CODE(add_packed, 64, "vpaddd zmm2{k1}, zmm1, [rbx]\nint3");

TEST_P(Masks, ArithmeticWorksOnTheElementsThatAreThere) {
  NEEDS_AVX512;
  at_the_end(add_packed, 8, 0b11);
  expect_no_fault();
  EXPECT_EQ(vector<std::uint32_t>(m.state, 2)[1], 0x11111111u + 0xa1);
}

GUEST_CODE(store_zmm, 64, "vmovdqu32 [rbx]{k1}, zmm1\nint3");

TEST_P(Masks, AStoreWritesOnlyActiveElementsOfTheLastPage) {
  NEEDS_AVX512;
  at_the_end(store_zmm, 16, 0b1001);
  expect_no_fault();
  EXPECT_EQ(m.get(page_end_physical - 16), 0x22222222000000a0u);
  EXPECT_EQ(m.get(page_end_physical - 8), 0x000000a311111111u);
}

TEST_P(Masks, AStoreThatFaultsWritesNothing) {
  NEEDS_AVX512;
  at_the_end(store_zmm, 16, 0b10001);
  expect_fault_at(page_end);
  EXPECT_EQ(m.get(page_end_physical - 16), 0x2222222222222222u);
}

TEST_P(Masks, AStoreUnderAMaskOfZerosLeavesDirtyBitsAlone) {
  NEEDS_AVX512;
  at_the_end(store_zmm, 64, 0);
  const std::uint64_t entry = m.entry_of(page_end - page_size);
  m.put(entry, m.get(entry) & ~(PTE_A | PTE_D));
  expect_no_fault();
  EXPECT_EQ(m.get(entry) & PTE_D, 0u);
}

GUEST_CODE(store_zmm_device, 64, "vmovdqu32 [rbx]{k1}, zmm1\nhlt");

TEST_P(Masks, ADeviceHearsOfActiveElementsOnly) {
  NEEDS_AVX512;
  at_device(store_zmm_device, 0b1000000000100010);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  const std::vector<BusAccess> expected = {
      {true, mmio_at + 4, 4, 0xa1}, {true, mmio_at + 20, 4, 0xa5}, {true, mmio_at + 60, 4, 0xaf}};
  EXPECT_EQ(m.board.mmio, expected);
}

GUEST_CODE(load_device, 64, "vmovdqu32 zmm2{k1}{z}, [rbx]\nhlt");

TEST_P(Masks, ADeviceIsAskedForActiveElementsOnly) {
  NEEDS_AVX512;
  at_device(load_device, 0b100100);
  m.board.mmio_values = {{mmio_at + 8, 0x11}, {mmio_at + 20, 0x22}};
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  const std::vector<BusAccess> expected = {{false, mmio_at + 8, 4, 0x11}, {false, mmio_at + 20, 4, 0x22}};
  EXPECT_EQ(m.board.mmio, expected);
  EXPECT_EQ(vector<std::uint32_t>(m.state, 2)[5], 0x22u);
}

GUEST_CODE(compress, 64, "vpcompressd [rbx]{k1}, zmm1\nint3");

TEST_P(Masks, CompressStoresAsMuchAsTheMaskHasBits) {
  NEEDS_AVX512;
  at_the_end(compress, 12, 0b1000100000000010);
  expect_no_fault();
  EXPECT_EQ(m.get(page_end_physical - 12, 4), 0xa1u);
  EXPECT_EQ(m.get(page_end_physical - 8), 0x000000af000000abu);
}

TEST_P(Masks, CompressFaultsWithOneMore) {
  NEEDS_AVX512;
  at_the_end(compress, 12, 0b1000100000000011);
  expect_fault_at(page_end);
}

GUEST_CODE(expand, 64, "vpexpandd zmm2{k1}{z}, [rbx]\nint3");

TEST_P(Masks, ExpandLoadsAsMuchAsTheMaskHasBits) {
  NEEDS_AVX512;
  at_the_end(expand, 8, 0b1000000000001000);
  expect_no_fault();
  EXPECT_EQ(vector<std::uint32_t>(m.state, 2)[3], 0x11111111u);
  EXPECT_EQ(vector<std::uint32_t>(m.state, 2)[15], 0x11111111u);
}

GUEST_CODE(extract, 64, "vextracti32x4 [rbx]{k1}, zmm1, 0\nint3");

TEST_P(Masks, AnExtractFaultsForElementsItDoesNotWrite) {
  NEEDS_AVX512;
  at_the_end(extract, 8, 0b0001);
  expect_fault_at(page_end);
}

TEST_P(Masks, AnExtractWritesActiveElementsAcrossPages) {
  NEEDS_AVX512;
  at_the_end(extract, page_size + 8, 0b0101);
  m.put(page_end_physical - page_size - 8, 0x2222222222222222);
  m.put(page_end_physical - page_size, 0x3333333333333333);
  expect_no_fault();
  EXPECT_EQ(m.get(page_end_physical - page_size - 8), 0x22222222000000a0u);
  EXPECT_EQ(m.get(page_end_physical - page_size), 0x33333333000000a2u);
}

GUEST_CODE(aligned, 64, "vmovdqa32 zmm2{k1}, [rbx]\nint3");

TEST_P(Masks, AMisalignedAddressIsNoFaultUnderAMaskOfZeros) {
  NEEDS_AVX512;
  at_the_end(aligned, 3, 0);
  expect_no_fault();
}

TEST_P(Masks, AMisalignedAddressIsGeneralProtectionElse) {
  NEEDS_AVX512;
  at_the_end(aligned, 3, 0x8000);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

// ---- masks in vector registers

GUEST_CODE(vmaskmov_load, 64, "vmaskmovps ymm2, ymm3, [rbx]\nint3");

TEST_P(Masks, VmaskmovLoadsWhatTheSignBitsSay) {
  at_the_end(vmaskmov_load, 8);
  set_vector(m.state, 3, Lanes<std::uint32_t>{0, 0x80000000, 0x7fffffff, 1});
  expect_no_fault();
  EXPECT_EQ(vector<std::uint32_t>(m.state, 2), (Lanes<std::uint32_t>{0, 0x11111111}));
}

GUEST_CODE(vmaskmov_store, 64, "vpmaskmovq [rbx], ymm3, ymm1\nint3");

TEST_P(Masks, VmaskmovStoresWhatTheSignBitsSay) {
  at_the_end(vmaskmov_store, 16);
  set_vector(m.state, 3, Lanes<std::uint64_t>{0, ~std::uint64_t{0}, 1, 2});
  expect_no_fault();
  EXPECT_EQ(m.get(page_end_physical - 16), 0x2222222222222222u);
  EXPECT_EQ(m.get(page_end_physical - 8), 0x000000a3000000a2u);
}

GUEST_CODE(maskmovdqu, 64, "maskmovdqu xmm1, xmm3\nhlt");

TEST_P(Masks, MaskmovdquWritesBytes) {
  at_device(maskmovdqu);
  m.state.gpr[RDI] = mmio_at;
  Lanes<std::uint8_t> mask{};
  mask[0] = mask[4] = mask[5] = 0x80;
  mask[8] = 0x7f;
  set_vector(m.state, 3, mask);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  const std::vector<BusAccess> expected = {{true, mmio_at, 1, 0xa0}, {true, mmio_at + 4, 2, 0x00a1}};
  EXPECT_EQ(m.board.mmio, expected);
}

GUEST_CODE(maskmovq, 64, R"(
  mov rax, 0x8877665544332211
  movq mm1, rax
  mov rax, 0x8000000000008000
  movq mm2, rax
  maskmovq mm1, mm2
  emms
  hlt
)");

TEST_P(Masks, MaskmovqWritesBytes) {
  program(maskmovq);
  m.state.gpr[RDI] = data_at;
  m.put(data_at, 0);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.get(data_at), 0x8800000000002200u);
}

ENGINE_SUITE(Masks);

}  // namespace
}  // namespace veneer::engine_tests
