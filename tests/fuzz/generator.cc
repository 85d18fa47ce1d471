// Makes snippets.
#include "generator.h"

#include <cstring>

#include "cpu/x86/decode_corrections.h"
#include "encode.h"
#include "roles.h"
#include "shapes.h"
#include "values.h"

namespace veneer::fuzz {

using cpu::x86::Treatment;

namespace {

ZydisDecoder decoder_for(CodeWidth width, const cpu::CpuidPolicy& policy) {
  switch (width) {
    case CodeWidth::Bits16:
      return cpu::x86::make_decoder(ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16, policy);
    case CodeWidth::Bits32:
      return cpu::x86::make_decoder(ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32, policy);
    case CodeWidth::Bits64:
      break;
  }
  return cpu::x86::make_decoder(ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, policy);
}

}  // namespace

Generator::Generator(const cpu::CpuidPolicy& policy, CodeWidth width, const GeneratorOptions& options)
    : width_(width),
      decoder_(decoder_for(width, policy)),
      gate_(policy),
      options_(options),
      components_(policy.xcr0_mask()),
      rows_(collect_templates(decoder_, gate_)) {
  for (std::size_t i = 0; i < rows_.size(); i++)
    if (rows_[i].forms.front().map == Map::Legacy && cpu::x86::row(rows_[i].mnemonic).fp == cpu::x86::FpClass::None)
      integer_rows_.push_back(i);
}

const RowTemplates& Generator::choose_row(Random& random) const {
  return random.coin() ? rows_[random.pick(integer_rows_)] : random.pick(rows_);
}

namespace {

/// Zen 4 reads a stale RSP, without the pushes and pops just before, where EVEX.X is set, which has no meaning with a
/// general register (mask.h).
bool reads_stale_rsp(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands) {
  if (z.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX || z.raw.modrm.mod != 3 || z.raw.evex.X) return false;
  for (unsigned i = 0; i < z.operand_count_visible; i++)
    if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER && operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM &&
        ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operands[i].reg.value) == ZYDIS_REGISTER_RSP)
      return true;
  return false;
}

bool on_stack_or_string(const ZydisDecodedInstruction& z) {
  switch (z.meta.category) {
    case ZYDIS_CATEGORY_STRINGOP:
    case ZYDIS_CATEGORY_PUSH:
    case ZYDIS_CATEGORY_POP:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool Generator::acceptable(Random& random, const RegisterRoles& roles, const Template& form,
                           const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands) const {
  if (!may_run_natively(z) || !gate_.offered(z)) return false;
  if (cpu::x86::classify(z, operands).treatment == Treatment::Undefined) return false;
  if (z.mnemonic != form.mnemonic && random.percent(80)) return false;
  if (reads_stale_rsp(z, operands)) return false;
  for (unsigned i = 0; i < z.operand_count; i++) {
    const ZydisDecodedOperand& operand = operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !(operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) continue;
    const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operand.reg.value);
    if (ZydisRegisterGetClass(whole) != ZYDIS_REGCLASS_GPR64) continue;
    if ((roles.reserved >> ZydisRegisterGetId(whole)) & 1) return false;
    if (!((roles.kept >> ZydisRegisterGetId(whole)) & 1)) continue;
    if (operand.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT && on_stack_or_string(z)) continue;
    if (random.percent(95)) return false;
  }
  return true;
}

bool Generator::encode(Random& random, const RegisterRoles& roles, const Template& form, Instruction& out) const {
  Encoded encoded = encode_randomly(random, roles, form, width_);
  ZydisDecodedInstruction z;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  constexpr std::size_t longest = 15;
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder_, encoded.bytes.data(), longest, &z, operands))) return false;
  if (z.mnemonic == ZYDIS_MNEMONIC_PAUSE)  // which may be XCHG
    cpu::x86::correct_decoding(decoder_, encoded.bytes.data(), z, operands);
  if (!acceptable(random, roles, form, z, operands)) return false;
  if (form.moffs) {
    const bool low = width_ != CodeWidth::Bits64 || z.raw.disp.size < 64;
    const std::uint64_t address = random_address(random, low) - data_segment_base(width_);
    std::memcpy(encoded.bytes.data() + z.raw.disp.offset, &address, z.raw.disp.size / 8u);
  }
  out.length = z.length;
  std::memcpy(out.bytes.data(), encoded.bytes.data(), z.length);
  out.mnemonic = z.mnemonic;
  if (encoded.rip_relative && z.raw.disp.size == 32) {
    out.displacement_at = z.raw.disp.offset;
    out.rip_target = random_address(random, true);
  }
  if (z.raw.imm[0].is_relative && z.raw.imm[0].size) {
    out.branch_at = z.raw.imm[0].offset;
    out.branch_bytes = z.raw.imm[0].size / 8;
    out.branch_to = 0;  // the caller chooses
  }
  return true;
}

Snippet Generator::make(std::uint64_t seed, std::uint64_t number) const {
  Random random(seed, number);
  Snippet snippet;
  snippet.width = width_;
  random_vectors(random, components_, snippet.start);
  const RegisterRoles roles = random_registers(random, width_, snippet.start);
  if (options_.alignment_check && random.percent(10)) snippet.start.rflags |= cpu::RFLAGS_AC;
  fill_vector_index(random, roles, components_, snippet.start);
  snippet.memory_start = static_cast<std::uint32_t>(random.next()) & ~7u;
  const unsigned count = random.percent(40) ? 1 : 1 + random.below(options_.max_instructions);
  const unsigned must = random.below(count);
  while (snippet.instructions.size() < count) {
    const RowTemplates* row = &choose_row(random);
    if (options_.only != ZYDIS_MNEMONIC_INVALID && snippet.instructions.size() == must)
      for (const RowTemplates& candidate : rows_)
        if (candidate.mnemonic == options_.only) row = &candidate;
    const Template& form = random.pick(row->forms);
    Instruction instruction;
    for (unsigned attempt = 0; attempt < 30; attempt++) {
      if (!encode(random, roles, form, instruction)) continue;
      snippet.instructions.push_back(instruction);
      break;
    }
  }
  for (unsigned i = 0; i < count; i++)
    if (snippet.instructions[i].branch_to >= 0)
      snippet.instructions[i].branch_to = static_cast<int>(i + 1 + random.below(count - i));
  give_shape(random, roles, snippet);
  const unsigned where = random.below(100);
  snippet.placement = where < 60   ? Placement::Anywhere
                      : where < 85 ? Placement::AcrossPages
                      : where < 93 ? Placement::BeforePageEnd
                                   : Placement::AtEndOfCode;
  snippet.position = static_cast<std::uint32_t>(random.next());
  return snippet;
}

}  // namespace veneer::fuzz
