// The MSR table's promises: what is #GP, what is checked, what is kept.
#include "cpu/msr.h"

#include <gtest/gtest.h>

#include "cpu/cpu_model.h"

namespace veneer::cpu {
namespace {

constexpr std::uint32_t IA32_PAT = 0x277, IA32_LSTAR = 0xc0000082, IA32_EFER = 0xc0000080, IA32_TSC_ADJUST = 0x3b;
constexpr std::uint64_t non_canonical = 0x0000800000000000;

class Msr : public testing::Test {
 protected:
  Msr() { reset_state(state_); }
  std::optional<std::uint64_t> read(std::uint32_t index) const { return read_msr(state_, cpuid_, index); }
  bool write(std::uint32_t index, std::uint64_t value) { return write_msr(state_, cpuid_, index, value); }

  CpuidPolicy cpuid_ = CpuidPolicy::host(1, 2'000'000'000);
  ArchState state_;
};

TEST_F(Msr, UnknownIsGeneralProtection) {
  EXPECT_EQ(read(0x12345), std::nullopt);
  EXPECT_FALSE(write(0x12345, 0));
}

TEST_F(Msr, StoredKeepsItsValue) {
  EXPECT_TRUE(write(IA32_LSTAR, 0xffffffff81000000));
  EXPECT_EQ(read(IA32_LSTAR), 0xffffffff81000000);
  EXPECT_EQ(state_.lstar, 0xffffffff81000000);
}

TEST_F(Msr, LstarMustBeCanonical) { EXPECT_FALSE(write(IA32_LSTAR, non_canonical)); }
TEST_F(Msr, KernelGsBaseMustBeCanonical) { EXPECT_FALSE(write(0xc0000102, non_canonical)); }
TEST_F(Msr, FsBaseMustBeCanonical) { EXPECT_FALSE(write(0xc0000100, non_canonical)); }

TEST_F(Msr, GsBaseIsTheSegments) {
  EXPECT_TRUE(write(0xc0000101, 0x7000));
  EXPECT_EQ(state_.segments[GS].base, 0x7000u);
}

TEST_F(Msr, PatHasItsResetValue) { EXPECT_EQ(read(IA32_PAT), 0x0007040600070406u); }
TEST_F(Msr, PatRefusesReservedTypes) { EXPECT_FALSE(write(IA32_PAT, 0x02)); }
TEST_F(Msr, PatTakesUncachedMinus) { EXPECT_TRUE(write(IA32_PAT, 0x0707070707070707)); }

TEST_F(Msr, FixedMtrrsAreElevenDifferentRegisters) {
  EXPECT_TRUE(write(0x250, 0x0606060606060606));
  EXPECT_TRUE(write(0x26f, 0x0505050505050505));
  EXPECT_EQ(state_.mtrr_fixed[0], 0x0606060606060606u);
  EXPECT_EQ(state_.mtrr_fixed[10], 0x0505050505050505u);
}
TEST_F(Msr, FixedMtrrRefusesUncachedMinus) { EXPECT_FALSE(write(0x250, 7)); }
TEST_F(Msr, VariableMtrrMaskRefusesLowBits) { EXPECT_FALSE(write(0x201, 1)); }
TEST_F(Msr, VariableMtrrBaseRefusesBitsPastPhysicalAddresses) { EXPECT_FALSE(write(0x200, 1ull << 60)); }
TEST_F(Msr, VariableMtrrPairsAreBaseThenMask) {
  EXPECT_TRUE(write(0x20f, 1u << 11));
  EXPECT_EQ(state_.mtrr_variable[15], 1u << 11);
}

TEST_F(Msr, MachineCheckBanksAreAsManyAsMcgCapSays) {
  EXPECT_EQ(read(0x179).value_or(0) & 0xff, 10u);
  EXPECT_TRUE(read(0x427).has_value());
  EXPECT_FALSE(read(0x428).has_value());
  EXPECT_TRUE(write(0x426, 0xaaaaaaaaaaaaaaaa));
  EXPECT_EQ(read(0x426), 0xaaaaaaaaaaaaaaaau);
}
TEST_F(Msr, MachineCheckControlIsAllOrNone) {
  EXPECT_TRUE(write(0x400, ~0ull));
  EXPECT_EQ(read(0x400), ~0ull);
  EXPECT_TRUE(write(0x400, 0));
  EXPECT_FALSE(write(0x400, 0xaaaaaaaaaaaaaaaa));
}
TEST_F(Msr, MachineCheckStatusCanOnlyBeCleared) {
  EXPECT_TRUE(write(0x401, 0));
  EXPECT_FALSE(write(0x401, 1));
}

TEST_F(Msr, ConstantsCannotBeWritten) {
  EXPECT_TRUE(read(0x10a).has_value());
  EXPECT_FALSE(write(0x10a, 0));
}

TEST_F(Msr, ArchCapabilitiesSpareTheGuestPageTableIsolationAndRetpolines) {
  const std::uint64_t capabilities = read(0x10a).value_or(0);
  EXPECT_NE(capabilities & 1u << 0, 0u) << "RDCL_NO";
  EXPECT_NE(capabilities & 1u << 1, 0u) << "IBRS_ALL";
  EXPECT_EQ(capabilities & 1u << 2, 0u) << "RSBA";
}

TEST_F(Msr, IgnoredWritesAreForgotten) {
  const auto before = read(0xc0010015);
  EXPECT_TRUE(write(0xc0010015, 0));
  EXPECT_EQ(read(0xc0010015), before);
}

TEST_F(Msr, CommandsCannotBeRead) {
  EXPECT_EQ(read(0x49), std::nullopt);
  EXPECT_TRUE(write(0x49, 1));
  EXPECT_FALSE(write(0x49, 2));
}

TEST_F(Msr, TscAdjustMovesTheTsc) {
  state_.tsc_offset = 1000;
  EXPECT_TRUE(write(IA32_TSC_ADJUST, 50));
  EXPECT_EQ(state_.tsc_offset, 1050u);
  EXPECT_TRUE(write(IA32_TSC_ADJUST, 20));
  EXPECT_EQ(state_.tsc_offset, 1020u);
}

TEST_F(Msr, X2ApicRangeBelongsToTheApic) {
  ASSERT_NE(find_msr(0x80b), nullptr);
  EXPECT_EQ(find_msr(0x80b)->kind, MsrKind::Apic);
  EXPECT_EQ(find_msr(0x900), nullptr);
}

TEST_F(Msr, EferRefusesReservedBits) { EXPECT_FALSE(write(IA32_EFER, 1u << 12)); }
TEST_F(Msr, EferLongModeCannotChangeUnderPaging) {
  state_.cr0 |= CR0_PG;
  EXPECT_FALSE(write(IA32_EFER, EFER_LME));
}
TEST_F(Msr, EferActiveBitIsReadOnly) {
  EXPECT_TRUE(write(IA32_EFER, EFER_LME | EFER_LMA));
  EXPECT_EQ(state_.efer, EFER_LME);
}

TEST_F(Msr, TscAuxIs32BitsWide) {
  EXPECT_TRUE(write(0xc0000103, 0xffffffff));
  EXPECT_FALSE(write(0xc0000103, 0x100000000));
}

TEST_F(Msr, FmaskIs32BitsWide) { EXPECT_FALSE(write(0xc0000084, 0x100000000)); }

/// With a processor of --cpu.
class MsrOf : public Msr {
 protected:
  void processor(const std::string& text) {
    auto made = CpuidPolicy::make(parse_cpu(text).value(), 1, 2'000'000'000);
    ASSERT_TRUE(made);
    cpuid_ = std::move(made).value();
  }
};

TEST_F(MsrOf, AnAbsentFeatureHasNoMsrs) {
  processor("host,-mtrr,-tsc_adjust,-rdtscp");
  EXPECT_EQ(read(0xfe), std::nullopt);
  EXPECT_EQ(read(0x20f), std::nullopt);
  EXPECT_FALSE(write(0x250, 0));
  EXPECT_EQ(read(IA32_TSC_ADJUST), std::nullopt);
  EXPECT_EQ(read(0xc0000103), std::nullopt);
  EXPECT_TRUE(read(IA32_PAT).has_value());
}

TEST_F(MsrOf, A32BitProcessorHasNoLongModeMsrs) {
  processor("pentium3");
  for (const std::uint32_t index : {IA32_EFER, 0xc0000081u, IA32_LSTAR, 0xc0000084u, 0xc0000100u, 0xc0000102u})
    EXPECT_EQ(read(index), std::nullopt) << std::hex << index;
  EXPECT_TRUE(read(0x174).has_value()) << "SYSENTER is there";
}

TEST_F(MsrOf, EferBitsFollowTheirFeatures) {
  processor("host,-nx");
  EXPECT_FALSE(write(IA32_EFER, EFER_NXE));
  EXPECT_TRUE(write(IA32_EFER, EFER_SCE));
}

TEST_F(MsrOf, IntelsProcessorsHaveNoneOfAmds) {
  processor("core2duo");
  EXPECT_EQ(read(0xc0010015), std::nullopt);
}

TEST(ResetState, IsAtTheResetVector) {
  ArchState state;
  reset_state(state);
  EXPECT_EQ(state.segments[CS].base + state.rip, 0xfffffff0u);
  EXPECT_EQ(state.cpl(), 0u);
  EXPECT_FALSE(state.long_mode());
}

TEST(ResetState, ClearsWhatWasThere) {
  ArchState state;
  state.lstar = 1;
  state.halted = true;
  reset_state(state);
  EXPECT_EQ(state.lstar, 0u);
  EXPECT_FALSE(state.halted);
}

}  // namespace
}  // namespace veneer::cpu
