// --cpu: models, switches, and what CPUID says by them.
#include "cpu/cpu_model.h"

#include <gtest/gtest.h>

#include <cstring>

namespace veneer::cpu {
namespace {

constexpr std::uint64_t test_tsc_hz = 2'000'000'000;
using Register = CpuidPolicy::Register;

std::string complaint(const std::string& text) {
  const auto choice = parse_cpu(text);
  return choice ? "" : choice.error().message();
}

/// Skips nothing: x86-64-v3 is what Veneer's hosts have at least.
CpuidPolicy processor(const std::string& text, unsigned vcpus = 1) {
  auto choice = parse_cpu(text);
  EXPECT_TRUE(choice) << text;
  auto policy = CpuidPolicy::make(choice ? choice.value() : CpuChoice{}, vcpus, test_tsc_hz);
  EXPECT_TRUE(policy) << (policy ? "" : policy.error().message());
  return policy ? std::move(policy).value() : CpuidPolicy::host(vcpus, test_tsc_hz);
}

TEST(CpuModel, UnknownModel) { EXPECT_NE(complaint("pentium9").find("is not a CPU model"), std::string::npos); }
TEST(CpuModel, UnknownFeature) { EXPECT_NE(complaint("host,+frob").find("is not a feature"), std::string::npos); }
TEST(CpuModel, AWordWithoutSign) { EXPECT_NE(complaint("host,avx").find("neither"), std::string::npos); }
TEST(CpuModel, BothOnAndOff) { EXPECT_NE(complaint("host,+aes,-aes").find("both"), std::string::npos); }
TEST(CpuModel, OnWithoutWhatItNeeds) {
  EXPECT_NE(complaint("host,-avx,+avx2").find("avx2 needs avx"), std::string::npos);
}
TEST(CpuModel, OnWithoutWhatTheModelLacks) {
  EXPECT_NE(complaint("pentium3,+avx2").find("avx2 needs avx"), std::string::npos);
}
TEST(CpuModel, HowTheHostBehavesCannotBeSwitched) {
  EXPECT_NE(complaint("host,-misalignsse").find("cannot be switched"), std::string::npos);
}

TEST(CpuModel, SvmIsOffUnlessAskedFor) { EXPECT_FALSE(has(processor("host"), Feature::SVM)); }
TEST(CpuModel, IntelsProcessorsHaveNoSvm) {
  EXPECT_NE(complaint("core2duo,+svm").find("svm is AMD's"), std::string::npos);
}
TEST(CpuModel, SvmBringsNestedPagingUnlessThatIsOff) {
  if (!host_features(1).test(static_cast<std::size_t>(Feature::SVM))) GTEST_SKIP() << "the host is not AMD's";
  EXPECT_TRUE(has(processor("host,+svm"), Feature::NPT));
  EXPECT_FALSE(has(processor("host,+svm,-npt"), Feature::NPT));
  EXPECT_EQ(processor("host,+svm").query(0x8000000a, 0, {}).ebx, svm_asids);
}

TEST(CpuModel, LinuxAndQemuNamesAreKnown) {
  EXPECT_FALSE(has(processor("host,-pni"), Feature::SSE3));
  EXPECT_FALSE(has(processor("host,-sse3"), Feature::SSE3));
  EXPECT_FALSE(has(processor("host,-sse4.2"), Feature::SSE4_2));
  EXPECT_FALSE(has(processor("host,-tsc-deadline"), Feature::TSC_DEADLINE));
}

TEST(CpuModel, OffTakesAlongWhatNeedsIt) {
  const CpuidPolicy cpuid = processor("host,-avx");
  EXPECT_FALSE(has(cpuid, Feature::AVX2));
  EXPECT_FALSE(has(cpuid, Feature::FMA));
  EXPECT_FALSE(has(cpuid, Feature::AVX512F));
  EXPECT_FALSE(has(cpuid, Feature::VAES));
  EXPECT_TRUE(has(cpuid, Feature::SSE4_2));
  EXPECT_EQ(cpuid.xcr0_mask(), 3u);
}

TEST(CpuModel, XsaveAreaShrinksWithAvx) {
  EXPECT_EQ(processor("host,-avx").query(0xd, 0, {}).ecx, 576u);
  EXPECT_EQ(processor("host,-avx").query(0xd, 2, {}), CpuidResult{});
}

TEST(CpuModel, WithoutXsaveThereIsNoLeafD) {
  const CpuidPolicy cpuid = processor("host,-xsave");
  EXPECT_EQ(cpuid.query(0xd, 0, {}), CpuidResult{});
  EXPECT_EQ(cpuid.query(0xd, 1, {}), CpuidResult{});
  EXPECT_EQ(cpuid.xcr0_mask(), 1u);
}

TEST(CpuModel, LevelsHaveWhatTheAbiSays) {
  EXPECT_FALSE(has(processor("x86-64-v1"), Feature::SSE3));
  EXPECT_TRUE(has(processor("x86-64-v2"), Feature::POPCNT));
  EXPECT_FALSE(has(processor("x86-64-v2"), Feature::AVX));
  EXPECT_TRUE(has(processor("x86-64-v3"), Feature::AVX2));
  EXPECT_FALSE(has(processor("x86-64-v3"), Feature::AVX512F));
}

TEST(CpuModel, AHostThatLacksWhatIsAskedFor) {
  const auto choice = parse_cpu("x86-64-v3");
  ASSERT_TRUE(choice);
  FeatureSet poor = host_features(1);
  poor.reset(static_cast<std::size_t>(Feature::BMI2));
  const auto features = choice.value().features(poor);
  ASSERT_FALSE(features);
  EXPECT_NE(features.error().message().find("this host lacks bmi2"), std::string::npos);
}

TEST(CpuModel, BrandNamesTheModel) {
  const CpuidResult leaf = processor("x86-64-v2").query(0x80000002, 0, {});
  char text[16];
  std::memcpy(text, &leaf, sizeof text);
  EXPECT_EQ(std::string_view(text, 16), std::string_view("Veneer x86-64-v2"));
}

TEST(CpuModel, PentiumIii) {
  const CpuidPolicy cpuid = processor("pentium3");
  EXPECT_EQ(cpuid.query(0, 0, {}).ebx, 0x756e6547u) << "Genu";
  EXPECT_EQ(cpuid.query(0, 0, {}).eax, 2u);
  EXPECT_EQ(cpuid.query(1, 0, {}).eax, 0x673u);
  EXPECT_EQ(cpuid.query(7, 0, {}), CpuidResult{});
  EXPECT_TRUE(has(cpuid, Feature::SSE));
  EXPECT_FALSE(has(cpuid, Feature::SSE2));
  EXPECT_FALSE(has(cpuid, Feature::LONG_MODE));
  EXPECT_EQ(cpuid.physical_bits(), 36u);
}

TEST(CpuModel, The486) {
  const CpuidPolicy cpuid = processor("486");
  EXPECT_EQ(cpuid.family(), 4u);
  EXPECT_EQ(cpuid.query(1, 0, {}).edx, 0b1011u) << "FPU, VME, PSE";
  EXPECT_EQ(cpuid.query(1, 0, {}).ecx, 0u);
  EXPECT_EQ(cpuid.query(0x40000000, 0, {}), CpuidResult{});
  EXPECT_EQ(cpuid.physical_bits(), 32u);
}

TEST(CpuModel, Core2Duo) {
  const CpuidPolicy cpuid = processor("core2duo");
  EXPECT_TRUE(has(cpuid, Feature::LONG_MODE));
  EXPECT_TRUE(has(cpuid, Feature::SSSE3));
  EXPECT_FALSE(has(cpuid, Feature::SSE4_1));
  EXPECT_FALSE(has(cpuid, Feature::X2APIC));
  EXPECT_EQ(cpuid.query(0xb, 0, {}), CpuidResult{});
  EXPECT_FALSE(cpuid.amd());
}

TEST(CpuModel, WithoutHypervisorBitThereAreNoLeavesOfOurs) {
  EXPECT_EQ(processor("host,-hypervisor").query(0x40000000, 0, {}), CpuidResult{});
}

TEST(CpuModel, NamesAreUniqueAndParse) {
  for (std::size_t i = 0; i < feature_count; ++i) {
    const auto feature = static_cast<Feature>(i);
    if (!switchable(feature)) continue;
    const auto choice = parse_cpu("host,-" + feature_name(feature));
    ASSERT_TRUE(choice) << feature_name(feature);
    EXPECT_EQ(choice.value().off.count(), 1u);
    EXPECT_TRUE(choice.value().off.test(i)) << feature_name(feature);
  }
}

TEST(CpuModel, EveryFeatureOfTheHostCanBeTurnedOffAlone) {
  const FeatureSet available = host_features(1);
  for (std::size_t i = 0; i < feature_count; ++i) {
    const auto feature = static_cast<Feature>(i);
    if (!switchable(feature) || !available.test(i)) continue;
    EXPECT_FALSE(has(processor("host,-" + feature_name(feature)), feature)) << feature_name(feature);
  }
}

}  // namespace
}  // namespace veneer::cpu
