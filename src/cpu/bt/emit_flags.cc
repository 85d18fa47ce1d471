// Arithmetic flags across memory checks: recipes, saved images, and when the hardware flags must be right.
//
// A check clobbers the flags; every fault must show them exactly (traps.md 1). At each access one of three holds:
// they can be made again by repeating their producer (Recipe), they were saved once (Image), or the check preserves
// them (emit_memory.cc).
#include "cpu/bt/translator.h"

namespace veneer::cpu::bt {
namespace {

bool all_resident(std::uint32_t regs) { return (regs & (1u << R10 | 1u << R11 | 1u << R14 | 1u << R15)) == 0; }

}  // namespace

bool Translator::recipe_for(const Insn& insn, std::uint32_t& regs) {
  regs = 0;
  const auto& z = insn.z;
  bool high0 = false, high1 = false;
  auto reg = [&](unsigned i, bool& high) {
    return insn.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_number(insn.op[i].reg.value, high) : -1;
  };
  switch (z.mnemonic) {
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST: {
      const int d = reg(0, high0);
      if (d < 0) return false;
      regs = 1u << d;
      if (insn.op[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
        const int r = reg(1, high1);
        if (r < 0) return false;
        regs |= 1u << r;
      } else if (insn.op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        return false;
      }
      return all_resident(regs);
    }
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR: {
      // The result tells all: TEST r,r clears CF, OF and AF as these do.
      const int d = reg(0, high0);
      if (d < 0 || high0 || z.operand_width < 32) return false;
      regs = 1u << d;
      return all_resident(regs);
    }
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB: {
      const int d = reg(0, high0);
      if (d < 0 || z.operand_width < 32) return false;
      regs = 1u << d;
      if (insn.op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        if (insn.op[1].imm.value.s == INT32_MIN) return false;
        return all_resident(regs);
      }
      const int r = reg(1, high1);
      if (r < 0 || r == d) return false;
      regs |= 1u << r;
      return all_resident(regs);
    }
    default:
      return false;
  }
}

void Translator::emit_recipe(const Insn& insn) {
  bool high;
  const int d = gpr_number(insn.op[0].reg.value, high);
  const bool wide = insn.z.operand_width == 64;
  const Host hd = host_of(static_cast<unsigned>(d));
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
      emit_operation(insn, nullptr);
      return;
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
      a_.test(hd, hd, wide);
      return;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB: {
      // Undo into T2, then do it again there.
      const bool add = insn.mnemonic() == ZYDIS_MNEMONIC_ADD;
      if (insn.op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        const auto v = static_cast<std::int32_t>(insn.op[1].imm.value.s);
        a_.lea(T2, hd, add ? -v : v, wide);
        a_.alu_imm32(add ? Assembler::Alu::Add : Assembler::Alu::Cmp, T2, v, wide);
        return;
      }
      const int r = gpr_number(insn.op[1].reg.value, high);
      const Host hr = host_of(static_cast<unsigned>(r));
      if (add) {
        a_.mov(T2, hd);
        a_.alu(Assembler::Alu::Sub, T2, hr, wide);
        a_.alu(Assembler::Alu::Add, T2, hr, wide);
      } else {
        a_.lea(T2, hd, hr, 0, 0, wide);
        a_.alu(Assembler::Alu::Cmp, T2, hr, wide);
      }
      return;
    }
    default:
      VENEER_ASSERT(false && "no recipe");
  }
}

void Translator::save_image() {
  a_.mov(T2, rax);
  a_.lahf();
  a_.seto_al();
  a_.store_gs16(VENEER_BLOCK_OFFSET(flags_image), rax);
  a_.mov(rax, T2);
}

void Translator::restore_image() {
  a_.mov(T2, rax);
  a_.load_gs16(rax, VENEER_BLOCK_OFFSET(flags_image));
  a_.add_al(0x7f);  // OF again from SETO's 0 or 1
  a_.sahf();
  a_.mov(rax, T2);
}

void Translator::emit_rebuild(const Flags& flags) {
  if (flags.at == FlagsAt::Recipe) emit_recipe(*flags.recipe);
  if (flags.at == FlagsAt::Image) restore_image();
}

/// Makes the hardware flags right. Uses T2 at most: an address in T0 and an addend in T1 stay.
void Translator::materialise() {
  if (flags_.at == FlagsAt::Hardware) return;
  emit_rebuild(flags_);
  flags_.at = FlagsAt::Hardware;
}

/// The same for an instruction that may change registers which the recipe needs.
void Translator::settle_flags() {
  materialise();
  flags_.recipe = nullptr;
}

unsigned Translator::accesses_until_flags_change(const Insn& insn, bool& ends_in_writer) const {
  unsigned n = 0;
  ends_in_writer = false;
  for (const Insn* i = &insn; i < insns_ + count_; i++) {
    const unsigned checks = i->group >= 0 && !i->group_leader ? 0 : i->accesses;
    if (i->reads_flags || i->row.treatment == x86::Treatment::CallOut) {
      n += checks;
      return n;
    }
    n += checks;
    if (i->writes_all_flags) {
      ends_in_writer = true;
      return n;
    }
    if (i->writes_some_flags) return n;
  }
  return n;
}

void Translator::flags_before_access(const Insn& insn) {
  if (flags_.at != FlagsAt::Hardware) return;
  if (flags_.recipe) {
    flags_.at = FlagsAt::Recipe;
    return;
  }
  if (flags_.image_valid) {
    flags_.at = FlagsAt::Image;
    return;
  }
  bool writer;
  const unsigned n = accesses_until_flags_change(insn, writer);
  if ((n >= 2 && writer) || n >= 3) {
    save_image();
    flags_.at = FlagsAt::Image;
    flags_.image_valid = true;
  }
}

void Translator::flags_before_stack_access(const Insn& insn) {
  drop_lost_recipe(insn);
  flags_before_access(insn);
}

void Translator::drop_lost_recipe(const Insn& insn) {
  if (flags_.recipe && (insn.gpr_written & flags_.recipe_regs)) settle_flags();
}

void Translator::note_native_fault(const Insn& insn) {
  side_[&insn - insns_].flags = flags_.at;
  // Grouped operands of 16 bytes and more may be misaligned: that too is a native fault.
  const bool may = insn.native_fault || insn.group >= 0;
  if (!may || flags_.at != FlagsAt::Recipe) return;
  VENEER_ASSERT(cold_count_ < max_cold);
  Cold& cold = cold_[cold_count_++];
  cold = Cold{};
  cold.kind = ColdKind::NativeFault;
  cold.insn = &insn;
  cold.flags = flags_;
}

bool Translator::flags_need_hardware(const Insn& insn) const {
  if (flags_.at == FlagsAt::Hardware) return false;
  if (insn.reads_flags || (insn.writes_some_flags && !insn.writes_all_flags)) return true;
  if (flags_.at == FlagsAt::Recipe) {
    // The recipe is about to lose an operand: keep the flags if anybody may still look at them.
    const bool later = !insn.writes_all_flags && (&insn + 1 >= insns_ + count_ || (&insn + 1)->flags_needed);
    if ((insn.gpr_written & flags_.recipe_regs) && later) return true;
  }
  return false;
}

void Translator::flags_after(const Insn& insn) {
  if (insn.writes_some_flags) {
    flags_ = Flags{};
    std::uint32_t regs;
    if (insn.writes_all_flags && recipe_for(insn, regs)) {
      flags_.recipe = &insn;
      flags_.recipe_regs = regs;
    }
    return;
  }
  if (flags_.recipe && (insn.gpr_written & flags_.recipe_regs)) {
    // flags_need_hardware() saw to it that nobody needs them, or they are in hardware now.
    flags_.recipe = nullptr;
    if (flags_.at == FlagsAt::Recipe) flags_.at = FlagsAt::Hardware;
  }
}

}  // namespace veneer::cpu::bt
