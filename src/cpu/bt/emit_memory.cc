// Memory operands: the effective address, the software TLB check, and its slow path (engine.md 4).
#include "cpu/bt/alignment.h"
#include "cpu/bt/translator.h"
#include "cpu/bt/vector_operands.h"

namespace veneer::cpu::bt {
namespace {

bool fits32(std::int64_t v) { return v == static_cast<std::int32_t>(v); }

constexpr std::int32_t table_base(unsigned regime) {
  return static_cast<std::int32_t>(offsetof(ContextLayout, tlb) + regime * sizeof(TlbTable));
}

}  // namespace

std::int32_t Translator::tlb_offset(bool write) const {
  return table_base(static_cast<unsigned>(mode_.regime())) +
         static_cast<std::int32_t>(write ? offsetof(TlbTable, write_tag) : offsetof(TlbTable, read_tag));
}

std::int32_t Translator::addend_offset() const {
  return table_base(static_cast<unsigned>(mode_.regime())) + static_cast<std::int32_t>(offsetof(TlbTable, addend));
}

std::int32_t Translator::jump_offset() const {
  return static_cast<std::int32_t>(offsetof(ContextLayout, jumps) +
                                   static_cast<unsigned>(mode_.regime()) * sizeof(JumpCache));
}

std::int32_t Translator::exec_offset() const {
  return static_cast<std::int32_t>(offsetof(ContextLayout, exec) +
                                   static_cast<unsigned>(mode_.regime()) * sizeof(ExecTable));
}

/// `to` = the offset in the segment, as wide as asked. Uses T0 and T1.
void Translator::offset_address(const MemoryOperand& m, Host to, bool wide) {
  std::int64_t disp = m.displacement;
  Host base = T0;
  const bool has_base = m.base != MemoryOperand::none;
  if (m.base == MemoryOperand::rip) {
    a_.load_gs(T0, VENEER_BLOCK_OFFSET(page_address));
    if (!fits32(disp)) {
      a_.lea(T0, T0, 0x10000);
      disp -= 0x10000;
    }
  } else if (has_base) {
    base = use(m.base, T0);
  }
  if (!fits32(disp)) {  // absolute 32-bit addresses of 32-bit code, moffs
    if (m.address_bytes != 8) {
      disp = static_cast<std::int32_t>(disp);
    } else {
      VENEER_ASSERT(!has_base && m.index == MemoryOperand::none);
    }
  }
  const auto d = static_cast<std::int32_t>(disp);
  if (m.index != MemoryOperand::none) {
    const Host index = use(m.index, T1);
    if (has_base)
      a_.lea(to, base, index, m.scale_log2, d, wide);
    else
      a_.lea_index(to, index, m.scale_log2, d, wide);
  } else if (has_base) {
    if (!wide || d != 0)
      a_.lea(to, base, d, wide);
    else if (base != to)
      a_.mov(to, base);
  } else {
    a_.mov_imm(to, wide ? static_cast<std::uint64_t>(disp) : static_cast<std::uint32_t>(disp));
  }
  if (m.address_bytes == 2) a_.movzx16(to, to);
}

/// T0 = the linear address. Uses T1.
void Translator::effective_address(const MemoryOperand& m) {
  offset_address(m, T0, m.address_bytes == 8);
  add_segment_base(m);
}

/// Makes the offset in T0 linear. Uses T1.
void Translator::add_segment_base(const MemoryOperand& m) {
  bool segment_base = m.segment == FS || m.segment == GS;
  if (!mode_.has(Mode::CODE64)) {
    segment_base |= (m.segment == DS && mode_.has(Mode::DS_BASE)) || (m.segment == ES && mode_.has(Mode::ES_BASE)) ||
                    (m.segment == SS && mode_.has(Mode::SS_BASE)) || (m.segment == CS && mode_.has(Mode::CS_BASE));
  }
  if (segment_base) {
    a_.load_gs(T1, VENEER_BLOCK_OFFSET(segment_base) + 8 * m.segment);
    a_.lea(T0, T0, T1, 0, 0, mode_.has(Mode::CODE64));
  }
}

/// True when an access may be refused by its segment: FS and GS are always looked at outside 64-bit code, the others
/// when they are not flat. No protected-mode program can write through CS.
bool Translator::limit_counts(unsigned segment, bool write) const {
  if (mode_.has(Mode::CODE64)) return false;
  return mode_.has(Mode::LIMITED) || segment == FS || segment == GS || (write && segment == CS);
}

/// Jumps away unless the operand at the linear address T0 lies inside its segment. Uses T2; with `preserve` also rcx,
/// which is in rcx_save then, and no flags.
Assembler::Mark Translator::check_limit(unsigned segment, const AccessSpec& spec, bool preserve) {
  const auto size = static_cast<std::int32_t>(spec.size);
  const auto of_segment = static_cast<std::int32_t>(8 * segment);
  const std::int32_t limit =
      (spec.write ? VENEER_BLOCK_OFFSET(write_limit) : VENEER_BLOCK_OFFSET(read_limit)) + of_segment;
  // T2 = offset in the segment: x - base = x + ~base + 1.
  a_.load_gs(T2, VENEER_BLOCK_OFFSET(segment_base) + of_segment);
  a_.not_(T2);
  a_.lea(T2, T0, T2, 0, 1, false);
  if (!preserve) {
    a_.lea(T2, T2, size - 1);
    a_.cmp_gs(T2, limit);
    return a_.jcc(Cond::G);
  }
  a_.store_gs(VENEER_BLOCK_OFFSET(rcx_save), rcx);
  a_.not_(T2);
  a_.load_gs(rcx, limit);
  a_.lea(rcx, rcx, T2, 0, 2 - size);  // limit - (offset + size - 1): its sign decides
  a_.mov_imm32(T2, 63);
  a_.shrx(rcx, rcx, T2);
  const auto inside = a_.jrcxz();
  const auto outside = a_.jmp();
  a_.bind8(inside);
  return outside;
}

/// The segment that the slow path of an access has to look at (AccessDescriptor::segment).
unsigned Translator::segment_of(const Insn& insn, const AccessSpec& spec) const {
  const bool wide = mode_.has(Mode::CODE64);
  if (spec.stack || insn.memory_op < 0) return wide ? 0u : unsigned{SS};
  const unsigned segment = memory_operand(insn).segment;
  return !wide || segment == FS || segment == GS ? segment : 0;
}

/// True when the operand is reached by adding the addend to its base: [base + T1 + displacement].
bool Translator::plain_operand(const MemoryOperand& m) const {
  return mode_.has(Mode::CODE64) && !mode_.has(Mode::ALIGN_CHECK) && m.address_bytes == 8 && m.base < gpr_count &&
         resident(m.base) && m.index == MemoryOperand::none && m.segment != FS && m.segment != GS &&
         fits32(m.displacement);
}

/// The check of an access at T0. Afterwards [T0 + T1] is the operand (AccessSpec has other ways). Uses T2.
Translator::Cold& Translator::check(const Insn& insn, const AccessSpec& spec, Body body) {
  VENEER_ASSERT(cold_count_ < max_cold);
  Cold& cold = cold_[cold_count_++];
  cold = Cold{};
  cold.kind = ColdKind::Access;
  cold.insn = &insn;
  cold.body = body;
  cold.flags = flags_;
  cold.preserved = flags_.at == FlagsAt::Hardware;
  std::uint8_t bits = 0;
  if (spec.write) bits |= AccessDescriptor::WRITE;
  if (spec.read) bits |= AccessDescriptor::READ;
  const bool through_ss = insn.memory_op >= 0 && insn.op[insn.memory_op].mem.segment == ZYDIS_REGISTER_SS;
  if (spec.stack || through_ss) bits |= AccessDescriptor::STACK;
  if (spec.stay) bits |= AccessDescriptor::STAY;
  if (waits_for_x87(insn)) bits |= AccessDescriptor::WAITS;
  if (masked_operand(insn)) bits |= AccessDescriptor::MASKED;
  if (demands_alignment(insn)) bits |= AccessDescriptor::ALIGNED;
  const unsigned segment = segment_of(insn, spec);
  cold.descriptor = AccessDescriptor{static_cast<std::uint16_t>(insn.offset & 0xfff),
                                     static_cast<std::uint16_t>(segment & 7),
                                     &insn != insns_ && (&insn - 1)->mnemonic() == ZYDIS_MNEMONIC_STI,
                                     insn.next_offset(),
                                     static_cast<std::uint8_t>(spec.size),
                                     bits,
                                     0};
  const auto size = static_cast<std::int32_t>(spec.size);

  if (mode_.has(Mode::ALIGN_CHECK)) {
    // A rare mode: the slow path looks at every address.
    if (cold.preserved) a_.store_gs(VENEER_BLOCK_OFFSET(rcx_save), rcx);
    cold.from = a_.jmp();
    cold.resume = a_.here();
    side_[&insn - insns_].flags = flags_.at;
    return cold;
  }
  if (limit_counts(segment, spec.write)) cold.from_limit = check_limit(segment, spec, cold.preserved);
  a_.rorx(T1, T0, page_shift);
  a_.movzx16(T1, T1);
  if (!cold.preserved) {
    const Host offset = spec.keeps_address ? T2 : T0;
    if (spec.keeps_address) a_.mov(T2, T0);
    a_.add_gs_index8(offset, T1, tlb_offset(spec.write));  // offset in page if the tag matches, else something huge
    a_.cmp_imm32(offset, static_cast<std::int32_t>(page_size) - size);
    cold.from = a_.jcc(Cond::A);
    if (spec.to_host)
      a_.add_gs_index8(T0, T1, addend_offset());
    else
      a_.load_gs_index8(T1, T1, addend_offset());
    cold.address_lost = spec.to_host || !spec.keeps_address;
  } else {
    // Flag-free: (offset + size - 1) >> 12 is zero, tested by JRCXZ.
    if (!cold.from_limit) a_.store_gs(VENEER_BLOCK_OFFSET(rcx_save), rcx);
    a_.load_gs_index8(T2, T1, tlb_offset(spec.write));
    a_.load_gs_index8(T1, T1, addend_offset());
    a_.lea(T2, T2, T0, 0, size - 1);
    a_.mov_imm32(rcx, page_shift);
    a_.shrx(rcx, T2, rcx);
    const auto ok = a_.jrcxz();
    cold.from = a_.jmp();
    a_.bind8(ok);
    a_.load_gs(rcx, VENEER_BLOCK_OFFSET(rcx_save));
    if (spec.to_host) a_.lea(T0, T0, T1, 0, 0);
  }
  cold.to_host = spec.to_host;
  cold.resume = a_.here();
  SideEntry& side = side_[&insn - insns_];
  side.flags = flags_.at;
  return cold;
}

void Translator::emit_cold_access(Cold& cold) {
  a_.bind(cold.from);
  if (cold.from_limit) a_.bind(cold.from_limit);
  SideEntry& side = side_[cold.insn - insns_];
  if (side.cold_offset == SideEntry::no_cold) side.cold_offset = static_cast<std::uint16_t>(a_.here() - cold_start_);
  if (cold.preserved) {
    a_.load_gs(rcx, VENEER_BLOCK_OFFSET(rcx_save));
  } else {
    if (cold.address_lost) effective_address(cold.address);
    emit_rebuild(cold.flags);
  }
  // T0 survives: recipes use T2 at most.
  a_.call_gs(VENEER_BLOCK_OFFSET(stub_memory));
  AccessDescriptor d = cold.descriptor;
  // Behind the descriptor: the way back to the fast form; behind that the bounced one.
  const bool bounces = (d.flags & AccessDescriptor::WRITE) && cold.body;
  d.jump_bytes = d.flags & AccessDescriptor::MASKED ? masked_record_distance + 8 : 5;
  std::uint64_t raw;
  std::memcpy(&raw, &d, 8);
  a_.imm64(raw);
  a_.jmp_to(cold.resume);
  if (d.flags & AccessDescriptor::MASKED) {
    auto* record = new (cache_.arena(sizeof(CalloutRecord))) CalloutRecord;
    fill_record(*record, *cold.insn);
    a_.imm64(reinterpret_cast<std::uint64_t>(record));
  }
  if (!bounces) return;
  (this->*cold.body)(*cold.insn, true);
  a_.call_gs(VENEER_BLOCK_OFFSET(stub_writeback));
  a_.imm64(raw);
  a_.jmp_to(cold.done);
}

}  // namespace veneer::cpu::bt
