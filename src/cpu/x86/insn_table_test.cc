// The instruction table: every row makes sense, and classify() tells shared mnemonics apart.
#include "cpu/x86/insn_table.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

namespace veneer::cpu::x86 {
namespace {

const CpuidPolicy& policy() {
  static const CpuidPolicy shared = CpuidPolicy::host(2, 2'000'000'000);
  return shared;
}

struct Decoded {
  bool valid = false;
  ZydisDecodedInstruction instruction{};
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT]{};

  Row classified() const { return classify(instruction, operands); }
};

Decoded decode(std::initializer_list<std::uint8_t> bytes, ZydisMachineMode mode = ZYDIS_MACHINE_MODE_LONG_64,
               ZydisStackWidth width = ZYDIS_STACK_WIDTH_64) {
  std::vector<std::uint8_t> code(bytes);
  code.resize(16);
  const ZydisDecoder decoder = make_decoder(mode, width, policy());
  Decoded result;
  result.valid =
      ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code.data(), code.size(), &result.instruction, result.operands));
  return result;
}
Decoded decode32(std::initializer_list<std::uint8_t> bytes) {
  return decode(bytes, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
}

// Shared mnemonics.

TEST(Classify, MovBetweenRegistersIsNative) {
  const Row row = decode({0x48, 0x89, 0xd8}).classified();
  EXPECT_EQ(row.treatment, Treatment::Native);
  EXPECT_EQ(row.form, AddressForm::None);
  EXPECT_EQ(row.access, MemAccess::None);
}
TEST(Classify, MovToMemoryWrites) {
  const Row row = decode({0x48, 0x89, 0x03}).classified();
  EXPECT_EQ(row.form, AddressForm::ModRm);
  EXPECT_EQ(row.access, MemAccess::Write);
}
TEST(Classify, MovFromSegmentRegisterIsEmitted) {
  EXPECT_EQ(decode({0x8c, 0xd8}).classified().treatment, Treatment::Emit);
}
TEST(Classify, MovToSegmentRegisterIsEmitted) {
  EXPECT_EQ(decode({0x8e, 0xd8}).classified().treatment, Treatment::Emit);
}
TEST(Classify, MovToControlRegisterIsACallOut) {
  EXPECT_EQ(decode({0x0f, 0x22, 0xd8}).classified().treatment, Treatment::CallOut);
}
TEST(Classify, MovFromDebugRegisterIsACallOut) {
  EXPECT_EQ(decode({0x0f, 0x21, 0xf8}).classified().treatment, Treatment::CallOut);
}
TEST(Classify, MovOfAnAbsoluteOffsetIsEmitted) {
  const Row row = decode({0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8}).classified();
  EXPECT_EQ(row.treatment, Treatment::Emit);
  EXPECT_EQ(row.form, AddressForm::Moffs);
  EXPECT_EQ(row.access, MemAccess::Read);
}
TEST(Classify, MovsdIsAString) {
  const Row row = decode({0xa5}).classified();
  EXPECT_EQ(row.treatment, Treatment::Emit);
  EXPECT_EQ(row.form, AddressForm::String);
  EXPECT_EQ(row.fp, FpClass::None);
}
TEST(Classify, MovsdIsAlsoSse2) {
  const Row row = decode({0xf2, 0x0f, 0x10, 0x03}).classified();
  EXPECT_EQ(row.treatment, Treatment::Native);
  EXPECT_EQ(row.form, AddressForm::ModRm);
  EXPECT_EQ(row.fp, FpClass::Sse);
}
TEST(Classify, CmpsdIsAString) { EXPECT_EQ(decode({0xa7}).classified().form, AddressForm::String); }
TEST(Classify, NearReturnIsEmitted) { EXPECT_EQ(decode({0xc3}).classified().treatment, Treatment::Emit); }
TEST(Classify, FarReturnIsACallOut) { EXPECT_EQ(decode({0xcb}).classified().treatment, Treatment::CallOut); }
TEST(Classify, NearIndirectJumpIsEmitted) { EXPECT_EQ(decode({0xff, 0x23}).classified().treatment, Treatment::Emit); }
TEST(Classify, FarIndirectJumpIsACallOut) {
  const Row row = decode({0xff, 0x2b}).classified();
  EXPECT_EQ(row.treatment, Treatment::CallOut);
  EXPECT_EQ(row.form, AddressForm::FarPointer);
}
TEST(Classify, FarDirectCallIsACallOut) {
  EXPECT_EQ(decode32({0x9a, 1, 2, 3, 4, 5, 6}).classified().treatment, Treatment::CallOut);
}

// Encodings that 64-bit mode lacks.

TEST(Classify, ShortIncIsEmitted) { EXPECT_EQ(decode32({0x40}).classified().treatment, Treatment::Emit); }
TEST(Classify, LongIncIsNative) { EXPECT_EQ(decode32({0xff, 0xc0}).classified().treatment, Treatment::Native); }
TEST(Classify, Opcode82IsEmitted) {
  const Decoded decoded = decode32({0x82, 0xc0, 1});
  ASSERT_TRUE(decoded.valid);
  EXPECT_EQ(decoded.classified().treatment, Treatment::Emit);
}
TEST(Classify, AaaIsACallOut) { EXPECT_EQ(decode32({0x37}).classified().treatment, Treatment::CallOut); }

// Address forms and accesses.

TEST(Classify, BitTestWithRegisterIndexReachesPastItsOperand) {
  EXPECT_EQ(decode({0x48, 0x0f, 0xa3, 0x03}).classified().form, AddressForm::BitString);
}
TEST(Classify, BitTestWithImmediateStaysInItsOperand) {
  EXPECT_EQ(decode({0x48, 0x0f, 0xba, 0x23, 5}).classified().form, AddressForm::ModRm);
}
TEST(Classify, BitTestOfARegisterHasNoAddress) {
  EXPECT_EQ(decode({0x48, 0x0f, 0xa3, 0xc3}).classified().form, AddressForm::None);
}
TEST(Classify, CompareExchangeNeedsWritePermission) {
  const Row row = decode({0xf0, 0x48, 0x0f, 0xb1, 0x0b}).classified();
  EXPECT_EQ(row.access, MemAccess::ReadWrite);
  EXPECT_TRUE(row.lockable);
}
TEST(Classify, CompareReads) { EXPECT_EQ(decode({0x48, 0x39, 0x03}).classified().access, MemAccess::Read); }
TEST(Classify, AddToMemoryReadsAndWrites) {
  EXPECT_EQ(decode({0x48, 0x01, 0x03}).classified().access, MemAccess::ReadWrite);
}
TEST(Classify, LeaAccessesNothing) {
  const Row row = decode({0x48, 0x8d, 0x03}).classified();
  EXPECT_EQ(row.form, AddressForm::AddressOnly);
  EXPECT_EQ(row.access, MemAccess::None);
}
TEST(Classify, LongNopAccessesNothing) {
  const Row row = decode({0x0f, 0x1f, 0x44, 0, 0}).classified();
  EXPECT_EQ(row.form, AddressForm::AddressOnly);
  EXPECT_EQ(row.treatment, Treatment::Emit);
}
TEST(Classify, GatherHasManyAddresses) {
  const Decoded gather = decode({0xc4, 0xe2, 0x69, 0x92, 0x04, 0x08});  // vgatherdps xmm0, [rax+xmm1], xmm2
  ASSERT_TRUE(gather.valid);
  EXPECT_EQ(gather.classified().form, AddressForm::Vsib);
  EXPECT_TRUE(suppresses_faults(gather.instruction, gather.classified()));
}
TEST(Classify, MaskmovdquAddressesThroughRdi) {
  const Row row = decode({0x66, 0x0f, 0xf7, 0xc1}).classified();
  EXPECT_EQ(row.form, AddressForm::MaskMov);
  EXPECT_EQ(row.access, MemAccess::Write);
}

// Enabling bits.

TEST(Classify, PaddbOfMmxIsMmx) { EXPECT_EQ(decode({0x0f, 0xfc, 0xc1}).classified().fp, FpClass::Mmx); }
TEST(Classify, PaddbOfXmmIsSse) { EXPECT_EQ(decode({0x66, 0x0f, 0xfc, 0xc1}).classified().fp, FpClass::Sse); }
TEST(Classify, Movq2dqIsSse) { EXPECT_EQ(decode({0xf3, 0x0f, 0xd6, 0xc1}).classified().fp, FpClass::Sse); }
TEST(Classify, VexAddpsIsAvx) { EXPECT_EQ(decode({0xc5, 0xf0, 0x58, 0xc2}).classified().fp, FpClass::Avx); }
TEST(Classify, EvexAddpsIsAvx512) {
  EXPECT_EQ(decode({0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2}).classified().fp, FpClass::Avx512);
}
TEST(Classify, OpmaskMoveIsAvx512) { EXPECT_EQ(decode({0xc5, 0xf8, 0x90, 0xc1}).classified().fp, FpClass::Avx512); }
TEST(Classify, VexAndnUsesNoVectorState) {
  EXPECT_EQ(decode({0xc4, 0xe2, 0x70, 0xf2, 0xc2}).classified().fp, FpClass::None);
}
TEST(Classify, MovntiUsesNoVectorState) { EXPECT_EQ(decode({0x0f, 0xc3, 0x03}).classified().fp, FpClass::None); }
TEST(Classify, FwaitHasItsOwnRule) { EXPECT_EQ(decode({0x9b}).classified().fp, FpClass::Wait); }

TEST(SuppressesFaults, MaskedStore) {
  const Decoded store = decode({0x62, 0xf1, 0x7c, 0x49, 0x11, 0x03});  // vmovups [rbx]{k1}, zmm0
  ASSERT_TRUE(store.valid);
  EXPECT_TRUE(suppresses_faults(store.instruction, store.classified()));
}
TEST(SuppressesFaults, NotAnUnmaskedStore) {
  const Decoded store = decode({0x62, 0xf1, 0x7c, 0x48, 0x11, 0x03});
  ASSERT_TRUE(store.valid);
  EXPECT_FALSE(suppresses_faults(store.instruction, store.classified()));
}

// The default is #UD (traps.md 2).

TEST(Table, SensitiveInstructionsAreUndefined) {
  for (const ZydisMnemonic mnemonic :
       {ZYDIS_MNEMONIC_WRPKRU, ZYDIS_MNEMONIC_RDPKRU, ZYDIS_MNEMONIC_XBEGIN, ZYDIS_MNEMONIC_RDPID,
        ZYDIS_MNEMONIC_TPAUSE, ZYDIS_MNEMONIC_UMWAIT, ZYDIS_MNEMONIC_ENQCMD, ZYDIS_MNEMONIC_CLUI,
        ZYDIS_MNEMONIC_MONITOR, ZYDIS_MNEMONIC_SKINIT, ZYDIS_MNEMONIC_VMXON, ZYDIS_MNEMONIC_XSAVES,
        ZYDIS_MNEMONIC_INCSSPQ, ZYDIS_MNEMONIC_MOVDIR64B, ZYDIS_MNEMONIC_CLZERO, ZYDIS_MNEMONIC_INVALID}) {
    EXPECT_EQ(row(mnemonic).treatment, Treatment::Undefined) << ZydisMnemonicGetString(mnemonic);
  }
}
TEST(Table, UnprivilegedButSensitiveIsNeverNative) {
  for (const ZydisMnemonic mnemonic :
       {ZYDIS_MNEMONIC_SMSW,   ZYDIS_MNEMONIC_SLDT,     ZYDIS_MNEMONIC_STR,      ZYDIS_MNEMONIC_SGDT,
        ZYDIS_MNEMONIC_SIDT,   ZYDIS_MNEMONIC_LAR,      ZYDIS_MNEMONIC_LSL,      ZYDIS_MNEMONIC_VERR,
        ZYDIS_MNEMONIC_VERW,   ZYDIS_MNEMONIC_PUSHFQ,   ZYDIS_MNEMONIC_POPFQ,    ZYDIS_MNEMONIC_RDTSC,
        ZYDIS_MNEMONIC_RDTSCP, ZYDIS_MNEMONIC_RDPMC,    ZYDIS_MNEMONIC_XGETBV,   ZYDIS_MNEMONIC_XSETBV,
        ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_WRFSBASE, ZYDIS_MNEMONIC_RDGSBASE, ZYDIS_MNEMONIC_SYSCALL,
        ZYDIS_MNEMONIC_CPUID,  ZYDIS_MNEMONIC_FNSTENV,  ZYDIS_MNEMONIC_FXSAVE}) {
    EXPECT_NE(row(mnemonic).treatment, Treatment::Native) << ZydisMnemonicGetString(mnemonic);
  }
}
TEST(Table, EveryRowIsFoundUnderItsMnemonic) {
  for (int i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; ++i) {
    EXPECT_EQ(row(static_cast<ZydisMnemonic>(i)).mnemonic, i);
  }
}

// The decoder reads extensions that are off as what they were before.

TEST(Decoder, Endbr64IsANop) { EXPECT_EQ(decode({0xf3, 0x0f, 0x1e, 0xfa}).instruction.mnemonic, ZYDIS_MNEMONIC_NOP); }
TEST(Decoder, RdsspIsANop) {
  const Decoded rdssp = decode({0xf3, 0x48, 0x0f, 0x1e, 0xc8});
  ASSERT_TRUE(rdssp.valid);
  EXPECT_EQ(rdssp.classified().treatment, Treatment::Emit);
}
TEST(Decoder, BndmovIsANop) { EXPECT_EQ(decode({0x66, 0x0f, 0x1a, 0x03}).instruction.mnemonic, ZYDIS_MNEMONIC_NOP); }
TEST(Decoder, IncsspIsUndefined) {
  const Decoded incssp = decode({0xf3, 0x48, 0x0f, 0xae, 0xe8});
  EXPECT_TRUE(!incssp.valid || incssp.classified().treatment == Treatment::Undefined);
}

TEST(FeatureGate, OffersTheBaseInstructions) {
  EXPECT_TRUE(feature_offered(policy(), decode({0x48, 0x01, 0x03}).instruction));
}
TEST(FeatureGate, RefusesVexVnni) {
  const Decoded vpdpbusd = decode({0xc4, 0xe2, 0x71, 0x50, 0xc2});
  ASSERT_TRUE(vpdpbusd.valid);
  EXPECT_FALSE(feature_offered(policy(), vpdpbusd.instruction));
}
TEST(FeatureGate, RefusesVmrunUnlessSvmIsSwitchedOn) {
  const Decoded vmrun = decode({0x0f, 0x01, 0xd8});
  ASSERT_TRUE(vmrun.valid);
  EXPECT_FALSE(feature_offered(policy(), vmrun.instruction));
}
TEST(FeatureGate, FollowsTheHostForAvx512) {
  const Decoded vaddps = decode({0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2});
  EXPECT_EQ(feature_offered(policy(), vaddps.instruction), policy().has(7, 0, CpuidPolicy::Register::Ebx, 16));
}

}  // namespace
}  // namespace veneer::cpu::x86
