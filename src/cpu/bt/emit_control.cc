// Control flow: direct jumps chained inside a page, everything else through the jump cache (engine.md 5).
#include "cpu/bt/translator.h"

namespace veneer::cpu::bt {

/// A load through the poll pointer: faults when a kick has taken it away. Changes no flags. Uses T1.
void Translator::poll() {
  a_.load_gs(T1, VENEER_BLOCK_OFFSET(poll));
  a_.load32(T1, T1);
  if (!engine_.options().deterministic) return;
  // The same for a turn that is over: what it may still do is the distance to a page that faults.
  a_.load_gs(T1, VENEER_BLOCK_OFFSET(credit));
  a_.load32(T1, T1);
}

/// Deterministic mode: the instructions from this one to the next that may leave the line are counted. Changes no
/// flags. Uses T1.
void Translator::count_instructions(unsigned first) {
  if (first > 0 && insns_[first - 1].z.meta.category != ZYDIS_CATEGORY_COND_BR) return;
  unsigned end = first + 1;
  while (end < count_ && insns_[end - 1].z.meta.category != ZYDIS_CATEGORY_COND_BR) end++;
  a_.load_gs(T1, VENEER_BLOCK_OFFSET(credit));
  a_.lea(T1, T1, static_cast<std::int32_t>(end - first));
  a_.store_gs(VENEER_BLOCK_OFFSET(credit), T1);
}

/// T0 = guest-linear address of `offset` bytes from the start of this page.
void Translator::address_to_t0(std::int32_t offset) {
  a_.load_gs(T0, VENEER_BLOCK_OFFSET(page_address));
  a_.lea(T0, T0, offset, wide_address());
}

std::int32_t Translator::branch_target(const Insn& insn) const {
  std::int32_t target = insn.next_offset() + static_cast<std::int32_t>(insn.op[0].imm.value.s);
  return target;
}

BranchNote Translator::note_of(const Insn* branch) const {
  if (!branch) return BranchNote::none();
  const auto bytes = static_cast<std::int32_t>(stack_operand_bytes(*branch));
  switch (branch->mnemonic()) {
    case ZYDIS_MNEMONIC_CALL:
      return BranchNote::of(branch->offset, bytes, keeps_under_call(*branch));
    case ZYDIS_MNEMONIC_RET:
      return BranchNote::of(branch->offset, -bytes - released_bytes(*branch), false);
    default:
      return BranchNote::of(branch->offset, 0, false);
  }
}

/// Goes to the guest address in T0: looks it up in the jump cache without touching flags (traps.md 17). With
/// Via::PairedCall the guest's return address is on the return stack already.
void Translator::goto_address_in_t0(const Insn* branch, Via via) {
  auto look_up = [&] {
    a_.call_gs(VENEER_BLOCK_OFFSET(stub_branch));
    a_.imm32(static_cast<std::int32_t>(note_of(branch).bits));
  };
  if (mode_.has(Mode::SINGLE)) return look_up();
  if (mode_.has(Mode::LIMITED)) {
    // Beyond the last page that is wholly inside CS.limit, C++ decides. The sign of limit - offset, without flags.
    a_.mov(T2, rcx);
    a_.load_gs(T1, VENEER_BLOCK_OFFSET(segment_base) + 8 * CS);
    a_.not_(T1);
    a_.lea(T1, T0, T1, 0, 1, false);
    a_.not_(T1);
    a_.load_gs(rcx, VENEER_BLOCK_OFFSET(code_limit));
    a_.lea(rcx, rcx, T1, 0, 1);
    a_.mov_imm32(T1, 63);
    a_.shrx(rcx, rcx, T1);
    const auto inside = a_.jrcxz();
    a_.mov(rcx, T2);
    look_up();
    a_.bind8(inside);
    a_.mov(rcx, T2);
  }
  const std::int32_t table = jump_offset();
  a_.rorx(T1, T0, 12);
  a_.lea(T1, T1, T0, 0, 0);
  a_.movzx16(T1, T1);        // jump_slot()
  a_.lea(T1, T1, T1, 0, 0);  // 16-byte entries
  a_.mov(T2, rcx);
  a_.load_gs_index8(rcx, T1, table + static_cast<std::int32_t>(offsetof(JumpEntry, negated_address)));
  a_.lea(rcx, rcx, T0, 0, 0);
  const auto hit = a_.jrcxz();
  a_.mov(rcx, T2);
  if (via == Via::PairedCall) drop_pair();
  look_up();
  a_.bind8(hit);
  a_.mov(rcx, T2);
  const std::int32_t code = table + static_cast<std::int32_t>(offsetof(JumpEntry, code));
  if (via == Via::PairedCall)
    a_.call_gs_index8(T1, code);
  else
    a_.jmp_gs_index8(T1, code);
}

/// Takes half a pair from the return stack: nobody will return to it natively.
void Translator::drop_pair() { a_.lea(rsp, rsp, 8); }

/// Pads so that the four bytes behind an opcode of `opcode_bytes` do not leave an aligned quadword: then they are
/// patched in one store that every processor sees whole (AMD APM 2 7.3.2; SDM 3A 9.1.1).
void Translator::align_rel32(unsigned opcode_bytes) {
  const auto at = (reinterpret_cast<std::uintptr_t>(a_.here()) + opcode_bytes) & 7;
  if (at > 4) a_.nops(static_cast<unsigned>(8 - at));
}

LinkSite& Translator::new_link(Mode mode) {
  VENEER_ASSERT(link_count_ < max_links);
  auto* link = new (cache_.arena(sizeof(LinkSite))) LinkSite;
  link->owner = block_;
  link->mode = mode;
  links_[link_count_++] = link;
  return *link;
}

/// Leaves for the run loop, which finds the link's target and patches the link.
void Translator::ask_for_link(const LinkSite& link) {
  a_.call_gs(VENEER_BLOCK_OFFSET(stub_link));
  a_.imm32(static_cast<std::int32_t>(cache_.arena_name(&link)));
}

/// Makes the jump or call at `rel32` one that is linked to `target` in this page once that is translated, for `mode`.
void Translator::linkable_jump(Assembler::Mark rel32, std::int32_t target, Mode mode) {
  VENEER_ASSERT(cold_count_ < max_cold);
  LinkSite& link = new_link(mode);
  link.rel32_offset = static_cast<std::uint32_t>(rel32 - start_);
  link.target = target;
  Cold& cold = cold_[cold_count_++];
  cold = Cold{};
  cold.kind = ColdKind::Link;
  cold.from = rel32;
  cold.link = link_count_ - 1;
}

/// Goes on if the ExecTable has at T0's page what `displacement` is minus the expectation and offset of, else to the
/// answer. Keeps the flags and T0; rcx is in T1 on both ways. `compared` is where the displacement stands.
Assembler::Mark Translator::check_mapping(std::int32_t displacement, Assembler::Mark& compared) {
  a_.rorx(T1, T0, page_shift);
  a_.movzx16(T1, T1);
  a_.load_gs_index8(T2, T1, exec_offset());
  a_.mov(T1, rcx);
  align_rel32(Assembler::lea_disp32_opcode_bytes);
  compared = a_.lea_disp32(rcx, T2, T0);
  std::memcpy(compared, &displacement, 4);
  const auto same = a_.jrcxz();
  const auto other = a_.jmp();
  a_.bind8(same);
  return other;
}

/// Leaves the block for a place in another page: linked, behind a look at what is mapped there.
void Translator::goto_far_offset(std::int32_t target, const Insn* branch, Via via) {
  VENEER_ASSERT(cold_count_ < max_cold);
  LinkSite& link = new_link(mode_.grouped());
  link.target = target;
  link.note = note_of(branch);
  if (via == Via::PairedCall && return_in_t2_)
    a_.lea(T0, T2, target - branch->next_offset(), wide_address());  // T2 is the return address still
  else
    address_to_t0(target);
  Assembler::Mark compared;
  Cold& cold = cold_[cold_count_++];
  cold = Cold{};
  cold.kind = ColdKind::FarLink;
  cold.from = check_mapping(CodeCache::never_expected(target), compared);
  cold.paired = via == Via::PairedCall;
  cold.link = link_count_ - 1;
  link.expectation_offset = static_cast<std::uint32_t>(compared - start_);
  a_.mov(rcx, T1);
  align_rel32(1);
  const auto rel32 = cold.paired ? a_.call() : a_.jmp();
  link.rel32_offset = static_cast<std::uint32_t>(rel32 - start_);
}

/// Leaves the block for a place relative to this page.
void Translator::goto_offset(std::int32_t target, const Insn* branch, Poll when, Via via) {
  if (in_this_page(target, branch)) {
    if (when == Poll::Backwards && target <= branch->offset) poll();
    align_rel32(1);
    return linkable_jump(via == Via::PairedCall ? a_.call() : a_.jmp(), target);
  }
  if (!mode_.has(Mode::SINGLE | Mode::LIMITED)) return goto_far_offset(target, branch, via);
  address_to_t0(target);
  goto_address_in_t0(branch);
}

/// True when a direct near branch with 16-bit operands may leave this page: IP is cut to 16 bits. In 64-bit code such
/// branches are AMD's alone. Targets in a page that is wholly inside CS cannot wrap.
bool Translator::cuts_target(const Insn& insn) const {
  if (insn.z.operand_width != 16) return false;
  if (mode_.has(Mode::CODE64 | Mode::CODE32 | Mode::SINGLE)) return true;
  return !in_this_page(branch_target(insn), &insn);
}

/// True when code at `target` can be entered without asking whether it is inside CS. A page that is entered is inside
/// from the base, or its start, to its end; so jumps back may leave it where the base is in the page.
bool Translator::in_this_page(std::int32_t target, const Insn* branch) const {
  if (target < 0 || target >= static_cast<std::int32_t>(page_size) || mode_.has(Mode::SINGLE)) return false;
  return !mode_.has(Mode::LIMITED) || !branch || target > branch->offset;
}

/// Leaves the block for the low 16 bits, in CS, of a place relative to this page.
void Translator::goto_cut_offset(std::int32_t target, const Insn& branch) {
  address_to_t0(target);
  if (mode_.has(Mode::CS_BASE)) {
    // Without flags: x - base = x + ~base + 1.
    a_.load_gs(T1, VENEER_BLOCK_OFFSET(segment_base) + 8 * CS);
    a_.not_(T1);
    a_.lea(T0, T0, T1, 0, 1, false);
  }
  a_.movzx16(T0, T0);
  add_code_base();
  goto_address_in_t0(&branch);
}

void Translator::emit_jump(const Insn& insn) {
  closed_ = true;
  if (insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
    materialise();
    if (cuts_target(insn)) return goto_cut_offset(branch_target(insn), insn);
    return goto_offset(branch_target(insn), &insn, Poll::Backwards);
  }
  if (insn.memory_op >= 0) {
    flags_before_access(insn);
    effective_address(memory_operand(insn));
    finish_access(check(insn, {.size = insn.op[0].size / 8u}, nullptr));
    a_.load(insn.op[0].size / 8u, T0, T0, T1);
    if (insn.op[0].size == 16) a_.movzx16(T0, T0);
    materialise();  // T0 stays
  } else {
    materialise();
    bool high;
    const Host target = use(static_cast<unsigned>(gpr_number(insn.op[0].reg.value, high)), T0);
    if (insn.op[0].size == 16)
      a_.movzx16(T0, target);
    else if (!wide_address())
      a_.mov32(T0, target);
    else if (target != T0)
      a_.mov(T0, target);
  }
  add_code_base();
  goto_address_in_t0(&insn);
}

/// T0 is an offset in CS: make it linear.
void Translator::add_code_base() {
  if (!mode_.has(Mode::CS_BASE)) return;
  a_.load_gs(T1, VENEER_BLOCK_OFFSET(segment_base) + 8 * CS);
  a_.lea(T0, T0, T1, 0, 0, false);
}

void Translator::emit_jcc(const Insn& insn) {
  materialise();
  const std::int32_t target = branch_target(insn);
  const bool cut = cuts_target(insn);
  const bool in_page = in_this_page(target, &insn) && !cut;
  if (in_page && target <= insn.offset) poll();
  const auto condition = static_cast<Cond>(insn.z.opcode & 15);
  if (in_page) {
    align_rel32(2);
    linkable_jump(a_.jcc(condition), target);
  } else {
    Cold& cold = cold_[cold_count_++];
    cold = Cold{};
    cold.kind = ColdKind::CrossPage;
    cold.from = a_.jcc(condition);
    cold.insn = &insn;
    cold.target = target;
    cold.cut = cut;
  }
  if (&insn != insns_ + count_ - 1) return;  // the block goes on where the jump is not taken
  goto_offset(insn.next_offset(), nullptr);
  closed_ = true;
}

/// LOOP, LOOPE, LOOPNE, JCXZ, JECXZ, JRCXZ.
void Translator::emit_loop(const Insn& insn) {
  materialise();
  const std::int32_t target = branch_target(insn);
  if (target <= insn.offset && !mode_.has(Mode::SINGLE)) poll();
  const unsigned width = insn.z.address_width;
  const auto m = insn.mnemonic();
  const bool loop = m == ZYDIS_MNEMONIC_LOOP || m == ZYDIS_MNEMONIC_LOOPE || m == ZYDIS_MNEMONIC_LOOPNE;
  if (loop) {
    if (width == 64) {
      a_.lea(rcx, rcx, -1);
    } else if (width == 32) {
      a_.lea(rcx, rcx, -1, false);
    } else {
      a_.lea(T1, rcx, -1);
      a_.mov16(rcx, T1);
    }
  }
  Cold& cold = cold_[cold_count_++];
  cold = Cold{};
  cold.kind = ColdKind::CrossPage;
  cold.from = jump_if_count_zero(width);
  if (loop) {
    cold.target = insn.next_offset();
    finish_loop(insn, target);
  } else {
    cold.insn = &insn;
    cold.target = target;
    cold.cut = cuts_target(insn);
    goto_offset(insn.next_offset(), nullptr);
  }
  closed_ = true;
}

/// A near jump that is taken when CX, ECX or RCX (`width` bits) is zero. Keeps flags and rcx; T2 is lost for 16 bits.
Assembler::Mark Translator::jump_if_count_zero(unsigned width) {
  if (width == 16) {
    a_.mov(T2, rcx);
    a_.movzx16(rcx, rcx);
  } else if (width == 32) {
    a_.byte(0x67);
  }
  const auto zero = a_.jrcxz();
  if (width == 16) a_.mov(rcx, T2);
  const auto over = a_.jmp();
  a_.bind8(zero);
  if (width == 16) a_.mov(rcx, T2);
  const auto to_zero = a_.jmp();
  a_.bind(over);
  return to_zero;
}

/// The count is not zero: LOOPE and LOOPNE look at ZF too.
void Translator::finish_loop(const Insn& insn, std::int32_t target) {
  const auto m = insn.mnemonic();
  if (m != ZYDIS_MNEMONIC_LOOP) {
    Cold& cold = cold_[cold_count_++];
    cold = Cold{};
    cold.kind = ColdKind::CrossPage;
    cold.from = a_.jcc(m == ZYDIS_MNEMONIC_LOOPE ? Cond::NE : Cond::E);
    cold.target = insn.next_offset();
  }
  if (cuts_target(insn)) return goto_cut_offset(target, insn);
  goto_offset(target, &insn);
}

/// True when call_body() keeps what the return address replaces (branch_note.h).
bool Translator::keeps_under_call(const Insn& insn) const {
  return mode_.has(Mode::LIMITED) || (wide_address() && insn.op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE);
}

void Translator::call_body(const Insn& insn, bool) {
  const unsigned size = stack_operand_bytes(insn);
  if (keeps_under_call(insn)) {
    a_.load(size, T2, T0, T1);
    a_.store_gs(VENEER_BLOCK_OFFSET(under_call), T2);
  }
  a_.load_gs(T2, VENEER_BLOCK_OFFSET(page_address));
  a_.lea(T2, T2, insn.next_offset(), wide_address());
  if (mode_.has(Mode::CS_BASE)) {
    // The pushed value is an offset in CS: subtract the base without flags, -x = ~x + 1.
    a_.lea(T0, T0, T1, 0, 0);
    a_.load_gs(T1, VENEER_BLOCK_OFFSET(segment_base) + 8 * CS);
    a_.not_(T1);
    a_.lea(T2, T2, T1, 0, 1, false);
    a_.mov_imm32(T1, 0);
  }
  a_.store(size, T0, T1, T2);
  move_stack(-static_cast<std::int32_t>(size));
}

/// True when CALLs and RETs of this code put their return addresses on the return stack (docs/engine.md, "Paired
/// returns").
bool Translator::pairs_returns() const {
  if (mode_.has(Mode::SINGLE | Mode::LIMITED)) return false;
  return mode_.has(Mode::CODE64) || (mode_.has(Mode::CODE32) && !mode_.has(Mode::CS_BASE));
}

/// Where a paired RET comes back to: T0 is the guest's return address.
void Translator::emit_return_site(const Insn& insn) {
  block_->return_site = static_cast<std::uint32_t>(a_.here() - start_);
  a_.lea(T0, T0, -insn.next_offset());
  a_.store_gs(VENEER_BLOCK_OFFSET(page_address), T0);
  align_rel32(1);
  linkable_jump(a_.jmp(), insn.next_offset());
}

void Translator::emit_call(const Insn& insn) {
  closed_ = true;
  const bool direct = insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
  const unsigned size = stack_operand_bytes(insn);
  const bool cut = direct && cuts_target(insn);
  const bool paired = pairs_returns() && size == (mode_.has(Mode::CODE64) ? 8u : 4u) && !cut &&
                      insn.next_offset() < static_cast<std::int32_t>(page_size);
  if (direct && !mode_.has(Mode::SINGLE) && branch_target(insn) <= insn.offset && branch_target(insn) >= 0) {
    // Paired returns do not poll, and a callee may drop its return address and call again.
    materialise();
    poll();
  }
  const bool grouped = insn.group >= 0;
  if (grouped)
    drop_lost_recipe(insn);
  else
    flags_before_stack_access(insn);
  if (!direct) {
    if (insn.memory_op >= 0) {
      effective_address(memory_operand(insn));
      finish_access(check(insn, {.size = size}, nullptr));
      a_.load(size, T0, T0, T1);
      if (size == 2) a_.movzx16(T0, T0);
      a_.store_gs(VENEER_BLOCK_OFFSET(temp), T0);
    } else {
      bool high;
      const Host target = use(static_cast<unsigned>(gpr_number(insn.op[0].reg.value, high)), T0);
      if (size == 2)
        a_.movzx16(T0, target);
      else if (!wide_address())
        a_.mov32(T0, target);
      a_.store_gs(VENEER_BLOCK_OFFSET(temp), size == 8 ? target : T0);
    }
  }
  if (grouped) {
    const HostOperand at = stack_group_operand(insn, -static_cast<std::int32_t>(size));
    const auto index = static_cast<Host>(at.index);
    if (keeps_under_call(insn)) {
      a_.load_at(T2, at.base, index, at.displacement);
      a_.store_gs(VENEER_BLOCK_OFFSET(under_call), T2);
    }
    a_.load_gs(T2, VENEER_BLOCK_OFFSET(page_address));
    a_.lea(T2, T2, insn.next_offset());
    a_.store_at(at.base, index, at.displacement, T2);
    move_stack(-static_cast<std::int32_t>(size));
  } else {
    stack_address(-static_cast<std::int32_t>(size));
    Cold& cold = check(insn, {.size = size, .write = true, .read = keeps_under_call(insn), .stack = true, .stay = true},
                       &Translator::call_body);
    call_body(insn, false);
    finish_access(cold);
  }
  if (paired) a_.push(T2);  // the return address
  return_in_t2_ = flags_.at == FlagsAt::Hardware;
  materialise();
  // No poll here: the return address is pushed already, so this is no instruction boundary.
  const Via via = paired ? Via::PairedCall : Via::Jump;
  if (cut) return goto_cut_offset(branch_target(insn), insn);
  if (direct) {
    goto_offset(branch_target(insn), &insn, Poll::Never, via);
  } else {
    a_.load_gs(T0, VENEER_BLOCK_OFFSET(temp));
    add_code_base();
    goto_address_in_t0(&insn, via);
  }
  if (paired) emit_return_site(insn);
}

/// What RET imm16 pops besides the return address.
std::int32_t Translator::released_bytes(const Insn& insn) const {
  const ZydisDecodedOperand& op = insn.op[0];
  const bool present = op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
  return present ? static_cast<std::int32_t>(op.imm.value.u & 0xffff) : 0;
}

void Translator::emit_ret(const Insn& insn) {
  closed_ = true;
  const unsigned size = stack_operand_bytes(insn);
  if (insn.group >= 0) {
    drop_lost_recipe(insn);
    const HostOperand at = stack_group_operand(insn, 0);
    a_.load_at(T0, at.base, static_cast<Host>(at.index), at.displacement);
  } else {
    flags_before_stack_access(insn);
    stack_address(0);
    finish_access(check(insn, {.size = size, .stack = true}, nullptr));
    a_.load(size, T0, T0, T1);
  }
  if (size == 2) a_.movzx16(T0, T0);
  move_stack(static_cast<std::int32_t>(size) + released_bytes(insn));
  materialise();  // T0 stays
  add_code_base();
  if (pairs_returns())
    goto_paired(insn);
  else
    goto_address_in_t0(&insn);
}

/// Goes to the guest address in T0 by a native return if it is the one on top of the return stack.
void Translator::goto_paired(const Insn& insn) {
  VENEER_ASSERT(cold_count_ < max_cold);
  a_.mov(T1, rcx);
  a_.load64(rcx, rsp, 8);
  a_.not_(rcx);
  a_.lea(rcx, rcx, T0, 0, 1);  // T0 - rcx, without flags
  const auto same = a_.jrcxz();
  Cold& cold = cold_[cold_count_++];
  cold = Cold{};
  cold.kind = ColdKind::Unpaired;
  cold.from = a_.jmp();
  cold.insn = &insn;
  a_.bind8(same);
  a_.mov(rcx, T1);
  a_.ret(8);
}

}  // namespace veneer::cpu::bt
