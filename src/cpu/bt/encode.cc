// Re-encoding: legacy, VEX and EVEX forms (SDM 2A 2.1, 2.3, 2.6.1).
#include "cpu/bt/encode.h"

namespace veneer::cpu::bt {
namespace {

/// ModRM and SIB of the new operand; the register field's low bits are in `reg3`.
void put_modrm(Assembler& a, const Insn& insn, const Substitution& s, unsigned reg3) {
  const auto& raw = insn.z.raw;
  if (raw.modrm.mod == 3) {
    const unsigned rm = s.rm >= 0 ? static_cast<unsigned>(s.rm) & 7 : raw.modrm.rm;
    a.byte(0xc0 | reg3 << 3 | rm);
    return;
  }
  const unsigned base = static_cast<unsigned>(s.base) & 7;
  // EVEX scales 8-bit displacements: there only none or 32 bits.
  const bool none = s.displacement == 0 && base != 5;
  const bool byte = !none && s.displacement == static_cast<std::int8_t>(s.displacement) &&
                    insn.z.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX;
  const unsigned mod = none ? 0 : byte ? 0x40 : 0x80;
  if (s.index < 0) {
    VENEER_ASSERT(base != 4);
    a.byte(mod | reg3 << 3 | base);
  } else {
    a.byte(mod | reg3 << 3 | 4);
    a.byte((static_cast<unsigned>(s.index) & 7) << 3 | base);
  }
  if (byte)
    a.byte(static_cast<std::uint8_t>(s.displacement));
  else if (!none)
    a.imm32(s.displacement);
}

/// Immediate bytes (and VEX /is4): everything behind the addressing bytes.
void put_tail(Assembler& a, const Insn& insn) {
  const auto& raw = insn.z.raw;
  const unsigned start = raw.modrm.offset + 1u + (raw.sib.offset ? 1u : 0u) + raw.disp.size / 8u;
  // The register in an immediate has 3 bits outside 64-bit mode (SDM 2A 2.3.11); the host would look at the fourth.
  bool is4 = false;
  for (unsigned i = 0; i < insn.z.operand_count_visible; i++) is4 |= insn.op[i].encoding == ZYDIS_OPERAND_ENCODING_IS4;
  const unsigned mask = is4 && insn.z.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 ? 0x7f : 0xff;
  for (unsigned i = start; i < insn.z.length; i++) a.byte(insn.raw[i] & mask);
}

bool extended(int host) { return host >= 8; }

bool in_16_bit_code(const ZydisDecodedInstruction& z) {
  return z.machine_mode == ZYDIS_MACHINE_MODE_LEGACY_16 || z.machine_mode == ZYDIS_MACHINE_MODE_REAL_16 ||
         z.machine_mode == ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
}

/// In 16-bit code 66h means 32-bit operands and its absence 16-bit ones: the other way round than in the host's code.
/// Not where 66h selects the operation, or its absence does (SSE, fences, MOVNTI).
bool operand_size_turns(const Insn& insn) {
  if (!in_16_bit_code(insn.z)) return false;
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_SFENCE:
      return false;
    default:
      break;
  }
  for (unsigned i = 0; i < insn.z.raw.prefix_count; i++)
    if (insn.z.raw.prefixes[i].value == 0x66 && insn.z.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
      return false;
  return insn.row.fp == x86::FpClass::None || insn.row.form == x86::AddressForm::FpuEnv ||
         insn.row.form == x86::AddressForm::FpuState;
}

}  // namespace

void emit_encoded(Assembler& a, const Insn& insn, const Substitution& s) {
  const auto& z = insn.z;
  const auto& raw = z.raw;
  const bool has_modrm = (z.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
  const bool memory = has_modrm && raw.modrm.mod != 3;
  VENEER_ASSERT(!memory || s.base >= 0);

  if (z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
    // Zydis keeps R, X, B and vvvv as encoded: inverted.
    const bool r = s.reg >= 0 ? extended(s.reg) : raw.vex.R == 0;
    const bool x = memory ? extended(s.index) : raw.vex.X == 0;
    const bool b = memory ? extended(s.base) : s.rm >= 0 ? extended(s.rm) : raw.vex.B == 0;
    const unsigned vvvv = s.vvvv >= 0 ? static_cast<unsigned>(s.vvvv) : (~static_cast<unsigned>(raw.vex.vvvv) & 15u);
    const unsigned low = ((~vvvv & 15u) << 3) | (raw.vex.L ? 4u : 0) | raw.vex.pp;
    if (!x && !b && !raw.vex.W && raw.vex.m_mmmm == 1) {  // the two-byte form says all of it
      a.byte(0xc5);
      a.byte((r ? 0 : 0x80u) | low);
    } else {
      a.byte(0xc4);
      a.byte((r ? 0 : 0x80u) | (x ? 0 : 0x40u) | (b ? 0 : 0x20u) | raw.vex.m_mmmm);
      a.byte((raw.vex.W ? 0x80u : 0) | low);
    }
    a.byte(z.opcode);
    if (has_modrm) {
      put_modrm(a, insn, s, s.reg >= 0 ? static_cast<unsigned>(s.reg) & 7 : raw.modrm.reg);
      put_tail(a, insn);
    }
    return;
  }
  if (z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
    // Patch the four prefix bytes in place: they sit right before the opcode.
    const unsigned at = raw.evex.offset;
    unsigned p0 = insn.raw[at + 1], p1 = insn.raw[at + 2], p2 = insn.raw[at + 3];
    if (s.reg >= 0) p0 = (p0 & ~0x90u) | (extended(s.reg) ? 0 : 0x80u) | 0x10u;
    if (memory)
      p0 = (p0 & ~0x60u) | (extended(s.index) ? 0 : 0x40u) | (extended(s.base) ? 0 : 0x20u);
    else if (s.rm >= 0)
      p0 = (p0 & ~0x60u) | 0x40u | (extended(s.rm) ? 0 : 0x20u);
    if (s.vvvv >= 0) {
      p1 = (p1 & ~0x78u) | ((~static_cast<unsigned>(s.vvvv) & 15u) << 3);
      p2 |= 0x08;
    }
    a.byte(0x62), a.byte(p0), a.byte(p1), a.byte(p2), a.byte(z.opcode);
    put_modrm(a, insn, s, s.reg >= 0 ? static_cast<unsigned>(s.reg) & 7 : raw.modrm.reg);
    put_tail(a, insn);
    return;
  }

  // Legacy: mandatory and operand-size prefixes, LOCK, REP stay; segments, 67 and REX are made anew.
  const bool turns = operand_size_turns(insn);
  // F3 makes BSF and BSR a TZCNT and LZCNT on the host, also where the guest's processor ignores it.
  const bool plain_scan = insn.mnemonic() == ZYDIS_MNEMONIC_BSF || insn.mnemonic() == ZYDIS_MNEMONIC_BSR;
  if (turns && z.operand_width == 16) a.byte(0x66);
  for (unsigned i = 0; i < raw.prefix_count; i++) {
    const unsigned p = raw.prefixes[i].value;
    if (turns && p == 0x66) continue;
    if (plain_scan && p == 0xf3) continue;
    const bool is_rex = z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && (p & 0xf0) == 0x40;
    const bool segment = p == 0x26 || p == 0x2e || p == 0x36 || p == 0x3e || p == 0x64 || p == 0x65;
    if (!is_rex && !segment && p != 0x67) a.byte(p);
  }
  const bool had_rex = (z.attributes & ZYDIS_ATTRIB_HAS_REX) != 0;
  unsigned rex = had_rex && raw.rex.W ? 8 : 0;
  if (has_modrm) {
    if (s.reg >= 0 ? extended(s.reg) : (had_rex && raw.rex.R)) rex |= 4;
    if (memory ? extended(s.index) : (had_rex && raw.rex.X)) rex |= 2;
    if (memory ? extended(s.base) : s.rm >= 0 ? extended(s.rm) : (had_rex && raw.rex.B)) rex |= 1;
  } else if (s.opcode >= 0 ? extended(s.opcode) : (had_rex && raw.rex.B)) {
    rex |= 1;
  }
  if (rex || had_rex) a.byte(0x40 | rex);
  switch (z.opcode_map) {
    case ZYDIS_OPCODE_MAP_0F:
      a.byte(0x0f);
      break;
    case ZYDIS_OPCODE_MAP_0F38:
      a.byte(0x0f), a.byte(0x38);
      break;
    case ZYDIS_OPCODE_MAP_0F3A:
      a.byte(0x0f), a.byte(0x3a);
      break;
    default:
      break;
  }
  const unsigned opcode = s.opcode >= 0 ? (z.opcode & ~7u) | (static_cast<unsigned>(s.opcode) & 7u) : z.opcode;
  a.byte(opcode);
  if (has_modrm) {
    put_modrm(a, insn, s, s.reg >= 0 ? static_cast<unsigned>(s.reg) & 7 : raw.modrm.reg);
    put_tail(a, insn);
  } else {
    unsigned start = raw.prefix_count + 1u;
    if (z.opcode_map == ZYDIS_OPCODE_MAP_0F) start += 1;
    if (z.opcode_map == ZYDIS_OPCODE_MAP_0F38 || z.opcode_map == ZYDIS_OPCODE_MAP_0F3A) start += 2;
    for (unsigned i = start; i < z.length; i++) a.byte(insn.raw[i]);
  }
}

}  // namespace veneer::cpu::bt
