// Which instructions refuse a misaligned memory operand with #GP (SDM 2A 2.4, 2.8; SDM 1 15.7).
#include "cpu/bt/alignment.h"

namespace veneer::cpu::bt {
namespace {

constexpr unsigned xmm_bits = 128;

/// Legacy SSE wants its 16-byte operands aligned, but for these.
bool takes_any_address(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
    // AMD's processors do not mind here; where others do, the instruction itself finds out.
    case ZYDIS_MNEMONIC_SHA1MSG1:
    case ZYDIS_MNEMONIC_SHA1MSG2:
    case ZYDIS_MNEMONIC_SHA1NEXTE:
    case ZYDIS_MNEMONIC_SHA1RNDS4:
    case ZYDIS_MNEMONIC_SHA256MSG1:
    case ZYDIS_MNEMONIC_SHA256MSG2:
    case ZYDIS_MNEMONIC_SHA256RNDS2:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool demands_alignment(const Insn& insn) {
  if (insn.memory_op < 0 || insn.row.form != x86::AddressForm::ModRm) return false;
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVDQA32:
    case ZYDIS_MNEMONIC_VMOVDQA64:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTPS:
      return true;
    default:
      // CVTPD2PI and CVTTPD2PI write an MMX register.
      return (insn.row.fp == x86::FpClass::Sse || insn.row.fp == x86::FpClass::Mmx) &&
             insn.z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && insn.op[insn.memory_op].size == xmm_bits &&
             !takes_any_address(insn.mnemonic());
  }
}

}  // namespace veneer::cpu::bt
