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
  m.address_bytes = 8;
  size = 8;
  if (n == ZYDIS_MNEMONIC_CALL && insn.op[0].type != ZYDIS_OPERAND_TYPE_MEMORY &&
      insn.op[0].type != ZYDIS_OPERAND_TYPE_POINTER) {
    m.displacement = -8;
    write = true;
    return true;
  }
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
      // A segment base would move a RIP-relative range out of the page that it is known to be in.
      const bool moved = rip && (m.segment == FS || m.segment == GS);
      const bool whole = near && !moved && (!rip || page_of(low) == page_of(high - 1));
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
        insn.group_at = static_cast<std::int32_t>(low);
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
        group.by_host = !plain_operand(m);
        insn.group_at = static_cast<std::int32_t>(low);
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

/// The leader's check of the whole range: the group's slot gets the page's addend, or the host address of the range's
/// first byte where operands have more to add than a base register that is at hand.
void Translator::check_group(const Insn& insn, const MemoryOperand& m) {
  const Group& group = groups_[insn.group];
  const bool rip = m.base == MemoryOperand::rip;
  flags_before_access(insn);
  MemoryOperand first = m;
  first.displacement = insn.group_low;
  effective_address(first);
  // A RIP-relative range is known to be in one page: one byte stands for it.
  AccessSpec spec{.size = rip ? 1u : static_cast<unsigned>(group.high - group.low), .write = group.write};
  spec.stack = m.segment == SS || m.base == RSP || m.base == RBP;
  spec.to_host = group.by_host;
  spec.keeps_address = group.by_host;
  Cold& cold = check(insn, spec, nullptr);
  cold.kind = ColdKind::Group;
  cold.address = first;
  // The range's check is not the operand's: what its mask or alignment has to say, the ungrouped variant asks.
  cold.descriptor.flags &= static_cast<std::uint8_t>(~AccessDescriptor::MASKED);
  cold.descriptor.flags |= AccessDescriptor::GROUP;
  cold.descriptor.jump_bytes = static_cast<std::uint16_t>(m.displacement - insn.group_low);  // where its own access is
  a_.store_gs(VENEER_BLOCK_OFFSET(group_addend) + 8 * insn.group, group.by_host ? T0 : T1);
  keep_group(insn.group, group.by_host ? T0 : T1);
}

/// Remembers that T0 or T1 has a group's slot.
void Translator::keep_group(int group, Host in) {
  (in == T0 ? group_in_t0_ : group_in_t1_) = group;
  a_.clear_written(in);
}

Translator::HostOperand Translator::group_operand(const Insn& insn, const MemoryOperand& m) {
  const Group& group = groups_[insn.group];
  Host slot = T1;
  if (group_in_t0_ == insn.group && !a_.has_written(T0)) {
    slot = T0;
  } else if (group_in_t1_ != insn.group || a_.has_written(T1)) {
    a_.load_gs(T1, VENEER_BLOCK_OFFSET(group_addend) + 8 * insn.group);
    keep_group(insn.group, T1);
  }
  if (group.by_host) return HostOperand{slot, -1, static_cast<std::int32_t>(insn.group_at - group.low)};
  return HostOperand{host_of(m.base), slot, static_cast<std::int32_t>(m.displacement)};
}

Translator::HostOperand Translator::stack_group_operand(const Insn& insn, std::int32_t displacement) {
  MemoryOperand m;
  m.base = RSP;
  m.segment = SS;
  m.address_bytes = 8;
  m.displacement = displacement;
  if (insn.group_leader) check_group(insn, m);
  return group_operand(insn, m);
}

void Translator::emit_cold_group(Cold& cold) {
  a_.bind(cold.from);
  SideEntry& side = side_[cold.insn - insns_];
  if (side.cold_offset == SideEntry::no_cold) side.cold_offset = static_cast<std::uint16_t>(a_.here() - cold_start_);
  if (cold.preserved) {
    a_.load_gs(rcx, VENEER_BLOCK_OFFSET(rcx_save));
  } else {
    if (cold.address_lost) effective_address(cold.address);
    emit_rebuild(cold.flags);
  }
  // A range that leaves its page needs no C++ to find that out.
  a_.call_gs(VENEER_BLOCK_OFFSET(stub_group));
  std::uint64_t raw;
  std::memcpy(&raw, &cold.descriptor, 8);
  a_.imm64(raw);
  const auto plain = a_.jmp();
  Assembler::Mark to_host = nullptr;
  if (cold.to_host)
    to_host = plain;
  else
    Assembler::patch(plain, cold.resume);
  // Not one plain page: the ungrouped variant goes on from this instruction.
  align_rel32(1);
  const auto rel32 = a_.jmp();
  LinkSite& link = new_link(mode_.grouped());
  link.rel32_offset = static_cast<std::uint32_t>(rel32 - start_);
  link.target = cold.insn->offset;
  link.ungrouped = true;
  link.unlinked_distance = 0;
  a_.bind(rel32);
  ask_for_link(link);
  if (!to_host) return;
  a_.bind(to_host);
  a_.lea(T0, T0, T1, 0, 0);
  a_.jmp_to(cold.resume);
}

}  // namespace veneer::cpu::bt
