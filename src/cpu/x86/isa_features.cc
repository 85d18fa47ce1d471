// Which decoded instructions the guest's CPUID offers, and the decoder that fits it.
#include <initializer_list>

#include "cpu/cpuid_features.h"
#include "cpu/x86/insn_table.h"

namespace veneer::cpu::x86 {

namespace {

bool has_all(const CpuidPolicy& policy, std::initializer_list<Feature> features) {
  for (const Feature feature : features) {
    if (!has(policy, feature)) return false;
  }
  return true;
}

/// APM 3 ("Instruction-specific ... near branches"): AMD processors obey the 66h prefix on near branches in 64-bit
/// mode, Intel's ignore it. Translated guests see the host's vendor, so they get the host's way.
bool amd_branches(const CpuidPolicy& policy) { return policy.amd(); }

}  // namespace

FeatureGate::FeatureGate(const CpuidPolicy& policy) {
  using enum Feature;
  // Zydis' sets and our features share names; the braces keep them apart.
#define ISA(set, ...) isa_set_[ZYDIS_ISA_SET_##set] = has_all(policy, {__VA_ARGS__});
#include "cpu/x86/isa_features.inc"
#undef ISA
  pclmulqdq_ = has(policy, PCLMULQDQ);
  lahf_lm_ = has(policy, LAHF_LM);
  tsc_ = has(policy, TSC);
  msr_ = has(policy, MSR);
  cmpxchg8b_ = has(policy, CMPXCHG8B);
  sep_ = has(policy, SEP);
  svm_ = has(policy, Feature::SVM);
  // What has no bit came with the P6 family.
  if (policy.family() < 6) {
    isa_set_[ZYDIS_ISA_SET_FAT_NOP] = false;
    isa_set_[ZYDIS_ISA_SET_RDPMC] = false;
    isa_set_[ZYDIS_ISA_SET_PREFETCH_NOP] = false;
  }
}

bool FeatureGate::offered(const ZydisDecodedInstruction& instruction) const {
  const auto set = static_cast<std::size_t>(instruction.meta.isa_set);
  if (set >= isa_set_.size() || !isa_set_[set]) return false;
  return has_for_mnemonic(instruction);
}

/// What Zydis' sets do not tell apart.
bool FeatureGate::has_for_mnemonic(const ZydisDecodedInstruction& instruction) const {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_RDTSC:
      return tsc_;
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_WRMSR:
      return msr_;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
      return cmpxchg8b_;
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
      return sep_;
    case ZYDIS_MNEMONIC_VMRUN:
    case ZYDIS_MNEMONIC_VMLOAD:
    case ZYDIS_MNEMONIC_VMSAVE:
    case ZYDIS_MNEMONIC_STGI:
    case ZYDIS_MNEMONIC_CLGI:
    case ZYDIS_MNEMONIC_INVLPGA:
      return svm_;
    // VEX.128 VPCLMULQDQ is filed under AVX.
    case ZYDIS_MNEMONIC_VPCLMULQDQ:
      return pclmulqdq_;
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
      return lahf_lm_ || instruction.machine_mode != ZYDIS_MACHINE_MODE_LONG_64;
    default:
      return true;
  }
}

bool feature_offered(const CpuidPolicy& policy, const ZydisDecodedInstruction& instruction) {
  return FeatureGate(policy).offered(instruction);
}

ZydisDecoder make_decoder(ZydisMachineMode mode, ZydisStackWidth stack_width, const CpuidPolicy& policy) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, mode, stack_width);
  const auto set = [&decoder](ZydisDecoderMode extension, bool on) {
    ZydisDecoderEnableMode(&decoder, extension, on ? ZYAN_TRUE : ZYAN_FALSE);
  };
  set(ZYDIS_DECODER_MODE_AMD_BRANCHES, amd_branches(policy));
  set(ZYDIS_DECODER_MODE_LZCNT, has(policy, Feature::LZCNT));
  set(ZYDIS_DECODER_MODE_TZCNT, has(policy, Feature::BMI1));
  set(ZYDIS_DECODER_MODE_MPX, false);
  set(ZYDIS_DECODER_MODE_CET, false);
  set(ZYDIS_DECODER_MODE_CLDEMOTE, false);
  set(ZYDIS_DECODER_MODE_WBNOINVD, false);
  return decoder;
}

}  // namespace veneer::cpu::x86
