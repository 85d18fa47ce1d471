// Invariants of the instruction table that must hold for every encoding, checked over a sweep of all of them.
#include "cpu/x86/encoding_sweep.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "cpu/x86/insn_table.h"

namespace veneer::cpu::x86 {
namespace {

using Names = std::set<std::string>;

/// Collects the names of instructions that break a rule, in 64-bit and in 32-bit code.
class Sweep : public testing::Test {
 protected:
  using Rule = std::function<bool(const SweepItem&, const Row&)>;

  Names breaking(const Rule& broken) const {
    Names names = breaking_in(decoder64_, broken);
    names.merge(breaking_in(decoder32_, broken));
    return names;
  }

  static Names breaking_in(const ZydisDecoder& decoder, const Rule& broken) {
    Names names;
    for (const std::uint8_t rm : {std::uint8_t{3}, std::uint8_t{4}}) {  // 4: a SIB byte, for VSIB forms
      sweep_encodings(decoder, rm, [&](const SweepItem& item) {
        if (broken(item, classify(item.instruction, item.operands.data()))) {
          names.insert(ZydisMnemonicGetString(item.instruction.mnemonic));
        }
      });
    }
    return names;
  }

  static const ZydisDecodedOperand* memory(const SweepItem& item) {
    const int index = memory_operand(item.instruction, item.operands.data());
    return index < 0 ? nullptr : &item.operands[static_cast<std::size_t>(index)];
  }

  CpuidPolicy policy_ = CpuidPolicy::host(1, 2'000'000'000);
  FeatureGate gate_{policy_};
  ZydisDecoder decoder64_ = make_decoder(ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, policy_);
  ZydisDecoder decoder32_ = make_decoder(ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32, policy_);
};

TEST_F(Sweep, WhatIsOfferedHasARow) {
  // Filed under sets that are offered for the sake of other instructions, and undefined on purpose.
  const Names on_purpose = {"ud0",      "ud1",     "ud2",     "invept",   "invvpid",     "vmclear",  "vmlaunch",
                            "vmptrld",  "vmptrst", "vmread",  "vmresume", "vmwrite",     "vmxoff",   "vmxon",
                            "clgi",     "invlpga", "skinit",  "stgi",     "vmload",      "vmrun",    "vmsave",
                            "clrssbsy", "incsspd", "incsspq", "rstorssp", "saveprevssp", "setssbsy", "wrssd",
                            "wrssq",    "wrussd",  "wrussq"};
  Names missing = breaking([&](const SweepItem& item, const Row&) {
    return gate_.offered(item.instruction) && row(item.instruction.mnemonic).treatment == Treatment::Undefined;
  });
  for (const std::string& name : on_purpose) missing.erase(name);
  EXPECT_EQ(missing, Names{});
}

TEST_F(Sweep, NativeHasNoMemoryOperandBesideModrm) {
  EXPECT_EQ(breaking([](const SweepItem& item, const Row& row) {
              if (row.treatment != Treatment::Native || row.form == AddressForm::MaskMov) return false;
              for (unsigned i = 0; i < item.instruction.operand_count; ++i) {
                const ZydisDecodedOperand& operand = item.operands[i];
                if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM) {
                  return true;
                }
              }
              return false;
            }),
            Names{});
}

TEST_F(Sweep, NativeMemoryHasASizeAndAnAccess) {
  EXPECT_EQ(breaking([](const SweepItem& item, const Row& row) {
              const ZydisDecodedOperand* operand = memory(item);
              if (row.treatment != Treatment::Native || operand == nullptr) return false;
              if (row.form == AddressForm::Hint) return row.access != MemAccess::None;
              return row.form == AddressForm::None || row.access == MemAccess::None ||
                     row.access == MemAccess::Operand || operand->size == 0;
            }),
            Names{});
}

TEST_F(Sweep, VsibFormIsForVsibOperands) {
  EXPECT_EQ(breaking([](const SweepItem& item, const Row& row) {
              const ZydisDecodedOperand* operand = memory(item);
              if (row.treatment != Treatment::Native || operand == nullptr) return false;
              return (operand->mem.type == ZYDIS_MEMOP_TYPE_VSIB) != (row.form == AddressForm::Vsib);
            }),
            Names{});
}

TEST_F(Sweep, NativeTouchesOnlyOrdinaryRegisters) {
  EXPECT_EQ(breaking([](const SweepItem& item, const Row& row) {
              if (row.treatment != Treatment::Native) return false;
              for (unsigned i = 0; i < item.instruction.operand_count; ++i) {
                if (item.operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
                const ZydisRegister reg = item.operands[i].reg.value;
                switch (ZydisRegisterGetClass(reg)) {
                  case ZYDIS_REGCLASS_GPR8:
                  case ZYDIS_REGCLASS_GPR16:
                  case ZYDIS_REGCLASS_GPR32:
                  case ZYDIS_REGCLASS_GPR64:
                  case ZYDIS_REGCLASS_X87:
                  case ZYDIS_REGCLASS_MMX:
                  case ZYDIS_REGCLASS_XMM:
                  case ZYDIS_REGCLASS_YMM:
                  case ZYDIS_REGCLASS_ZMM:
                  case ZYDIS_REGCLASS_MASK:
                  case ZYDIS_REGCLASS_FLAGS:
                    break;
                  default:
                    if (reg != ZYDIS_REGISTER_MXCSR && reg != ZYDIS_REGISTER_X87STATUS &&
                        reg != ZYDIS_REGISTER_X87CONTROL && reg != ZYDIS_REGISTER_X87TAG) {
                      return true;
                    }
                }
              }
              return false;
            }),
            Names{});
}

TEST_F(Sweep, NativeNeverUsesTheStackByItself) {
  EXPECT_EQ(
      breaking([](const SweepItem& item, const Row& row) {
        if (row.treatment != Treatment::Native) return false;
        for (unsigned i = item.instruction.operand_count_visible; i < item.instruction.operand_count; ++i) {
          const ZydisDecodedOperand& operand = item.operands[i];
          if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
              ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operand.reg.value) == ZYDIS_REGISTER_RSP) {
            return true;
          }
        }
        return false;
      }),
      Names{});
}

TEST_F(Sweep, LockableIsWhatAcceptsLock) {
  EXPECT_EQ(breaking([](const SweepItem& item, const Row& row) {
              if (row.treatment != Treatment::Native) return false;
              const bool accepts = (item.instruction.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK) != 0;
              return accepts && !row.lockable;
            }),
            Names{});
}

// The host decodes copies of 32-bit code in 64-bit mode: same instruction, same operands.
TEST_F(Sweep, NativeOf32BitCodeIsTheSameIn64BitMode) {
  EXPECT_EQ(breaking_in(decoder32_,
                        [&](const SweepItem& item, const Row& row) {
                          if (row.treatment != Treatment::Native || !gate_.offered(item.instruction)) return false;
                          ZydisDecodedInstruction host;
                          std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
                          if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder64_, item.bytes.data(), item.bytes.size(),
                                                                   &host, operands.data()))) {
                            return true;
                          }
                          if (host.mnemonic != item.instruction.mnemonic || host.length != item.instruction.length) {
                            return true;
                          }
                          for (unsigned i = 0; i < host.operand_count_visible; ++i) {
                            if (operands[i].type != item.operands[i].type) return true;
                            if (operands[i].size != item.operands[i].size) return true;
                            if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                                operands[i].reg.value != item.operands[i].reg.value) {
                              return true;
                            }
                          }
                          return false;
                        }),
            Names{});
}

}  // namespace
}  // namespace veneer::cpu::x86
