// What masks, indices and elements a vector instruction has, from Zydis' description of it.
#include "cpu/bt/vector_operands.h"

#include <algorithm>

namespace veneer::cpu::bt {
namespace {

std::uint8_t register_id(ZydisRegister r) { return static_cast<std::uint8_t>(ZydisRegisterGetId(r)); }

/// The register operand that this encoding field names, or -1.
int named_by(const Insn& insn, ZydisOperandEncoding encoding) {
  for (unsigned i = 0; i < insn.z.operand_count_visible; i++)
    if (insn.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && insn.op[i].encoding == encoding)
      return ZydisRegisterGetId(insn.op[i].reg.value);
  return -1;
}

/// Index and data sizes stand in the names: D or Q, then PS/D or PD/Q (SDM 2C VGATHERDPS, VPGATHERDD ...).
void vsib_sizes(ZydisMnemonic mnemonic, VectorOperands& v) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VSCATTERDPS:
    case ZYDIS_MNEMONIC_VPSCATTERDD:
      v.index_bytes = v.element_bytes = 4;
      return;
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ:
    case ZYDIS_MNEMONIC_VSCATTERDPD:
    case ZYDIS_MNEMONIC_VPSCATTERDQ:
      v.index_bytes = 4;
      v.element_bytes = 8;
      return;
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VSCATTERQPS:
    case ZYDIS_MNEMONIC_VPSCATTERQD:
      v.index_bytes = 8;
      v.element_bytes = 4;
      return;
    default:
      v.index_bytes = v.element_bytes = 8;
  }
}

/// Elements in memory and mask bits of a broadcast.
struct Broadcast {
  std::uint8_t elements, mask_bits;
};

Broadcast broadcast(ZydisBroadcastMode mode) {
  switch (mode) {
    case ZYDIS_BROADCAST_MODE_1_TO_2:
      return {1, 2};
    case ZYDIS_BROADCAST_MODE_1_TO_4:
      return {1, 4};
    case ZYDIS_BROADCAST_MODE_1_TO_8:
      return {1, 8};
    case ZYDIS_BROADCAST_MODE_1_TO_16:
      return {1, 16};
    case ZYDIS_BROADCAST_MODE_1_TO_32:
      return {1, 32};
    case ZYDIS_BROADCAST_MODE_1_TO_64:
      return {1, 64};
    case ZYDIS_BROADCAST_MODE_2_TO_4:
      return {2, 4};
    case ZYDIS_BROADCAST_MODE_2_TO_8:
      return {2, 8};
    case ZYDIS_BROADCAST_MODE_2_TO_16:
      return {2, 16};
    case ZYDIS_BROADCAST_MODE_4_TO_8:
      return {4, 8};
    case ZYDIS_BROADCAST_MODE_4_TO_16:
      return {4, 16};
    case ZYDIS_BROADCAST_MODE_8_TO_16:
      return {8, 16};
    default:
      return {0, 0};
  }
}

/// A store that leaves inactive elements alone, though some of these fault for them too: VEXTRACTF32X4 (E6NF).
bool masked_store(const Insn& insn) {
  const ZydisMaskMode mode = insn.z.avx.mask.mode;
  return insn.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && insn.row.form == x86::AddressForm::ModRm &&
         insn.row.access == x86::MemAccess::Write && mode != ZYDIS_MASK_MODE_INVALID &&
         mode != ZYDIS_MASK_MODE_DISABLED;
}

bool is_extract(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_VEXTRACTF32X4:
    case ZYDIS_MNEMONIC_VEXTRACTF32X8:
    case ZYDIS_MNEMONIC_VEXTRACTF64X2:
    case ZYDIS_MNEMONIC_VEXTRACTF64X4:
    case ZYDIS_MNEMONIC_VEXTRACTI32X4:
    case ZYDIS_MNEMONIC_VEXTRACTI32X8:
    case ZYDIS_MNEMONIC_VEXTRACTI64X2:
    case ZYDIS_MNEMONIC_VEXTRACTI64X4:
      return true;
    default:
      return false;
  }
}

unsigned vector_bytes(const Insn& insn) { return insn.z.avx.vector_length / 8u; }

}  // namespace

VectorOperands vector_operands(const Insn& insn) {
  using x86::AddressForm;
  VectorOperands v;
  const bool evex = insn.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
  if (const int reg = named_by(insn, ZYDIS_OPERAND_ENCODING_MODRM_REG); reg >= 0)
    v.reg = static_cast<std::uint8_t>(reg);
  switch (insn.row.form) {
    case AddressForm::Vsib:
      v.kind = evex ? MaskKind::Opmask : MaskKind::SignBits;
      v.mask = evex ? register_id(insn.z.avx.mask.reg)
                    : static_cast<std::uint8_t>(named_by(insn, ZYDIS_OPERAND_ENCODING_NDSNDD));
      v.index = register_id(insn.op[insn.memory_op].mem.index);
      vsib_sizes(insn.mnemonic(), v);
      v.elements = static_cast<std::uint8_t>(vector_bytes(insn) / std::max(v.index_bytes, v.element_bytes));
      v.mask_bits = v.elements;
      return v;
    case AddressForm::MaskMov:
      v.kind = MaskKind::SignBits;
      v.mask = static_cast<std::uint8_t>(named_by(insn, ZYDIS_OPERAND_ENCODING_MODRM_RM));
      v.elements = insn.mnemonic() == ZYDIS_MNEMONIC_MASKMOVQ ? 8 : 16;
      v.element_bytes = 1;
      return v;
    case AddressForm::ElementMask: {
      v.kind = MaskKind::SignBits;
      v.mask = static_cast<std::uint8_t>(named_by(insn, ZYDIS_OPERAND_ENCODING_NDSNDD));
      const bool wide = insn.mnemonic() == ZYDIS_MNEMONIC_VMASKMOVPD || insn.mnemonic() == ZYDIS_MNEMONIC_VPMASKMOVQ;
      v.element_bytes = wide ? 8 : 4;
      v.elements = static_cast<std::uint8_t>(vector_bytes(insn) / v.element_bytes);
      return v;  // no #AC at all (Zen 4)
    }
    default:
      break;
  }
  if (!masked_operand(insn)) return v;
  const ZydisDecodedOperand& memory = insn.op[insn.memory_op];
  v.kind = insn.row.form == AddressForm::Compress ? MaskKind::Compress : MaskKind::Opmask;
  v.mask = insn.z.avx.mask.mode == ZYDIS_MASK_MODE_DISABLED ? std::uint8_t{0} : register_id(insn.z.avx.mask.reg);
  const Broadcast b = broadcast(insn.z.avx.broadcast.mode);
  v.elements = b.elements ? b.elements : static_cast<std::uint8_t>(memory.element_count);
  v.mask_bits = b.elements ? b.mask_bits : v.elements;
  v.element_bytes = static_cast<std::uint8_t>(memory.size / 8u / v.elements);
  v.faults_whole = !x86::suppresses_faults(insn.z, insn.row);
  // #AC is about elements, but about all of what VEXTRACTF32X4 and its kin store (Zen 4).
  v.aligned_bytes = is_extract(insn.mnemonic()) ? static_cast<std::uint8_t>(memory.size / 8u) : v.element_bytes;
  return v;
}

bool masked_operand(const Insn& insn) {
  if (insn.memory_op < 0) return false;
  if (masked_store(insn)) return true;
  switch (insn.row.form) {
    case x86::AddressForm::ElementMask:
      return true;
    case x86::AddressForm::Compress:
      // Without a mask VPEXPANDD is a plain load, faults and all, but VPCOMPRESSD goes by element even so (Zen 4).
      return insn.row.access == x86::MemAccess::Write || insn.z.avx.mask.mode != ZYDIS_MASK_MODE_DISABLED;
    case x86::AddressForm::ModRm:
      return x86::suppresses_faults(insn.z, insn.row);
    default:
      return false;
  }
}

}  // namespace veneer::cpu::bt
