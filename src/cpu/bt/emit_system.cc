// Instructions that the emitter writes itself or hands to a C++ routine.
#include <algorithm>
#include <bit>

#include "cpu/bt/callouts.h"
#include "cpu/bt/translator.h"
#include "cpu/bt/vector_operands.h"

namespace veneer::cpu::bt {

void fill_record(CalloutRecord& r, const Insn& insn) {
  const auto& z = insn.z;
  r.offset = insn.offset;
  r.next_offset = insn.next_offset();
  r.length = z.length;
  r.operand_bytes = static_cast<std::uint8_t>(z.operand_width / 8);
  if (z.attributes & ZYDIS_ATTRIB_HAS_REP) r.rep = 0xf3;
  if (z.attributes & ZYDIS_ATTRIB_HAS_REPE) r.rep = 0xf3;
  if (z.attributes & ZYDIS_ATTRIB_HAS_REPNE) r.rep = 0xf2;
  r.opcode = z.opcode;
  r.mnemonic = static_cast<std::uint16_t>(z.mnemonic);
  r.modrm_reg = z.raw.modrm.reg;
  const bool rex = (z.attributes & ZYDIS_ATTRIB_HAS_REX) != 0;
  r.reg = static_cast<std::uint8_t>(z.raw.modrm.reg | (rex && z.raw.rex.R ? 8 : 0));
  r.rm = static_cast<std::uint8_t>(z.raw.modrm.rm | (rex && z.raw.rex.B ? 8 : 0));
  r.immediate = z.raw.imm[0].value.u;
  r.immediate2 = z.raw.imm[1].value.u;
  if (insn.memory_op >= 0) {
    r.has_memory = true;
    r.memory = memory_operand(insn);
    r.memory_bytes = static_cast<std::uint8_t>(std::min<unsigned>(255, insn.op[insn.memory_op].size / 8u));
  } else {
    // String instructions: the source segment can be overridden; address size matters.
    r.memory.address_bytes = static_cast<std::uint8_t>(z.address_width / 8);
    r.memory.segment = z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS   ? FS
                       : z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS ? GS
                       : z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES ? ES
                       : z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS ? CS
                       : z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS ? SS
                                                                    : DS;
  }
  r.vector = vector_operands(insn);
  std::memcpy(r.raw, insn.raw, 15);
}

CalloutFunction callout_for(const Insn& insn) {
  using x86::AddressForm;
  if (insn.row.form == AddressForm::Vsib) return callout_gather;
  if (insn.row.form == AddressForm::MaskMov) return callout_maskmov;
  if (insn.mnemonic() == ZYDIS_MNEMONIC_MOV) {
    auto register_class = [&](unsigned i) {
      return insn.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER ? ZydisRegisterGetClass(insn.op[i].reg.value)
                                                            : ZYDIS_REGCLASS_INVALID;
    };
    if (register_class(0) == ZYDIS_REGCLASS_SEGMENT) return callout_mov_to_segment;
    if (register_class(1) == ZYDIS_REGCLASS_SEGMENT) return callout_mov_from_segment;
    if (register_class(0) == ZYDIS_REGCLASS_CONTROL) return callout_mov_to_control;
    if (register_class(1) == ZYDIS_REGCLASS_CONTROL) return callout_mov_from_control;
    if (register_class(0) == ZYDIS_REGCLASS_DEBUG) return callout_mov_to_debug;
    if (register_class(1) == ZYDIS_REGCLASS_DEBUG) return callout_mov_from_debug;
    return nullptr;
  }
  return callout_for_mnemonic(insn.mnemonic());
}

void Translator::emit_callout(const Insn& insn, CalloutFunction function) {
  emit_callout(insn, function, VENEER_BLOCK_OFFSET(stub_callout));
}

/// `stub` is stub_callout, or one that stands in for it.
void Translator::emit_callout(const Insn& insn, CalloutFunction function, std::int32_t stub) {
  settle_flags();  // the routine may change any register
  CalloutRecord* record;
  if (mode_.has(Mode::NESTED) && !insn.undefined && may_be_intercepted(insn.mnemonic())) {
    auto* guests = new (cache_.arena(sizeof(GuestCalloutRecord))) GuestCalloutRecord;
    guests->instruction = function;
    function = callout_in_guest;
    record = guests;
  } else {
    record = new (cache_.arena(sizeof(CalloutRecord))) CalloutRecord;
  }
  fill_record(*record, insn);
  record->function = function;
  a_.call_gs(stub);
  a_.imm64(reinterpret_cast<std::uint64_t>(record));
}

/// REP STOS and REP MOVS of 64-bit code have a way without C++, where they stay in plain pages.
void Translator::emit_string(const Insn& insn) {
  const CalloutFunction function = string_callout(insn.mnemonic());
  const unsigned bytes = insn.z.operand_width / 8u;
  const bool stos = insn.z.opcode == 0xaa || insn.z.opcode == 0xab;
  const bool movs = insn.z.opcode == 0xa4 || insn.z.opcode == 0xa5;
  const bool based = insn.z.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS);
  if (!(stos || movs) || based || !(insn.z.attributes & ZYDIS_ATTRIB_HAS_REP) || insn.z.address_width != 64 ||
      !mode_.has(Mode::CODE64) || mode_.has(Mode::SINGLE | Mode::ALIGN_CHECK | Mode::NESTED))
    return emit_callout(insn, function);
  materialise();  // a recipe may need T0
  a_.mov_imm32(T0, static_cast<std::uint32_t>(tlb_offset(true)));
  const std::int32_t stubs = stos ? VENEER_BLOCK_OFFSET(stub_stos) : VENEER_BLOCK_OFFSET(stub_movs);
  emit_callout(insn, function, stubs + 8 * static_cast<std::int32_t>(std::countr_zero(bytes)));
}

void Translator::emit_undefined(const Insn& insn) {
  emit_callout(insn, callout_undefined);
  closed_ = &insn == insns_ + count_ - 1;
}

void Translator::emit_raise(const Insn& insn, std::uint8_t vector) {
  emit_callout(insn, vector == VECTOR_NM ? callout_not_available : callout_undefined);
}

/// STI with nothing pending is one store; else the next instruction must run before the interrupt.
void Translator::emit_sti(const Insn& insn) {
  const bool last = &insn == insns_ + count_ - 1;
  // A hypervisor sees the shadow behind STI.
  if (mode_.has(Mode::IF_TRAP | Mode::NESTED) || last) return emit_callout(insn, callout_sti);
  settle_flags();  // before the ways part
  a_.mov(T2, rcx);
  a_.load_gs(rcx, VENEER_BLOCK_OFFSET(irq_pending));
  const auto none = a_.jrcxz();
  a_.mov(rcx, T2);
  emit_callout(insn, callout_sti);
  a_.bind8(none);
  a_.mov(rcx, T2);
  a_.store_gs_imm32(VENEER_BLOCK_OFFSET(interrupt_flag), 1);
}

bool Translator::emit_special(const Insn& insn) {
  using x86::AddressForm;
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_JMP:
      emit_jump(insn);
      return true;
    case ZYDIS_MNEMONIC_CALL:
      emit_call(insn);
      return true;
    case ZYDIS_MNEMONIC_RET:
      emit_ret(insn);
      return true;
    case ZYDIS_MNEMONIC_JO:
    case ZYDIS_MNEMONIC_JNO:
    case ZYDIS_MNEMONIC_JB:
    case ZYDIS_MNEMONIC_JNB:
    case ZYDIS_MNEMONIC_JZ:
    case ZYDIS_MNEMONIC_JNZ:
    case ZYDIS_MNEMONIC_JBE:
    case ZYDIS_MNEMONIC_JNBE:
    case ZYDIS_MNEMONIC_JS:
    case ZYDIS_MNEMONIC_JNS:
    case ZYDIS_MNEMONIC_JP:
    case ZYDIS_MNEMONIC_JNP:
    case ZYDIS_MNEMONIC_JL:
    case ZYDIS_MNEMONIC_JNL:
    case ZYDIS_MNEMONIC_JLE:
    case ZYDIS_MNEMONIC_JNLE:
      emit_jcc(insn);
      return true;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
      emit_loop(insn);
      return true;
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
      if (insn.op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
          ZydisRegisterGetClass(insn.op[0].reg.value) == ZYDIS_REGCLASS_SEGMENT)
        emit_callout(insn, insn.mnemonic() == ZYDIS_MNEMONIC_PUSH ? callout_push_segment : callout_pop_segment);
      else if (insn.mnemonic() == ZYDIS_MNEMONIC_PUSH)
        emit_push(insn);
      else
        emit_pop(insn);
      return true;
    case ZYDIS_MNEMONIC_LEAVE:
      emit_leave(insn);
      return true;
    case ZYDIS_MNEMONIC_ENTER:
      emit_callout(insn, callout_enter);
      return true;
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
      emit_callout(insn, callout_pusha);
      return true;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
      emit_callout(insn, callout_popa);
      return true;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
      emit_callout(insn, callout_pushf);
      return true;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
      emit_callout(insn, callout_popf);
      return true;
    case ZYDIS_MNEMONIC_CLI:
      if (mode_.has(Mode::IF_TRAP))
        emit_callout(insn, callout_cli);
      else
        a_.store_gs_imm32(VENEER_BLOCK_OFFSET(interrupt_flag), 0);
      return true;
    case ZYDIS_MNEMONIC_STI:
      emit_sti(insn);
      return true;
    case ZYDIS_MNEMONIC_CLD:
      a_.store_gs_imm32(VENEER_BLOCK_OFFSET(direction), 0);
      return true;
    case ZYDIS_MNEMONIC_STD:
      a_.store_gs_imm32(VENEER_BLOCK_OFFSET(direction), 1);
      return true;
    case ZYDIS_MNEMONIC_PAUSE:
      if (engine_.many() || mode_.has(Mode::NESTED))
        emit_callout(insn, callout_pause);
      else
        a_.byte(0xf3), a_.byte(0x90);
      return true;
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_ENDBR64:
    case ZYDIS_MNEMONIC_RDSSPD:
    case ZYDIS_MNEMONIC_RDSSPQ:
      return true;
    case ZYDIS_MNEMONIC_LEA:
      emit_lea(insn);
      return true;
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
      emit_read_tsc(insn);
      return true;
    case ZYDIS_MNEMONIC_XLAT:
      emit_callout(insn, callout_xlat);
      return true;
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
      emit_short_inc_dec(insn);
      return true;
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
      emit_string(insn);
      return true;
    case ZYDIS_MNEMONIC_MOV:
      if (insn.row.form == AddressForm::Moffs) {
        emit_moffs(insn);
        return true;
      }
      [[fallthrough]];
    default:
      if (emit_supervisor(insn)) return true;
      if (CalloutFunction f = callout_for(insn)) {
        emit_callout(insn, f);
        return true;
      }
      return false;
  }
}

/// EDX:EAX = the host's TSC + tsc_offset, without touching flags: kernels and programs ask for the time all the time.
void Translator::emit_read_tsc(const Insn& insn) {
  const bool with_aux = insn.mnemonic() == ZYDIS_MNEMONIC_RDTSCP;
  if (mode_.has(Mode::TSC_TRAP | Mode::NESTED)) return emit_callout(insn, with_aux ? callout_rdtscp : callout_rdtsc);
  if (flags_need_hardware(insn)) materialise();
  a_.byte(0x0f);
  if (with_aux)
    a_.byte(0x01), a_.byte(0xf9);
  else
    a_.byte(0x31);
  a_.rorx(rdx, rdx, 32);  // its upper half is zero: a shift to the left
  a_.lea(rax, rax, rdx, 0, 0);
  a_.load_gs(rdx, VENEER_BLOCK_OFFSET(tsc_offset));
  a_.lea(rax, rax, rdx, 0, 0);
  a_.rorx(rdx, rax, 32);
  a_.mov32(rdx, rdx);
  a_.mov32(rax, rax);
  if (with_aux) a_.load_gs(rcx, VENEER_BLOCK_OFFSET(tsc_aux));
}

/// 40-4F of 16/32-bit code are REX prefixes for the host: INC and DEC as FF /0 and FF /1.
void Translator::emit_short_inc_dec(const Insn& insn) {
  materialise();
  bool high;
  const auto guest = static_cast<unsigned>(gpr_number(insn.op[0].reg.value, high));
  if (insn.z.operand_width == 16) a_.byte(0x66);
  const Host h = host_of(guest);
  if (h >= 8) a_.byte(0x41);
  a_.byte(0xff), a_.byte((insn.mnemonic() == ZYDIS_MNEMONIC_INC ? 0xc0u : 0xc8u) | (h & 7u));
}

}  // namespace veneer::cpu::bt
