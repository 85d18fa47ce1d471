// Translating a block: decoding, the flag-needs pass, the block's frame.
#include "cpu/bt/translator.h"

#include <algorithm>
#include <memory>

#include "cpu/bt/callouts.h"
#include "cpu/bt/once_only.h"
#include "cpu/x86/decode_corrections.h"

namespace veneer::cpu::bt {

Block* translate(BtEngine& engine, const TranslateRequest& request) {
  static thread_local const auto room = std::make_unique<Translator::Room>();
  return Translator(engine, request, *room).translate();
}

Translator::Translator(BtEngine& engine, const TranslateRequest& request, Room& room)
    : engine_(engine),
      cache_(engine.cache()),
      request_(request),
      mode_(request.mode),
      insns_(room.insns),
      cold_(room.cold) {}

bool Translator::gate(Insn& insn) const { return engine_.gate().offered(insn.z); }

/// Opcode 82 is 80 again, outside 64-bit mode only: the host knows but 80.
static void use_opcode_80(Insn& insn) {
  if (insn.row.treatment != x86::Treatment::Emit || insn.z.opcode != 0x82 ||
      insn.z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
    return;
  insn.z.opcode = 0x80;
  insn.row.treatment = x86::Treatment::Native;
}

bool Translator::decode_one(Insn& insn, unsigned offset) {
  std::uint8_t bytes[16] = {};
  const unsigned here = std::min<unsigned>(15, static_cast<unsigned>(page_size) - offset);
  std::memcpy(bytes, request_.bytes + offset, here);
  unsigned available = here;
  if (here < 15 && request_.second_bytes) {
    std::memcpy(bytes + here, request_.second_bytes, 15 - here);
    available = 15;
  }
  insn.reset(static_cast<std::uint16_t>(offset));
  ZydisDecoderContext context;
  ZyanStatus status = ZydisDecoderDecodeInstruction(&decoder_, &context, bytes, available, &insn.z);
  if (status == ZYDIS_STATUS_NO_MORE_DATA && available < 15) return false;
  if (ZYAN_SUCCESS(status))
    status = ZydisDecoderDecodeOperands(&decoder_, &context, &insn.z, insn.op, insn.z.operand_count);
  if (!ZYAN_SUCCESS(status)) {
    insn.undefined = true;
    insn.too_long = status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
    insn.z.length = 1;
    insn.raw[0] = bytes[0];
    return true;
  }
  std::memcpy(insn.raw, bytes, insn.z.length);
  x86::correct_decoding(decoder_, insn.raw, insn.z, insn.op);
  insn.row = x86::classify(insn.z, insn.op);
  use_opcode_80(insn);
  if (insn.row.treatment == x86::Treatment::Undefined || !gate(insn)) insn.undefined = true;
  if (!insn.undefined) analyse(insn);
  return true;
}

bool Translator::ends_block(const Insn& insn) const {
  if (insn.undefined || mode_.has(Mode::SINGLE)) return true;
  switch (insn.z.meta.category) {
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_INTERRUPT:
      return true;
    default:
      break;
  }
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
      return true;
    default:
      return changes_regime(insn);
  }
}

bool Translator::decode() {
  const ZydisMachineMode machine = mode_.has(Mode::CODE64)   ? ZYDIS_MACHINE_MODE_LONG_64
                                   : mode_.has(Mode::CODE32) ? ZYDIS_MACHINE_MODE_LEGACY_32
                                                             : ZYDIS_MACHINE_MODE_LEGACY_16;
  const ZydisStackWidth stack = mode_.has(Mode::CODE64)    ? ZYDIS_STACK_WIDTH_64
                                : mode_.has(Mode::STACK32) ? ZYDIS_STACK_WIDTH_32
                                                           : ZYDIS_STACK_WIDTH_16;
  decoder_ = x86::make_decoder(machine, stack, engine_.cpuid());
  const unsigned limit =
      mode_.has(Mode::SINGLE) ? 1 : std::min<unsigned>(max_instructions, engine_.options().max_block_instructions);
  unsigned offset = request_.offset;
  while (count_ < limit && offset < page_size) {
    Insn& insn = insns_[count_];
    if (!decode_one(insn, offset)) return count_ > 0;  // reaches into an unknown page
    if (offset + insn.z.length > page_size) {
      // An instruction that depends on two mappings is a block of its own (traps.md 15).
      if (count_ > 0) return true;
      straddles_ = true;
    }
    once_only_ = engine_.options().shadow && once_only(insn);
    if (once_only_ && count_ > 0) {
      once_only_ = false;
      return true;
    }
    offset += insn.z.length;
    count_++;
    if (straddles_ || once_only_ || ends_block(insn)) break;
    if (insn.z.meta.category == ZYDIS_CATEGORY_COND_BR &&
        (++conditional_ == max_conditional || cache_.find_covered(request_.page, offset, mode_.grouped())))
      break;  // the rest is translated already: link to it
  }
  return count_ > 0;
}

void Translator::find_flag_needs() {
  bool needed = true;
  for (unsigned i = count_; i-- > 0;) {
    Insn& insn = insns_[i];
    const bool can_fault =
        insn.undefined || insn.accesses || insn.native_fault || insn.row.treatment != x86::Treatment::Native;
    needed = insn.reads_flags || can_fault || (insn.writes_some_flags && !insn.writes_all_flags) ||
             (!insn.writes_all_flags && needed);
    insn.flags_needed = needed;
  }
}

void Translator::emit_entry() {
  // Indirect entry: T0 is this block's guest address. Remember the page, and poll: every cycle of indirect jumps
  // passes here (traps.md 18).
  // CodeCache::kill() writes a jump of 5 bytes over this first instruction while others run: it must be longer.
  a_.lea_long(T0, T0, -static_cast<std::int32_t>(request_.offset));
  a_.store_gs(VENEER_BLOCK_OFFSET(page_address), T0);
  if (!mode_.has(Mode::SINGLE)) poll();  // one instruction has to get done, or its interrupt shadow would be lost
}

/// An instruction that reaches into the next page: the block is for what was mapped there when it was made.
void Translator::emit_straddle_check() {
  VENEER_ASSERT(cold_count_ < max_cold);
  address_to_t0(page_size);
  Assembler::Mark compared;
  Cold& cold = cold_[cold_count_++];
  cold = Cold{};
  cold.kind = ColdKind::OtherTail;
  cold.from = check_mapping(-static_cast<std::int32_t>(cache_.expectation(request_.second_page)), compared);
  a_.mov(rcx, T1);
}

Block* Translator::translate() {
  if (!decode()) return nullptr;
  if (engine_.options().max_block_instructions > 1) plan_groups();
  find_flag_needs();
  block_ = new (cache_.arena(sizeof(Block))) Block;
  start_ = cache_.hot_begin();
  cold_start_ = cache_.cold_begin();
  a_.begin(start_, cache_.hot_end());
  emit_entry();
  const auto direct = static_cast<std::uint32_t>(a_.here() - start_);
  if (straddles_ && !mode_.has(Mode::SINGLE)) emit_straddle_check();
  for (unsigned i = 0; i < count_; i++) {
    const Insn& insn = insns_[i];
    if (engine_.options().deterministic) count_instructions(i);
    side_[i] =
        SideEntry{static_cast<std::uint16_t>(a_.here() - start_), SideEntry::no_cold, insn.offset, FlagsAt::Hardware};
    emit(insn);
    flags_after(insn);
    VENEER_ASSERT(cold_count_ < max_cold);
  }
  if (!closed_) emit_block_end();
  Block* block = block_;
  block->hot_bytes = static_cast<std::uint32_t>(a_.here() - start_);
  a_.begin(cold_start_, cache_.cold_end());
  emit_cold();
  block->cold_bytes = static_cast<std::uint32_t>(a_.here() - cold_start_);
  VENEER_ASSERT(block->hot_bytes < 0xffff && block->cold_bytes < 0xffff);
  block->page = request_.page;
  block->second_page = straddles_ ? request_.second_page : 0;
  block->mode = mode_;
  block->offset = request_.offset;
  const Insn& last = insns_[count_ - 1];
  block->guest_bytes = static_cast<std::uint16_t>(last.offset + last.z.length - request_.offset);
  block->straddles = straddles_;
  block->once_only = once_only_;
  block->instructions = static_cast<std::uint8_t>(count_);
  block->code = cache_.to_exec(start_);
  block->cold = cache_.to_exec(cold_start_);
  block->direct_offset = direct;
  block->side = cache_.arena_array<SideEntry>(count_);
  std::copy_n(side_, count_, block->side);
  for (unsigned i = link_count_; i-- > 0;) {
    links_[i]->next = block->links;
    block->links = links_[i];
  }
  cache_.commit(block);
  link_to_known_blocks();
  return block;
}

/// Most jumps back, and many others, lead to code that is there already: their first turn need not ask for the link.
void Translator::link_to_known_blocks() {
  if (mode_.has(Mode::SINGLE) || engine_.options().shadow) return;
  for (unsigned i = 0; i < link_count_; i++) {
    LinkSite& link = *links_[i];
    if (link.far() || link.ungrouped) continue;
    const auto offset = static_cast<unsigned>(link.target);
    if (Block* to = cache_.find_covered(request_.page, offset, link.mode); to && !to->straddles)
      cache_.link(link, to, engine_.many());
  }
}

void Translator::emit(const Insn& insn) {
  if (insn.too_long) return emit_callout(insn, callout_too_long);
  if (insn.undefined) return emit_undefined(insn);
  using x86::FpClass;
  // Instructions that the control registers switch off (SDM 3A table 9-3, 2A 2.4).
  switch (insn.row.fp) {
    case FpClass::None:
      // BMI and the like (SDM 2A 2.4.13, exception type 13).
      if (insn.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && mode_.has(Mode::REAL | Mode::VM86))
        return emit_raise(insn, VECTOR_UD);
      break;
    case FpClass::Wait:
      if (mode_.has(Mode::WAIT_NM)) return emit_raise(insn, VECTOR_NM);
      break;
    case FpClass::X87:
      if (mode_.has(Mode::X87_NM)) return emit_raise(insn, VECTOR_NM);
      break;
    case FpClass::Mmx:
    case FpClass::Sse:
      if (insn.row.fp == FpClass::Sse && mode_.has(Mode::SSE_UD)) return emit_raise(insn, VECTOR_UD);
      if (mode_.has(Mode::SSE_NM)) return emit_raise(insn, VECTOR_NM);
      if (insn.row.fp == FpClass::Mmx && mode_.has(Mode::X87_NM)) return emit_raise(insn, VECTOR_UD);
      break;
    case FpClass::Avx:
    case FpClass::Avx512:
      if (!mode_.has(insn.row.fp == FpClass::Avx ? Mode::AVX : Mode::AVX512) || mode_.has(Mode::REAL | Mode::VM86))
        return emit_raise(insn, VECTOR_UD);
      if (mode_.has(Mode::SSE_NM)) return emit_raise(insn, VECTOR_NM);
      break;
  }
  switch (insn.row.treatment) {
    case x86::Treatment::Native:
      emit_native(insn);
      break;
    case x86::Treatment::Emit:
      if (!emit_special(insn)) emit_undefined(insn);
      break;
    case x86::Treatment::CallOut:
      if (emit_supervisor(insn)) break;
      if (CalloutFunction f = callout_for(insn))
        emit_callout(insn, f);
      else
        emit_undefined(insn);
      break;
    case x86::Treatment::Undefined:
      emit_undefined(insn);
      break;
  }
}

void Translator::emit_block_end() {
  const Insn& last = insns_[count_ - 1];
  materialise();
  goto_offset(last.next_offset(), nullptr);
  closed_ = true;
}

void Translator::emit_cold() {
  for (unsigned i = 0; i < cold_count_; i++) {
    Cold& cold = cold_[i];
    switch (cold.kind) {
      case ColdKind::Access:
        emit_cold_access(cold);
        break;
      case ColdKind::Group:
        emit_cold_group(cold);
        break;
      case ColdKind::Link: {
        LinkSite& link = *links_[cold.link];
        link.unlinked_distance = static_cast<std::int32_t>(a_.here() - (cold.from + 4));
        a_.bind(cold.from);
        ask_for_link(link);
        break;
      }
      case ColdKind::FarLink:
        a_.bind(cold.from);
        a_.mov(rcx, T1);
        if (cold.paired) drop_pair();
        ask_for_link(*links_[cold.link]);
        break;
      case ColdKind::OtherTail:
        a_.bind(cold.from);
        a_.mov(rcx, T1);
        address_to_t0(request_.offset);
        a_.jmp_gs(VENEER_BLOCK_OFFSET(stub_lookup));
        break;
      case ColdKind::Unpaired:
        // Somebody changed stacks or return addresses: what is on the return stack is of no use.
        a_.bind(cold.from);
        a_.mov(rcx, T1);
        a_.load_gs(rsp, VENEER_BLOCK_OFFSET(return_base));
        goto_address_in_t0(cold.insn);
        break;
      case ColdKind::NativeFault: {
        SideEntry& side = side_[cold.insn - insns_];
        if (side.cold_offset == SideEntry::no_cold)
          side.cold_offset = static_cast<std::uint16_t>(a_.here() - cold_start_);
        emit_rebuild(cold.flags);
        a_.jmp_gs(VENEER_BLOCK_OFFSET(stub_exit));
        break;
      }
      case ColdKind::CrossPage:
        a_.bind(cold.from);
        if (cold.cut) {
          goto_cut_offset(cold.target, *cold.insn);
          break;
        }
        goto_offset(cold.target, cold.insn);
        break;
    }
  }
}

}  // namespace veneer::cpu::bt
