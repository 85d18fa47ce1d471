// System instructions that a kernel runs at every entry, switch and copy: carried out where they stand.
//
// What these would cost as callouts is a fifth of a pipe's way through a kernel (docs/performance.md). Whatever does
// not fit here (another privilege, a fault, shadow mode) stays with the routine in C++.
#include <cstddef>

#include "cpu/bt/translator.h"

namespace veneer::cpu::bt {

namespace {
constexpr auto rflags_offset = static_cast<std::int32_t>(offsetof(ArchState, rflags));
constexpr auto segments_offset = static_cast<std::int32_t>(offsetof(ArchState, segments));
constexpr auto selector_offset = static_cast<std::int32_t>(offsetof(Segment, selector));
}  // namespace

/// True when STAC or CLAC leads to code of another regime, and that can be seen from here: under SMAP a supervisor's
/// regime is RFLAGS.AC.
bool Translator::changes_regime(const Insn& insn) const {
  const Regime from = mode_.regime();
  const bool stac = insn.mnemonic() == ZYDIS_MNEMONIC_STAC && from == Regime::Supervisor;
  const bool clac = insn.mnemonic() == ZYDIS_MNEMONIC_CLAC && from == Regime::Override;
  return (stac || clac) && mode_.has(Mode::SMAP) && mode_.has(Mode::CODE64) && !engine_.options().shadow &&
         !mode_.has(Mode::CPL3 | Mode::CPL12 | Mode::SINGLE);
}

/// RFLAGS.AC and the mode change together, and the code behind is another block's. What is on the return stack would
/// lead back to blocks of this mode.
void Translator::emit_change_regime(const Insn& insn) {
  const bool stac = insn.mnemonic() == ZYDIS_MNEMONIC_STAC;
  const Mode behind = mode_.grouped().with(stac ? Regime::Override : Regime::Supervisor);
  settle_flags();
  a_.load_gs(T1, VENEER_BLOCK_OFFSET(state));
  a_.load64(T0, T1, rflags_offset);
  constexpr auto ac = static_cast<std::int32_t>(RFLAGS_AC);
  a_.lea(T0, T0, stac ? ac : -ac);
  a_.store64(T1, rflags_offset, T0);
  a_.load_gs(T1, VENEER_BLOCK_OFFSET(mode));
  a_.mov_imm32(T0, behind.bits);
  a_.store32(T1, 0, T0);
  a_.load_gs(rsp, VENEER_BLOCK_OFFSET(return_base));
  closed_ = true;
  if (in_this_page(insn.next_offset(), nullptr)) {
    align_rel32(1);
    return linkable_jump(a_.jmp(), insn.next_offset(), behind);
  }
  address_to_t0(insn.next_offset());
  a_.jmp_gs(VENEER_BLOCK_OFFSET(stub_lookup));
}

/// MOV r, Sreg: as wide as the operand; 16 bits leave the others alone.
bool Translator::emit_read_segment(const Insn& insn) {
  const unsigned segment = insn.z.raw.modrm.reg;
  bool high;
  if (insn.op[0].type != ZYDIS_OPERAND_TYPE_REGISTER || insn.op[1].type != ZYDIS_OPERAND_TYPE_REGISTER ||
      ZydisRegisterGetClass(insn.op[1].reg.value) != ZYDIS_REGCLASS_SEGMENT || segment >= segment_count ||
      insn.z.operand_width == 16)
    return false;
  const int guest = gpr_number(insn.op[0].reg.value, high);
  if (guest < 0) return false;
  settle_flags();
  a_.load_gs(T1, VENEER_BLOCK_OFFSET(state));
  a_.load_zx16(T0, T1, segments_offset + static_cast<std::int32_t>(segment * sizeof(Segment)) + selector_offset);
  give(static_cast<unsigned>(guest), T0);
  return true;
}

bool Translator::emit_supervisor(const Insn& insn) {
  const bool supervisor = !mode_.has(Mode::CPL3 | Mode::CPL12 | Mode::REAL | Mode::VM86);
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_MOV:
      return emit_read_segment(insn);
    case ZYDIS_MNEMONIC_SWAPGS:
      if (!supervisor) return false;
      settle_flags();
      a_.load_gs(T0, VENEER_BLOCK_OFFSET(segment_base) + 8 * GS);
      a_.load_gs(T1, VENEER_BLOCK_OFFSET(kernel_gs_base));
      a_.store_gs(VENEER_BLOCK_OFFSET(segment_base) + 8 * GS, T1);
      a_.store_gs(VENEER_BLOCK_OFFSET(kernel_gs_base), T0);
      return true;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE: {
      bool high;
      const int guest = gpr_number(insn.op[0].reg.value, high);
      if (!mode_.has(Mode::FSGSBASE) || guest < 0) return false;
      settle_flags();
      a_.load_gs(T0, VENEER_BLOCK_OFFSET(segment_base) + 8 * (insn.mnemonic() == ZYDIS_MNEMONIC_RDGSBASE ? GS : FS));
      if (insn.z.operand_width != 64) a_.mov32(T0, T0);
      give(static_cast<unsigned>(guest), T0);
      return true;
    }
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC:
      if (changes_regime(insn)) {
        emit_change_regime(insn);
        return true;
      }
      // AC is as it should be, by the mode: an interrupt's CLAC mostly. Without SMAP nobody knows.
      return supervisor && mode_.has(Mode::SMAP) &&
             (mode_.regime() == Regime::Override) == (insn.mnemonic() == ZYDIS_MNEMONIC_STAC);
    default:
      return false;
  }
}

}  // namespace veneer::cpu::bt
