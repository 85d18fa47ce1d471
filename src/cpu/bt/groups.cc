// Access groups: accesses off one base in one page share a check (docs/engine.md, "Access groups").
//
// A block's accesses whose base and index registers are unchanged, or changed by known constants, form a group when
// they lie close together. The first of them checks the whole range and keeps the page's addend in the vCPU block;
// the others add it and are done. Where the range is not all in one plain page, the block's ungrouped variant takes
// over at that instruction: so a group can only be faster, never wrong.
#include <algorithm>
#include <cstdint>

#include "cpu/bt/translator.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::int64_t widest_group = 240;

/// Emitted instructions that leave registers, mappings and blocks alone, or change the stack pointer as PUSH and POP.
bool keeps_groups(const Insn& insn) {
  if (insn.undefined) return false;
  if (insn.row.treatment == x86::Treatment::Native)
    return insn.row.form != x86::AddressForm::Vsib && insn.row.form != x86::AddressForm::MaskMov;
  if (insn.row.treatment != x86::Treatment::Emit) return false;
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
      return insn.op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
             ZydisRegisterGetClass(insn.op[0].reg.value) != ZYDIS_REGCLASS_SEGMENT;
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR64:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_RET:
      return true;
    default:
      return insn.z.meta.category == ZYDIS_CATEGORY_COND_BR;
  }
}

/// A constant that the instruction adds to a 64-bit register, and nothing else it writes there.
bool constant_change(const Insn& insn, unsigned reg, std::int64_t& by) {
  bool high;
  const auto& op = insn.op;
  const auto m = insn.mnemonic();
  if (insn.z.operand_width != 64) return false;
  if (reg == RSP && (m == ZYDIS_MNEMONIC_PUSH || m == ZYDIS_MNEMONIC_POP)) {
    if (m == ZYDIS_MNEMONIC_POP && op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
        gpr_number(op[0].reg.value, high) == RSP)
      return false;
    by = m == ZYDIS_MNEMONIC_PUSH ? -8 : 8;
    return true;
  }
  if (op[0].type != ZYDIS_OPERAND_TYPE_REGISTER || gpr_number(op[0].reg.value, high) != static_cast<int>(reg))
    return false;
  switch (m) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
      if (op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return false;
      by = m == ZYDIS_MNEMONIC_ADD ? op[1].imm.value.s : -op[1].imm.value.s;
      return true;
    case ZYDIS_MNEMONIC_INC:
      by = 1;
      return true;
    case ZYDIS_MNEMONIC_DEC:
      by = -1;
      return true;
    case ZYDIS_MNEMONIC_LEA:
      if (op[1].mem.base != op[0].reg.value || op[1].mem.index != ZYDIS_REGISTER_NONE || insn.z.address_width != 64)
        return false;
      by = op[1].mem.disp.has_displacement ? op[1].mem.disp.value : 0;
      return true;
    default:
      return false;
  }
}

/// The access of an instruction that can join a group, if it has one.
bool groupable(const Insn& insn, MemoryOperand& m, unsigned& size, bool& write) {
  if (insn.undefined) return false;
  const auto n = insn.mnemonic();
  if (insn.row.treatment == x86::Treatment::Native && insn.row.form == x86::AddressForm::ModRm && insn.memory_op >= 0) {
    if (x86::suppresses_faults(insn.z, insn.row) || insn.z.address_width != 64) return false;
    m = memory_operand(insn);
    size = insn.op[insn.memory_op].size / 8u;
    write = insn.row.access != x86::MemAccess::Read;
    return size > 0 && size <= 64;
  }
  if (insn.row.treatment != x86::Treatment::Emit || insn.z.operand_width != 64) return false;
  m = MemoryOperand{};
  m.base = RSP;
  m.segment = SS;
  size = 8;
  if (n == ZYDIS_MNEMONIC_PUSH && insn.op[0].type != ZYDIS_OPERAND_TYPE_MEMORY &&
      (insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
       ZydisRegisterGetClass(insn.op[0].reg.value) == ZYDIS_REGCLASS_GPR64)) {
    m.displacement = -8;
    write = true;
    return true;
  }
  bool high;
  if (n == ZYDIS_MNEMONIC_RET || (n == ZYDIS_MNEMONIC_POP && insn.op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                                  ZydisRegisterGetClass(insn.op[0].reg.value) == ZYDIS_REGCLASS_GPR64 &&
                                  gpr_number(insn.op[0].reg.value, high) != RSP)) {
    write = false;
    return true;
  }
  return false;
}

bool same_base(const MemoryOperand& a, const MemoryOperand& b) {
  const auto segment = [](const MemoryOperand& m) { return m.segment == FS || m.segment == GS ? m.segment : 0; };
  return a.base == b.base && a.index == b.index && (a.index == MemoryOperand::none || a.scale_log2 == b.scale_log2) &&
         segment(a) == segment(b);
}

std::int64_t page_of(std::int64_t offset) { return offset >> page_shift; }

}  // namespace

void Translator::plan_groups() {
  group_count_ = 0;
  if (!mode_.has(Mode::CODE64) || mode_.has(Mode::SINGLE | Mode::UNGROUPED | Mode::ALIGN_CHECK)) return;
  std::uint32_t epoch[gpr_count] = {};
  std::int64_t delta[gpr_count] = {};
  for (unsigned i = 0; i < count_; i++) {
    Insn& insn = insns_[i];
    MemoryOperand m;
    unsigned size;
    bool write;
    if (groupable(insn, m, size, write)) {
      const bool rip = m.base == MemoryOperand::rip;
      const bool based = m.base < gpr_count;
      const std::int64_t low = m.displacement + (based ? delta[m.base] : 0), high = low + size;
      const std::uint32_t base_epoch = based ? epoch[m.base] : 0;
      const std::uint32_t index_epoch = m.index < gpr_count ? epoch[m.index] : 0;
      // The emitted sums must fit a 32-bit displacement.
      const bool near = low > INT32_MIN + 8192 && high < INT32_MAX - 8192;
      const bool whole = near && (!rip || page_of(low) == page_of(high - 1));
      for (unsigned g = 0; g < group_count_ && whole; g++) {
        Group& group = groups_[g];
        if (!group.open || !same_base(group.key, m) || group.base_epoch != base_epoch ||
            group.index_epoch != index_epoch || (write && !group.write))
          continue;
        const std::int64_t joint_low = std::min(group.low, low), joint_high = std::max(group.high, high);
        if (rip ? page_of(joint_low) != page_of(joint_high - 1) : joint_high - joint_low > widest_group) continue;
        group.low = joint_low;
        group.high = joint_high;
        group.members++;
        insn.group = static_cast<std::int8_t>(g);
        break;
      }
      if (insn.group < 0 && whole && (based || rip) && group_count_ < max_groups) {
        Group& group = groups_[group_count_];
        group = Group{};
        group.key = m;
        group.base_epoch = base_epoch;
        group.index_epoch = index_epoch;
        group.write = write;
        group.low = low;
        group.high = high;
        group.members = 1;
        group.leader = static_cast<std::uint8_t>(i);
        group.leader_delta = based ? delta[m.base] : 0;
        insn.group = static_cast<std::int8_t>(group_count_++);
      }
    }
    if (!keeps_groups(insn))
      for (unsigned g = 0; g < group_count_; g++) groups_[g].open = false;
    for (unsigned r = 0; r < gpr_count; r++) {
      if (!((insn.gpr_written >> r) & 1)) continue;
      std::int64_t by;
      // The index may not change at all: only a base's changes are followed.
      if (constant_change(insn, r, by)) {
        delta[r] += by;
        for (unsigned g = 0; g < group_count_; g++)
          if (groups_[g].key.index == r) groups_[g].open = false;
      } else {
        epoch[r]++;
        delta[r] = 0;
      }
    }
  }
  // A group of one is an ordinary access.
  for (unsigned i = 0; i < count_; i++) {
    Insn& insn = insns_[i];
    if (insn.group < 0) continue;
    const Group& group = groups_[insn.group];
    if (group.members < 2) {
      insn.group = -1;
    } else if (group.leader == i) {
      insn.group_leader = true;
      insn.group_low = static_cast<std::int32_t>(group.low - group.leader_delta);
    }
  }
}

/// The leader's check of the whole range: the addend goes to the group's slot; T1 has it too. For a RIP-relative group
/// the slot holds the host address that stands for the start of this page instead, so that members need no base.
void Translator::check_group(const Insn& insn, const MemoryOperand& m) {
  const Group& group = groups_[insn.group];
  const bool rip = m.base == MemoryOperand::rip;
  flags_before_access(insn);
  MemoryOperand first = m;
  first.displacement = insn.group_low;
  effective_address(first);
  // A RIP-relative range is known to be in one page: one byte stands for it.
  const auto size = rip ? 1u : static_cast<unsigned>(group.high - group.low);
  const bool stack = m.segment == SS || m.base == RSP || m.base == RBP;
  Cold& cold = check(insn, {.size = size, .write = group.write, .read = true, .stack = stack}, nullptr);
  cold.kind = ColdKind::Group;
  // The range's check is not the operand's: what its mask or alignment has to say, the ungrouped variant asks.
  cold.descriptor.flags &= static_cast<std::uint8_t>(~AccessDescriptor::MASKED);
  cold.descriptor.flags |= AccessDescriptor::GROUP;
  if (m.segment == FS || m.segment == GS) cold.descriptor.segment = m.segment & 0xf;
  cold.descriptor.jump_bytes = static_cast<std::uint16_t>(m.displacement - insn.group_low);  // where its own access is
  if (rip) a_.lea(T1, T1, T0, 0, -insn.group_low);
  a_.store_gs(VENEER_BLOCK_OFFSET(group_addend) + 8 * insn.group, T1);
}

Translator::HostOperand Translator::group_operand(const Insn& insn, const MemoryOperand& m) {
  if (!insn.group_leader) a_.load_gs(T1, VENEER_BLOCK_OFFSET(group_addend) + 8 * insn.group);
  const auto displacement = static_cast<std::int32_t>(m.displacement);
  if (m.base == MemoryOperand::rip) return HostOperand{T1, -1, displacement};
  if (m.index == MemoryOperand::none && m.segment != FS && m.segment != GS)
    return HostOperand{use(m.base, T0), T1, displacement};
  // T0 is free; T1 is the addend, so memory-homed indexes go through T2.
  const Host base = use(m.base, T0);
  if (m.index != MemoryOperand::none) {
    const Host index = use(m.index, T2);
    a_.lea(T0, base, index, m.scale_log2, displacement);
  } else {
    a_.lea(T0, base, displacement);
  }
  if (m.segment == FS || m.segment == GS) {
    a_.load_gs(T2, VENEER_BLOCK_OFFSET(segment_base) + 8 * m.segment);
    a_.lea(T0, T0, T2, 0, 0);
  }
  return HostOperand{};
}

Translator::HostOperand Translator::stack_group_operand(const Insn& insn, std::int32_t displacement) {
  MemoryOperand m;
  m.base = RSP;
  m.segment = SS;
  m.displacement = displacement;
  if (insn.group_leader) check_group(insn, m);
  return group_operand(insn, m);
}

void Translator::emit_cold_group(Cold& cold) {
  a_.bind(cold.from);
  SideEntry& side = side_[cold.insn - insns_];
  if (side.cold_offset == SideEntry::no_cold) side.cold_offset = static_cast<std::uint16_t>(a_.here() - cold_start_);
  // A range that leaves its page needs no C++ to find that out; flags are not touched yet. RIP-relative ones never do.
  const unsigned size = cold.descriptor.size;
  Assembler::Mark crosses = nullptr;
  if (size > 1) {
    if (!cold.preserved) a_.store_gs(VENEER_BLOCK_OFFSET(rcx_save), rcx);
    a_.mov_imm32(T2, 64 - page_shift);
    a_.shlx(T1, T0, T2);
    a_.shrx(T1, T1, T2);
    a_.lea(T1, T1, static_cast<std::int32_t>(size) - 1);
    a_.mov_imm32(T2, page_shift);
    a_.shrx(rcx, T1, T2);
    const auto inside = a_.jrcxz();
    crosses = a_.jmp();
    a_.bind8(inside);
    a_.load_gs(rcx, VENEER_BLOCK_OFFSET(rcx_save));
  } else if (cold.preserved) {
    a_.load_gs(rcx, VENEER_BLOCK_OFFSET(rcx_save));
  }
  if (!cold.preserved) emit_rebuild(cold.flags);
  a_.call_gs(VENEER_BLOCK_OFFSET(stub_memory));
  std::uint64_t raw;
  std::memcpy(&raw, &cold.descriptor, 8);
  a_.imm64(raw);
  a_.jmp_to(cold.resume);
  const auto not_plain = a_.jmp();
  if (crosses) {
    a_.bind(crosses);
    a_.load_gs(rcx, VENEER_BLOCK_OFFSET(rcx_save));
    if (!cold.preserved) emit_rebuild(cold.flags);
  }
  a_.bind(not_plain);
  // Not one plain page: the ungrouped variant goes on from this instruction.
  align_rel32(1);
  const auto rel32 = a_.jmp();
  LinkSite& link = links_[link_count_++];
  link.owner = block_;
  link.rel32_offset = static_cast<std::uint32_t>(rel32 - start_);
  link.target = cold.insn->offset;
  link.ungrouped = true;
  link.unlinked_distance = 0;
  a_.bind(rel32);
  address_to_t0(link.target);
  a_.mov_imm(T1, reinterpret_cast<std::uint64_t>(&link));
  a_.jmp_gs(VENEER_BLOCK_OFFSET(stub_link));
}

}  // namespace veneer::cpu::bt
