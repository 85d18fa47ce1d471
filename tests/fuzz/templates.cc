// Collects templates from a sweep over the encoding space.
#include "templates.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "cpu/x86/encoding_sweep.h"

namespace veneer::fuzz {

bool may_run_natively(const ZydisDecodedInstruction& instruction) {
  switch (instruction.mnemonic) {
    // Not the same twice.
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
    // The host's answer, not the guest's.
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    // Linux answers these itself where UMIP is on.
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SMSW:
    // Enter the kernel or the hypervisor.
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
    // Would change what the child needs.
    case ZYDIS_MNEMONIC_WRPKRU:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_INT1:
      return false;
    case ZYDIS_MNEMONIC_INT:
      return false;
    case ZYDIS_MNEMONIC_MOV:
      // Selectors stay loaded when the case is over.
      return instruction.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || instruction.opcode != 0x8e;
    case ZYDIS_MNEMONIC_POP:
      if (instruction.opcode_map == ZYDIS_OPCODE_MAP_0F) return (instruction.opcode & 0xf7) != 0xa1;
      return instruction.opcode != 0x07 && instruction.opcode != 0x17 && instruction.opcode != 0x1f;
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
      return false;
    default:
      return true;
  }
}

namespace {

bool has_encoding(const cpu::x86::SweepItem& item, ZydisOperandEncoding encoding) {
  for (unsigned i = 0; i < item.instruction.operand_count; i++)
    if (item.operands[i].encoding == encoding) return true;
  return false;
}

Template dissect(const cpu::x86::SweepItem& item) {
  const ZydisDecodedInstruction& z = item.instruction;
  Template t{};
  t.mnemonic = z.mnemonic;
  t.rex_w = z.attributes & ZYDIS_ATTRIB_HAS_REX && z.raw.rex.W;
  t.has_modrm = z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
  t.memory = t.has_modrm && z.raw.modrm.mod != 3;
  t.reg_free = has_encoding(item, ZYDIS_OPERAND_ENCODING_MODRM_REG);
  t.rm_free = has_encoding(item, ZYDIS_OPERAND_ENCODING_MODRM_RM);
  t.vvvv_free = has_encoding(item, ZYDIS_OPERAND_ENCODING_NDSNDD);
  for (unsigned i = 0; i < z.operand_count_visible; i++)
    if (item.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && item.operands[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
      t.vsib = true;
  t.relative = z.raw.imm[0].size && z.raw.imm[0].is_relative;
  t.immediate_bytes = static_cast<std::uint8_t>((z.raw.imm[0].size + z.raw.imm[1].size) / 8);
  unsigned front = 0;  // bytes before ModRM or whatever follows the opcode
  if (t.has_modrm) {
    front = z.raw.modrm.offset;
    t.modrm = item.bytes[front];
  } else {
    t.moffs = z.raw.disp.size != 0;
    front = z.length - t.immediate_bytes - z.raw.disp.size / 8u;
  }
  const bool vex = z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  const bool evex = z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
  t.map = vex ? Map::Vex : evex ? Map::Evex : Map::Legacy;
  if (vex || evex) {
    std::copy_n(item.bytes.begin() + 1, vex ? 2 : 3, t.payload.begin());
    t.opcode[t.opcode_count++] = item.bytes[front - 1];
    return t;
  }
  unsigned at = 0;
  for (; at < front; at++) {
    const std::uint8_t byte = item.bytes[at];
    if (byte != 0x66 && byte != 0xf2 && byte != 0xf3 && byte != 0xf0) break;
    t.prefixes[t.prefix_count++] = byte;
  }
  if (t.rex_w) at++;
  while (at < front) t.opcode[t.opcode_count++] = item.bytes[at++];
  return t;
}

/// What makes two templates different once everything free is random.
auto identity(const Template& t) {
  const auto modrm =
      static_cast<std::uint8_t>(t.has_modrm ? (t.memory ? 0 : t.modrm & 0xc0) | (t.reg_free ? 0 : t.modrm & 0x38) |
                                                  (t.memory || t.rm_free ? 0 : t.modrm & 7)
                                            : 0);
  std::array<std::uint8_t, 3> payload = t.payload;
  if (t.map == Map::Vex && t.vvvv_free) payload[1] |= 0x78;
  if (t.map == Map::Evex) {
    if (t.vvvv_free) payload[1] |= 0x78;
    payload[2] &= 0x70;
  }
  return std::tuple(t.map, t.memory, t.has_modrm, t.rex_w, modrm, t.prefix_count, t.prefixes, t.opcode, payload);
}

}  // namespace

std::vector<RowTemplates> collect_templates(const ZydisDecoder& decoder, const cpu::x86::FeatureGate& gate) {
  constexpr std::uint8_t rm_sib = 4;  // gathers and scatters decode only with a SIB byte
  std::map<ZydisMnemonic, std::map<decltype(identity({})), Template>> found;
  const auto visit = [&](const cpu::x86::SweepItem& item) {
    if (!gate.offered(item.instruction) || !may_run_natively(item.instruction)) return;
    if (cpu::x86::row(item.instruction.mnemonic).treatment == cpu::x86::Treatment::Undefined) return;
    const Template t = dissect(item);
    found[t.mnemonic].emplace(identity(t), t);
  };
  cpu::x86::sweep_encodings(decoder, rm_sib, visit);
  std::vector<RowTemplates> rows;
  for (const auto& [mnemonic, forms] : found) {
    RowTemplates row{mnemonic, {}};
    for (const auto& [key, form] : forms) row.forms.push_back(form);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace veneer::fuzz
