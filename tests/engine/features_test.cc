// A feature that --cpu turns off really is off: its instructions are #UD, its control bits and MSRs #GP.
#include <map>
#include <string>
#include <vector>

#include "cpu/cpu_model.h"
#include "machine.h"

namespace veneer::engine_tests {

using namespace cpu;

namespace {

using enum Feature;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t test_tsc_hz = 2'000'000'000;
constexpr unsigned no_vector = 256;

/// Something that works with the feature and faults without it.
struct Probe {
  Bytes code;  ///< 64-bit supervisor code; RBX points at zeros
  unsigned vector = VECTOR_UD;
  std::uint32_t ecx = 0;
  std::uint64_t eax = 0;
};

const Bytes rdmsr_code = {0x0f, 0x32}, wrmsr_code = {0x0f, 0x30}, mov_cr4_rax = {0x0f, 0x22, 0xe0},
            xgetbv_code = {0x0f, 0x01, 0xd0};
constexpr std::uint64_t cr4_of_tests = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;

Probe insn(Bytes code) { return {std::move(code)}; }
Probe msr(std::uint32_t index) { return {rdmsr_code, VECTOR_GP, index}; }
/// Other features' bits are not touched: a bit that is set stays set.
Probe cr4(std::uint64_t bit) { return {mov_cr4_rax, VECTOR_GP, 0, CR4_PAE | bit}; }
Probe efer(std::uint64_t bit) { return {wrmsr_code, VECTOR_GP, 0xc0000080, EFER_LME | EFER_LMA | bit}; }

const std::map<Feature, Probe>& probes() {
  static const std::map<Feature, Probe> all = {
      {FPU, insn({0xd9, 0xe8})},                                          // FLD1
      {TSC, insn({0x0f, 0x31})},                                          // RDTSC
      {MSR, Probe{rdmsr_code, VECTOR_UD, 0x277}},                         // RDMSR
      {CMPXCHG8B, insn({0x0f, 0xc7, 0x0b})},                              // CMPXCHG8B [RBX]
      {CMOV, insn({0x0f, 0x44, 0xc0})},                                   // CMOVZ EAX, EAX
      {CLFLUSH, insn({0x0f, 0xae, 0x3b})},                                // CLFLUSH [RBX]
      {MMX, insn({0x0f, 0xef, 0xc0})},                                    // PXOR MM0, MM0
      {FXSR, insn({0x0f, 0xae, 0x03})},                                   // FXSAVE [RBX]
      {SSE, insn({0x0f, 0x58, 0xc0})},                                    // ADDPS
      {SSE2, insn({0x66, 0x0f, 0x58, 0xc0})},                             // ADDPD
      {SSE3, insn({0xf2, 0x0f, 0xd0, 0xc0})},                             // ADDSUBPS
      {SSSE3, insn({0x66, 0x0f, 0x38, 0x1c, 0xc0})},                      // PABSB
      {SSE4_1, insn({0x66, 0x0f, 0x38, 0x10, 0xc0})},                     // PBLENDVB
      {SSE4_2, insn({0xf2, 0x0f, 0x38, 0xf0, 0xc0})},                     // CRC32 EAX, AL
      {SSE4A, insn({0x66, 0x0f, 0x79, 0xc1})},                            // EXTRQ XMM0, XMM1
      {PCLMULQDQ, insn({0x66, 0x0f, 0x3a, 0x44, 0xc0, 0x00})},            //
      {AES, insn({0x66, 0x0f, 0x38, 0xdc, 0xc0})},                        // AESENC
      {SHA, insn({0x0f, 0x38, 0xc8, 0xc0})},                              // SHA1NEXTE
      {GFNI, insn({0x66, 0x0f, 0x38, 0xcf, 0xc0})},                       // GF2P8MULB
      {POPCNT, insn({0xf3, 0x0f, 0xb8, 0xc0})},                           //
      {MOVBE, insn({0x0f, 0x38, 0xf0, 0x03})},                            // MOVBE EAX, [RBX]
      {BMI1, insn({0xc4, 0xe2, 0x78, 0xf2, 0xc0})},                       // ANDN
      {BMI2, insn({0xc4, 0xe2, 0x7b, 0xf5, 0xc0})},                       // PDEP
      {ADX, insn({0x66, 0x0f, 0x38, 0xf6, 0xc0})},                        // ADCX
      {RDRAND, insn({0x0f, 0xc7, 0xf0})},                                 //
      {RDSEED, insn({0x0f, 0xc7, 0xf8})},                                 //
      {CLFLUSHOPT, insn({0x66, 0x0f, 0xae, 0x3b})},                       //
      {CLWB, insn({0x66, 0x0f, 0xae, 0x33})},                             //
      {CMPXCHG16B, insn({0x48, 0x0f, 0xc7, 0x0b})},                       //
      {LAHF_LM, insn({0x9f})},                                            // LAHF
      {RDTSCP, insn({0x0f, 0x01, 0xf9})},                                 //
      {INVPCID, Probe{{0x66, 0x0f, 0x38, 0x82, 0x03}, VECTOR_UD, 0, 2}},  // INVPCID RAX, [RBX]: all contexts
      {SMAP, insn({0x0f, 0x01, 0xca})},                                   // CLAC
      {XSAVE, insn(xgetbv_code)},                                         //
      {XSAVEOPT, insn({0x0f, 0xae, 0x33})},                               //
      {XSAVEC, insn({0x0f, 0xc7, 0x23})},                                 //
      {XGETBV1, Probe{xgetbv_code, VECTOR_GP, 1}},                        //
      {AVX, insn({0xc5, 0xf8, 0x58, 0xc0})},                              // VADDPS XMM
      {F16C, insn({0xc4, 0xe2, 0x79, 0x13, 0xc0})},                       // VCVTPH2PS
      {FMA, insn({0xc4, 0xe2, 0x79, 0x98, 0xc0})},                        // VFMADD132PS
      {AVX2, insn({0xc4, 0xe2, 0x7d, 0x1c, 0xc0})},                       // VPABSB YMM
      {VAES, insn({0xc4, 0xe2, 0x7d, 0xdc, 0xc0})},                       // VAESENC YMM
      {VPCLMULQDQ, insn({0xc4, 0xe3, 0x7d, 0x44, 0xc0, 0x00})},           // VPCLMULQDQ YMM
      {AVX512F, insn({0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0})},              // VADDPS ZMM
      {AVX512DQ, insn({0x62, 0xf1, 0xfd, 0x48, 0x54, 0xc0})},             // VANDPD ZMM
      {AVX512CD, insn({0x62, 0xf2, 0x7d, 0x48, 0xc4, 0xc0})},             // VPCONFLICTD ZMM
      {AVX512BW, insn({0x62, 0xf1, 0x7d, 0x48, 0xfc, 0xc0})},             // VPADDB ZMM
      {AVX512VL, insn({0x62, 0xf1, 0x7c, 0x08, 0x58, 0xc0})},             // VADDPS XMM by EVEX
      {AVX512_IFMA, insn({0x62, 0xf2, 0xfd, 0x48, 0xb4, 0xc0})},          // VPMADD52LUQ
      {AVX512_VBMI, insn({0x62, 0xf2, 0x7d, 0x48, 0x8d, 0xc0})},          // VPERMB
      {AVX512_VBMI2, insn({0x62, 0xf2, 0x7d, 0x48, 0x63, 0xc0})},         // VPCOMPRESSB
      {AVX512_VNNI, insn({0x62, 0xf2, 0x7d, 0x48, 0x50, 0xc0})},          // VPDPBUSD
      {AVX512_BITALG, insn({0x62, 0xf2, 0x7d, 0x48, 0x54, 0xc0})},        // VPOPCNTB
      {AVX512_VPOPCNTDQ, insn({0x62, 0xf2, 0x7d, 0x48, 0x55, 0xc0})},     // VPOPCNTD
      {AVX512_BF16, insn({0x62, 0xf2, 0x7e, 0x48, 0x72, 0xc0})},          // VCVTNEPS2BF16
      {VME, cr4(CR4_VME)},
      {DE, cr4(CR4_DE)},
      {PSE, cr4(CR4_PSE)},
      {PAE, cr4(CR4_PAE)},
      {PGE, cr4(CR4_PGE)},
      {MCE, cr4(CR4_MCE)},
      {MCA, msr(0x179)},
      {PCID, cr4(CR4_PCIDE)},
      {FSGSBASE, cr4(CR4_FSGSBASE)},
      {SMEP, cr4(CR4_SMEP)},
      {UMIP, cr4(CR4_UMIP)},
      {SYSCALL, efer(EFER_SCE)},
      {NX, efer(EFER_NXE)},
      {SVM, efer(EFER_SVME)},
      {LONG_MODE, msr(0xc0000082)},
      {APIC, msr(0x1b)},
      {X2APIC, msr(0x802)},
      {TSC_DEADLINE, msr(0x6e0)},
      {TSC_ADJUST, msr(0x3b)},
      {SEP, msr(0x174)},
      {MTRR, msr(0xfe)},
      {PAT, msr(0x277)},
      {SPEC_CTRL, msr(0x48)},
      {AMD_IBRS, msr(0x48)},
      {ARCH_CAPABILITIES, msr(0x10a)},
      {OSVW, msr(0xc0010140)},
      {HYPERVISOR, msr(0x4b564d00)},
  };
  return all;
}

/// Features whose absence no instruction of 64-bit code can see by a fault, and what is there instead.
const std::map<Feature, const char*>& faultless() {
  static const std::map<Feature, const char*> all = {
      {LZCNT, "its encoding is BSR then: Features.LzcntIsBsr"},
      {PAGE_1GB, "a page table entry: Features.PagesOf1GiB"},
      {PSE36, "a 32-bit page table entry: Features.Pse36"},
      {PREFETCHW, "PREFETCHW is a no-operation without it (SDM 2B)"},
      {MMXEXT, "AMD's name for a part of SSE, which is there"},
      {ERMS, "a statement on speed"},
      {FSRM, "a statement on speed"},
      {ARAT, "a statement on the APIC timer"},
      {INVARIANT_TSC, "a statement on the TSC"},
      {TOPOLOGY_EXTENSIONS, "CPUID leaves"},
      {AMD_SSB_NO, "a statement on errata"},
      {BTC_NO, "a statement on errata"},
      {SRSO_NO, "a statement on errata"},
      {SRSO_USER_KERNEL_NO, "a statement on errata"},
      {TSA_SQ_NO, "a statement on errata"},
      {TSA_L1_NO, "a statement on errata"},
      {NPT, "a bit in a VMCB: SvmPaging.WithoutNptItsBitMeansNothing"},
      {NRIP_SAVE, "a field of a VMCB"},
      {VMCB_CLEAN, "a field of a VMCB that may be ignored"},
      {FLUSHBYASID, "values of a VMCB's field"},
  };
  return all;
}

CpuidPolicy processor(const std::string& text) {
  return CpuidPolicy::make(parse_cpu(text).value(), 1, test_tsc_hz).value();
}

class Features : public testing::TestWithParam<EngineKind> {
 protected:
  /// The vector of the fault that the probe ends in, or no_vector.
  unsigned outcome(const CpuidPolicy& cpuid, const Probe& probe) const {
    Machine m(GetParam(), cpuid);
    Bytes code = probe.code;
    code.push_back(0xf4);  // HLT
    m.load(code_at, code);
    m.long_mode();
    m.state.gpr[RAX] = probe.eax & 0xffffffff;
    m.state.gpr[RCX] = probe.ecx;
    m.state.gpr[RBX] = data_at;
    m.state.cr4 = cr4_of_tests;
    if (m.run().reason != ExitReason::Halted) return no_vector + 1;
    if (m.state.rip == code_at + code.size()) return no_vector;
    return static_cast<unsigned>((m.state.rip - 1 - handlers_at) / 16);
  }
};

TEST_P(Features, EachIsProbedOrNamed) {
  for (std::size_t i = 0; i < feature_count; ++i) {
    const auto feature = static_cast<Feature>(i);
    if (switchable(feature)) {
      EXPECT_EQ(probes().count(feature) + faultless().count(feature), 1u) << feature_name(feature);
    }
  }
}

TEST_P(Features, EachFaultsWhenItIsOff) {
  const FeatureSet available = host_features(1);
  for (const auto& [feature, probe] : probes()) {
    if (!available.test(static_cast<std::size_t>(feature))) continue;
    const CpuidPolicy without = processor("host,-" + feature_name(feature));
    EXPECT_EQ(outcome(without, probe), probe.vector) << feature_name(feature);
  }
}

// Or the test above would prove nothing.
TEST_P(Features, EachWorksWhenItIsOn) {
  const FeatureSet available = host_features(1);
  // SVM alone is off unless asked for.
  const CpuidPolicy with = processor(available.test(static_cast<std::size_t>(SVM)) ? "host,+svm" : "host");
  for (const auto& [feature, probe] : probes()) {
    if (!available.test(static_cast<std::size_t>(feature))) continue;
    if (feature == APIC || feature == X2APIC || feature == TSC_DEADLINE) continue;  // the fake board has no APIC
    EXPECT_EQ(outcome(with, probe), no_vector) << feature_name(feature);
  }
}

// 5-level paging, VMX, SMX, key locker, protection keys, CET, user interrupts, and what nobody has defined.
TEST_P(Features, WhatIsOfferedByNoModelCannotBeSwitchedOn) {
  const CpuidPolicy cpuid = processor("host");
  for (const unsigned bit : {12u, 13u, 14u, 15u, 19u, 22u, 23u, 24u, 25u, 26u, 27u, 28u, 29u, 30u, 31u})
    EXPECT_EQ(outcome(cpuid, cr4(std::uint64_t{1} << bit)), VECTOR_GP) << "CR4 bit " << bit;
  EXPECT_EQ(outcome(cpuid, insn({0x0f, 0x01, 0xee})), VECTOR_UD) << "RDPKRU";
  EXPECT_EQ(outcome(cpuid, insn({0x0f, 0x01, 0xef})), VECTOR_UD) << "WRPKRU";
  EXPECT_EQ(outcome(cpuid, insn({0xf3, 0x0f, 0x01, 0xe8})), VECTOR_UD) << "SETSSBSY";
  EXPECT_EQ(outcome(cpuid, insn({0x0f, 0x01, 0xc1})), no_vector) << "VMCALL is KVM's hypercall";
}

// LZCNT of 1 is 31, BSR of 1 is 0; TZCNT of 0 is 32, BSF of 0 leaves its destination alone.
TEST_P(Features, LzcntIsBsr) {
  if (!host_features(1).test(static_cast<std::size_t>(LZCNT))) GTEST_SKIP() << "host without LZCNT";
  const CpuidPolicy cpuid = processor("host,-lzcnt,-bmi1");
  Machine m(GetParam(), cpuid);
  const Bytes code = {0xf3, 0x0f, 0xbd, 0xc1, 0xf3, 0x0f, 0xbc, 0xd3, 0xf4};  // LZCNT EAX, ECX; TZCNT EDX, EBX
  m.load(code_at, code);
  m.long_mode();
  m.state.gpr[RAX] = 77;
  m.state.gpr[RCX] = 1;
  m.state.gpr[RDX] = 77;
  m.run();
  EXPECT_EQ(m.state.gpr[RAX], 0u);
  EXPECT_EQ(m.state.gpr[RDX], 77u);
}

TEST_P(Features, PagesOf1GiB) {
  for (const bool offered : {true, false}) {
    const CpuidPolicy cpuid = processor(offered ? "host" : "host,-pdpe1gb");
    Machine m(GetParam(), cpuid);
    const Bytes code = {0x8b, 0x03, 0xf4};  // MOV EAX, [RBX]; HLT
    m.load(code_at, code);
    m.long_mode();
    constexpr std::uint64_t at = std::uint64_t{5} << 30;
    m.map(at, 0, PTE_W);  // makes the tables above
    m.put(m.entry_of(at, 3), PTE_P | PTE_W | PTE_PS);
    m.put(data_at, 0x1234);
    m.state.gpr[RBX] = at + data_at;
    m.run();
    if (offered) {
      EXPECT_EQ(m.state.gpr[RAX], 0x1234u);
    } else {
      EXPECT_EQ(m.state.cr2, at + data_at);
      EXPECT_EQ(m.get(m.state.gpr[RSP]) & 9, 9u) << "present, reserved bit";
    }
  }
}

// Bits 20 to 13 of a 4 MiB page's entry are address bits 39 to 32, or reserved (SDM 3A table 4-4).
TEST_P(Features, Pse36) {
  for (const bool offered : {true, false}) {
    const CpuidPolicy cpuid = processor(offered ? "host" : "host,-pse36");
    Machine m(GetParam(), cpuid);
    const Bytes code = {0x8b, 0x03, 0xf4};
    m.load(code_at, code);
    m.long_mode();
    m.state.segments[CS] = {kernel_code32, 0xc9b, 0xffffffff, 0};
    m.state.efer = 0;
    m.state.cr4 = CR4_PSE;
    m.state.cr3 = 0x800000;
    m.put(0x800000, PTE_P | PTE_W | PTE_PS, 4);
    m.put(0x800004, PTE_P | PTE_W | PTE_PS | 1u << 13, 4);  // 4 MiB to 8 MiB, at 4 GiB
    m.state.gpr[RBX] = 0x400000;
    m.state.idtr = {0, 0};  // a fault ends in shutdown
    const Exit exit = m.run();
    EXPECT_EQ(exit.reason, offered ? ExitReason::Halted : ExitReason::Shutdown);
  }
}

}  // namespace

ENGINE_SUITE(Features);

}  // namespace veneer::engine_tests
