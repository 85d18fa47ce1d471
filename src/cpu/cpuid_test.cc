// What the CPUID policy promises whatever the host is.
#include "cpu/cpuid.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "cpu/cpuid_features.h"
#include "cpu/state.h"

namespace veneer::cpu {
namespace {

constexpr std::uint64_t test_tsc_hz = 2'596'142'000;

CpuidPolicy policy(unsigned vcpus = 4) { return CpuidPolicy::host(vcpus, test_tsc_hz); }

std::string text(std::initializer_list<std::uint32_t> words) {
  std::string result;
  for (const std::uint32_t word : words) {
    char bytes[4];
    std::memcpy(bytes, &word, 4);
    result.append(bytes, 4);
  }
  return result;
}

TEST(Cpuid, OffersWhatTheEngineDoesItselfOnAnyHost) {
  const CpuidPolicy cpuid = policy();
  EXPECT_TRUE(has(cpuid, Feature::SMAP));
  EXPECT_TRUE(has(cpuid, Feature::PCID));
  EXPECT_TRUE(has(cpuid, Feature::X2APIC));
  EXPECT_TRUE(has(cpuid, Feature::TSC_DEADLINE));
  EXPECT_TRUE(has(cpuid, Feature::INVARIANT_TSC));
  EXPECT_TRUE(has(cpuid, Feature::LONG_MODE));
}

TEST(Cpuid, HidesWhatTheTranslatorCannotDo) {
  using Register = CpuidPolicy::Register;
  const CpuidPolicy cpuid = policy();
  EXPECT_FALSE(cpuid.has(1, 0, Register::Ecx, 3)) << "MONITOR";
  EXPECT_FALSE(cpuid.has(1, 0, Register::Ecx, 5)) << "VMX";
  EXPECT_FALSE(cpuid.has(7, 0, Register::Ebx, 11)) << "RTM";
  EXPECT_FALSE(cpuid.has(7, 0, Register::Ecx, 3)) << "PKU";
  EXPECT_FALSE(cpuid.has(7, 0, Register::Ecx, 16)) << "LA57";
  EXPECT_FALSE(cpuid.has(7, 0, Register::Ecx, 22)) << "RDPID";
  EXPECT_FALSE(cpuid.has(7, 0, Register::Edx, 20)) << "CET_IBT";
  EXPECT_FALSE(cpuid.has(0xd, 1, Register::Eax, 3)) << "XSAVES";
  EXPECT_FALSE(cpuid.has(0x80000001, 0, Register::Ecx, 2)) << "SVM";
}

TEST(Cpuid, SignsAsKvm) {
  const CpuidResult leaf = policy().query(0x40000000, 0, {});
  EXPECT_EQ(leaf.eax, 0x40000010u);
  EXPECT_EQ(text({leaf.ebx, leaf.ecx, leaf.edx}), std::string("KVMKVMKVM\0\0\0", 12));
}

TEST(Cpuid, TellsTheTscFrequency) {
  const CpuidResult leaf = policy().query(0x40000010, 0, {});
  EXPECT_EQ(leaf.eax, test_tsc_hz / 1000);
  EXPECT_EQ(leaf.ebx, 1'000'000u);
}

TEST(Cpuid, CrystalRatioIsWithinOnePartPerMillion) {
  const CpuidResult leaf = policy().query(0x15, 0, {});
  ASSERT_NE(leaf.eax, 0u);
  const double hz = static_cast<double>(leaf.ecx) * leaf.ebx / leaf.eax;
  EXPECT_NEAR(hz, static_cast<double>(test_tsc_hz), test_tsc_hz / 1e6);
}

TEST(Cpuid, CrystalRatioDoesNotOverflowLinux32BitProduct) {
  const CpuidResult leaf = policy().query(0x15, 0, {});
  EXPECT_LE(std::uint64_t{leaf.ecx / 1000} * leaf.ebx, 0xffffffffu);
}

/// OVMF maps every address there may be before it has much memory for tables.
TEST(Cpuid, OffersNoMoreThan40PhysicalAddressBits) {
  const CpuidPolicy cpuid = policy();
  EXPECT_LE(cpuid.physical_bits(), 40u);
  EXPECT_EQ(cpuid.query(0x80000008, 0, {}).eax & 0xff, cpuid.physical_bits());
}

TEST(Cpuid, ShowsTheApicId) {
  CpuidPolicy::Dynamic dynamic;
  dynamic.apic_id = 3;
  EXPECT_EQ(policy().query(1, 0, dynamic).ebx >> 24, 3u);
  EXPECT_EQ(policy().query(0xb, 0, dynamic).edx, 3u);
  EXPECT_EQ(policy().query(0xb, 5, dynamic).edx, 3u);
}

TEST(Cpuid, DescribesOnePackageOfSingleThreadCores) {
  const CpuidPolicy cpuid = policy(6);
  EXPECT_EQ(cpuid.query(0xb, 0, {}).ebx, 1u);
  EXPECT_EQ(cpuid.query(0xb, 1, {}).ebx, 6u);
  EXPECT_EQ(cpuid.query(0xb, 1, {}).eax, 3u) << "APIC id bits";
}

TEST(Cpuid, OneCpuIsNotHyperthreaded) {
  EXPECT_FALSE(has(policy(1), Feature::HTT));
  EXPECT_TRUE(has(policy(2), Feature::HTT));
}

TEST(Cpuid, OsxsaveFollowsCr4) {
  constexpr std::uint32_t OSXSAVE = 1u << 27;
  CpuidPolicy::Dynamic dynamic;
  EXPECT_EQ(policy().query(1, 0, dynamic).ecx & OSXSAVE, 0u);
  dynamic.osxsave = true;
  EXPECT_NE(policy().query(1, 0, dynamic).ecx & OSXSAVE, 0u);
}

TEST(Cpuid, ADisabledApicIsNotShown) {
  constexpr std::uint32_t APIC = 1u << 9;
  CpuidPolicy::Dynamic dynamic;
  dynamic.apic_enabled = false;
  EXPECT_EQ(policy().query(1, 0, dynamic).edx & APIC, 0u);
  EXPECT_EQ(policy().query(0x80000001, 0, dynamic).edx & APIC, 0u);
}

TEST(Cpuid, XsaveSizeFollowsXcr0) {
  const CpuidPolicy cpuid = policy();
  if (!has(cpuid, Feature::AVX)) GTEST_SKIP() << "host without AVX";
  CpuidPolicy::Dynamic dynamic;
  dynamic.xcr0 = 3;
  EXPECT_EQ(cpuid.query(0xd, 0, dynamic).ebx, 576u);
  dynamic.xcr0 = 7;
  EXPECT_EQ(cpuid.query(0xd, 0, dynamic).ebx, 832u);
}

TEST(Cpuid, XsaveAreaFitsTheArchitecturalState) {
  const CpuidPolicy cpuid = policy();
  EXPECT_LE(cpuid.query(0xd, 0, {}).ecx, xsave_area_bytes);
}

TEST(Cpuid, LeavesPastTheLastAreZero) {
  EXPECT_EQ(policy().query(0x17, 0, {}), CpuidResult{});
  EXPECT_EQ(policy().query(0x80000040, 0, {}), CpuidResult{});
  EXPECT_EQ(policy().query(0x50000000, 0, {}), CpuidResult{});
}

TEST(Cpuid, SubleavesPastTheLastAreZero) {
  EXPECT_EQ(policy().query(7, 9, {}), CpuidResult{});
  EXPECT_EQ(policy().query(0xd, 40, {}), CpuidResult{});
}

TEST(Cpuid, Avx512IsOfferedOnlyWithItsState) {
  const CpuidPolicy cpuid = policy();
  if (!has(cpuid, Feature::AVX512F)) GTEST_SKIP() << "host without AVX-512";
  EXPECT_EQ(cpuid.xcr0_mask() & 0xe7u, 0xe7u);
}

}  // namespace
}  // namespace veneer::cpu
