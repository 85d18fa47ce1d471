// Far jumps, calls and returns: to segments, through call gates and task gates, to outer levels. Register-only.
//
// SDM 2 (CALL, JMP, RET), 3A 5.8 (privilege), 7.3 (tasks). The order of checks is theirs; where a Zen 4 differs it is
// the processor's, as the fuzzer sees it.
#include "cpu/bt/descriptor.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

std::uint64_t mask_of(const Segment& ss) { return ss.attributes & Segment::DB ? 0xffffffffu : 0xffffu; }

}  // namespace

bool BtVcpu::read_code_descriptor(std::uint16_t selector, std::uint64_t& d, std::uint8_t vector, std::uint32_t ext) {
  if (!selector_error(selector)) return raise(vector, ext);
  std::uint64_t high;
  if (read_descriptor(selector, d, high, false, vector)) return true;
  if (fault_.vector == vector) fault_.error |= ext;
  return false;
}

bool BtVcpu::reaches(const Segment& cs, std::uint64_t offset) {
  const bool to64 = s.long_mode() && (cs.attributes & Segment::L);
  return (to64 ? canonical(offset) : offset <= cs.limit) || raise(VECTOR_GP, 0);
}

bool BtVcpu::prepare_code_segment(std::uint16_t selector, std::uint64_t d, Segment& cs) {
  const Descriptor desc{d};
  if (!desc.present()) return raise(VECTOR_NP, selector_error(selector));
  if (s.long_mode() && desc.long_code() && desc.wide_code()) return raise(VECTOR_GP, selector_error(selector));
  cs = unpack_descriptor(selector, d);
  if (s.long_mode() && desc.long_code()) cs.base = 0;
  return true;
}

void BtVcpu::enter_code(const Segment& cs, std::uint64_t rip) {
  set_segment(CS, cs);
  b->rip = rip;
  mode_changed();
}

/// The segment a direct JMP or CALL names.
bool BtVcpu::direct_target(std::uint16_t selector, std::uint64_t d, Segment& cs) {
  const Descriptor desc{d};
  const unsigned rpl = selector & 3u;
  const bool allowed = desc.code() && (desc.conforming() ? desc.dpl() <= cpl_ : rpl <= cpl_ && desc.dpl() == cpl_);
  if (!allowed) return raise(VECTOR_GP, selector_error(selector));
  return prepare_code_segment(static_cast<std::uint16_t>((selector & ~3u) | cpl_), d, cs);
}

bool BtVcpu::real_target(std::uint16_t selector, std::uint64_t offset, Segment& cs) {
  cs = s.segments[CS];
  cs.selector = selector;
  cs.base = std::uint64_t{selector} << 4;
  return offset <= cs.limit || raise(VECTOR_GP, 0);
}

bool BtVcpu::inner_stack(unsigned level, std::uint32_t ext, Segment& ss, std::uint64_t& sp) {
  const bool wide = s.tr.attributes & TYPE_WIDE;
  const unsigned offset = wide ? 4 + level * 8 : 2 + level * 4;
  if (offset + (wide ? 5u : 3u) > s.tr.limit) return raise(VECTOR_TS, selector_error(s.tr.selector) + ext);
  std::uint32_t esp = 0;
  std::uint16_t selector = 0;
  if (!read_memory(s.tr.base + offset, &esp, wide ? 4 : 2, true)) return false;
  if (!read_value(s.tr.base + offset + (wide ? 4 : 2), selector, true)) return false;
  const std::uint32_t error = selector_error(selector) + ext;
  if (!selector_error(selector)) return raise(VECTOR_TS, ext);
  std::uint64_t d, unused;
  if (!read_descriptor(selector, d, unused, false, VECTOR_TS)) {
    if (fault_.vector == VECTOR_TS) fault_.error |= ext;
    return false;
  }
  const Descriptor desc{d};
  if ((selector & 3u) != level || desc.dpl() != level || !desc.writable_data()) return raise(VECTOR_TS, error);
  if (!desc.present()) return raise(VECTOR_SS, error);
  if (!mark_accessed(selector, d)) return false;
  ss = unpack_descriptor(selector, d);
  sp = esp;
  return true;
}

bool BtVcpu::push_frame(const Segment& ss, std::uint64_t& sp, const std::uint64_t* values, unsigned n, unsigned width,
                        const FrameRules& rules) {
  const unsigned bytes = n * width;
  std::uint8_t image[40 * 8];
  for (unsigned i = 0; i < n; i++) __builtin_memcpy(image + i * width, &values[i], 8);
  std::uint64_t at = sp - bytes;
  if (rules.long_frame) {
    if (!canonical(at) || !canonical(sp - 1)) return raise(VECTOR_SS, rules.error);
    sp = at;
  } else {
    const std::uint64_t mask = mask_of(ss);
    const std::uint64_t offset = at & mask;
    if (!segment_covers(ss, offset, bytes)) return raise(VECTOR_SS, rules.error);
    sp = (sp & ~mask) | offset;
    at = (ss.base + offset) & 0xffffffffu;
  }
  if (write_memory(at, image, bytes, rules.level != 3)) return true;
  if (fault_.vector == VECTOR_PF) fault_.error = (fault_.error & ~PF_USER) | (rules.level == 3 ? PF_USER : 0);
  return false;
}

Outcome BtVcpu::far_jump(std::uint16_t selector, std::uint64_t offset, std::uint64_t next_rip) {
  Segment cs;
  if (real_segments()) {
    if (!real_target(selector, offset, cs)) return Outcome::Fault;
    enter_code(cs, offset);
    return Outcome::Leave;
  }
  std::uint64_t d;
  if (!read_code_descriptor(selector, d, VECTOR_GP, 0)) return Outcome::Fault;
  if (!Descriptor{d}.segment()) return through_system_descriptor(selector, d, TaskCause::Jump, next_rip);
  if (!direct_target(selector, d, cs) || !reaches(cs, offset) || !mark_accessed(selector, d)) return Outcome::Fault;
  enter_code(cs, offset);
  return Outcome::Leave;
}

Outcome BtVcpu::far_call(std::uint16_t selector, std::uint64_t offset, unsigned operand_bytes, std::uint64_t next_rip) {
  Segment cs;
  std::uint64_t d = 0;
  if (real_segments()) {
    if (!real_target(selector, offset, cs)) return Outcome::Fault;
  } else {
    if (!read_code_descriptor(selector, d, VECTOR_GP, 0)) return Outcome::Fault;
    if (!Descriptor{d}.segment()) return through_system_descriptor(selector, d, TaskCause::Call, next_rip);
    if (!direct_target(selector, d, cs)) return Outcome::Fault;
  }
  const std::uint64_t frame[2] = {next_rip, s.segments[CS].selector};
  std::uint64_t sp = reg(RSP);
  // The push is that of the segment which is entered: from 64-bit to 32-bit code it uses ESP, and CS goes first (Zen
  // 4).
  const bool to64 = s.long_mode() && (cs.attributes & Segment::L);
  const FrameRules rules{.level = cpl_, .error = 0, .long_frame = to64};
  const bool narrowing = code64() && !to64;
  // There the limit is looked at behind the first push, elsewhere behind both (Zen 3; APM 3, CALL far).
  if (narrowing) {
    sp &= 0xffffffffu;
    if (!push_frame(s.segments[SS], sp, &frame[1], 1, operand_bytes, rules) || !reaches(cs, offset) ||
        !push_frame(s.segments[SS], sp, &frame[0], 1, operand_bytes, rules))
      return Outcome::Fault;
  } else if (!push_frame(s.segments[SS], sp, frame, 2, operand_bytes, rules) || (d && !reaches(cs, offset))) {
    return Outcome::Fault;
  }
  if (d && !mark_accessed(selector, d)) return Outcome::Fault;
  b->gpr[RSP] = sp;
  enter_code(cs, offset);
  return Outcome::Leave;
}

Outcome BtVcpu::through_system_descriptor(std::uint16_t selector, std::uint64_t d, TaskCause cause,
                                          std::uint64_t next_rip) {
  const Descriptor gate{d};
  const std::uint32_t error = selector_error(selector);
  const unsigned type = gate.type();
  const bool lma = s.long_mode();
  const bool call_gate = type == TYPE_CALL_GATE || (type == TYPE_CALL_GATE16 && !lma);
  const bool task_gate = type == TYPE_TASK_GATE && !lma;
  const bool tss = (type == TYPE_TSS || type == TYPE_TSS16) && !lma;
  if (!call_gate && !task_gate && !tss) return fault(VECTOR_GP, error);
  if (gate.dpl() < cpl_ || gate.dpl() < (selector & 3u)) return fault(VECTOR_GP, error);
  if (call_gate) return through_call_gate(selector, d, cause, next_rip);
  if (!gate.present()) return fault(VECTOR_NP, error);
  if (task_gate) {
    selector = gate.gate_selector();
    if (selector & 4) return fault(VECTOR_GP, selector_error(selector));
    if (!read_code_descriptor(selector, d, VECTOR_GP, 0)) return Outcome::Fault;
  } else if (selector & 4) {
    return fault(VECTOR_GP, error);  // a TSS in the LDT
  }
  return enter_task(selector, d, cause, next_rip);
}

Outcome BtVcpu::through_call_gate(std::uint16_t gate_selector, std::uint64_t d, TaskCause cause,
                                  std::uint64_t next_rip) {
  const Descriptor gate{d};
  const bool lma = s.long_mode();
  std::uint64_t offset = gate.gate_offset();
  if (lma) {
    std::uint64_t low, high;
    if (!read_descriptor(gate_selector, low, high, true, VECTOR_GP)) return Outcome::Fault;
    if ((high >> 40) & 0x1f) return fault(VECTOR_GP, selector_error(gate_selector));
    offset |= high << 32;
  }
  if (!gate.present()) return fault(VECTOR_NP, selector_error(gate_selector));
  const std::uint16_t selector = gate.gate_selector();
  const std::uint32_t error = selector_error(selector);
  std::uint64_t code_bits;
  if (!read_code_descriptor(selector, code_bits, VECTOR_GP, 0)) return Outcome::Fault;
  const Descriptor code{code_bits};
  const bool call = cause == TaskCause::Call;
  if (!code.code() || code.dpl() > cpl_) return fault(VECTOR_GP, error);
  if (!call && !code.conforming() && code.dpl() != cpl_) return fault(VECTOR_GP, error);
  if (lma && (!code.long_code() || code.wide_code())) return fault(VECTOR_GP, error);
  const unsigned level = call && !code.conforming() ? code.dpl() : cpl_;
  Segment cs;
  if (!prepare_code_segment(static_cast<std::uint16_t>((selector & ~3u) | level), code_bits, cs)) return Outcome::Fault;
  if (call) {
    const unsigned width = lma ? 8 : gate.type() & TYPE_WIDE ? 4 : 2;
    if (level < cpl_) return inner_call(d, cs, offset, code_bits, width, next_rip);
    const std::uint64_t frame[2] = {next_rip, s.segments[CS].selector};
    std::uint64_t sp = reg(RSP);
    if (!reaches(cs, offset) ||
        !push_frame(s.segments[SS], sp, frame, 2, width, {.level = level, .error = 0, .long_frame = lma}))
      return Outcome::Fault;
    b->gpr[RSP] = sp;
  } else if (!reaches(cs, offset)) {
    return Outcome::Fault;
  }
  if (!mark_accessed(selector, code_bits)) return Outcome::Fault;
  enter_code(cs, offset);
  return Outcome::Leave;
}

/// A call gate to a more privileged level: a new stack with the caller's SS:rSP, parameters and return address on it.
Outcome BtVcpu::inner_call(std::uint64_t gate, const Segment& cs, std::uint64_t offset, std::uint64_t code_bits,
                           unsigned width, std::uint64_t next_rip) {
  const bool lma = s.long_mode();
  const unsigned level = cs.selector & 3u;
  Segment ss;
  std::uint64_t sp;
  std::uint64_t frame[40];
  unsigned n = 0;
  frame[n++] = next_rip;
  frame[n++] = s.segments[CS].selector;
  if (lma) {
    const unsigned at = 4 + level * 8;
    if (at + 7 > s.tr.limit) return fault(VECTOR_TS, selector_error(s.tr.selector));
    if (!read_value(s.tr.base + at, sp, true)) return Outcome::Fault;
    ss.selector = static_cast<std::uint16_t>(level);
    ss.attributes = static_cast<std::uint16_t>(level << 5);
  } else {
    if (!inner_stack(level, 0, ss, sp)) return Outcome::Fault;
    const std::uint64_t old_mask = stack_mask(*this);
    const unsigned parameters = Descriptor{gate}.gate_parameters();
    for (unsigned i = 0; i < parameters; i++) {
      const std::uint64_t at = stack_linear(*this, (reg(RSP) + i * width) & old_mask);
      frame[n] = 0;
      if (!stack_reachable(*this, at, width, Access::Read) || !read_memory(at, &frame[n], width)) return Outcome::Fault;
      n++;
    }
  }
  frame[n++] = reg(RSP);
  frame[n++] = s.segments[SS].selector;
  const std::uint32_t error = lma ? 0 : selector_error(ss.selector);
  if (!push_frame(ss, sp, frame, n, width, {.level = level, .error = error, .long_frame = lma})) return Outcome::Fault;
  if (!reaches(cs, offset) || !mark_accessed(cs.selector, code_bits)) return Outcome::Fault;
  b->gpr[RSP] = sp;
  set_segment(SS, ss);
  enter_code(cs, offset);
  return Outcome::Leave;
}

void BtVcpu::drop_inner_segments() {
  for (SegReg which : {ES, DS, FS, GS}) {
    const Segment& old = s.segments[which];
    const bool conforming = (old.attributes & 0x1c) == 0x1c;
    if (!(old.attributes & Segment::P)) {
      // Null selectors 1 to 3 become 0, bases stay (SDM 2A IRET, RETURN-TO-OUTER-PRIVILEGE-LEVEL; processors).
      s.segments[which].selector = 0;
      continue;
    }
    if (conforming || old.dpl() >= s.segments[SS].dpl()) continue;
    Segment null;  // the bases of FS and GS stay on both vendors' processors, unlike where a null selector is loaded
    if (which == FS || which == GS) null.base = b->segment_base[which];
    set_segment(which, null);
  }
}

Outcome BtVcpu::far_return(unsigned operand_bytes, unsigned release_bytes) {
  const std::uint64_t mask = stack_mask(*this);
  const std::uint64_t base = code64() ? 0 : s.segments[SS].base;
  const std::uint64_t sp = reg(RSP);
  auto slot = [&](unsigned n, std::uint64_t& value) {
    value = 0;
    const std::uint64_t at = base + ((sp + n) & mask);
    return stack_reachable(*this, at, operand_bytes, Access::Read) && read_memory(at, &value, operand_bytes);
  };
  // The order of these reads, and that SS:rSP are read before any check, is a Zen 4's: it shows in CR2.
  std::uint64_t rip = 0, cs_slot = 0, new_sp = 0, ss_slot = 0;
  if (!slot(operand_bytes, cs_slot) || !slot(0, rip)) return Outcome::Fault;
  const auto selector = static_cast<std::uint16_t>(cs_slot);
  const std::uint64_t popped = (sp & ~mask) | ((sp + 2 * operand_bytes + release_bytes) & mask);
  Segment cs;
  if (real_segments()) {
    if (!real_target(selector, rip, cs)) return Outcome::Fault;
    b->gpr[RSP] = popped;
    enter_code(cs, rip);
    return Outcome::Leave;
  }
  const unsigned rpl = selector & 3u;
  const std::uint32_t error = selector_error(selector);
  if (rpl != cpl_ &&
      (!slot(3 * operand_bytes + release_bytes, ss_slot) || !slot(2 * operand_bytes + release_bytes, new_sp)))
    return Outcome::Fault;
  if (!error) return fault(VECTOR_GP, 0);
  if (rpl < cpl_) return fault(VECTOR_GP, error);
  std::uint64_t d;
  if (!read_code_descriptor(selector, d, VECTOR_GP, 0)) return Outcome::Fault;
  const Descriptor desc{d};
  if (!desc.code() || (desc.conforming() ? desc.dpl() > rpl : desc.dpl() != rpl)) return fault(VECTOR_GP, error);
  if (!prepare_code_segment(selector, d, cs) || !reaches(cs, rip)) return Outcome::Fault;
  const bool to64 = s.long_mode() && (cs.attributes & Segment::L);
  if (rpl == cpl_) {
    if (!mark_accessed(selector, d)) return Outcome::Fault;
    b->gpr[RSP] = popped;
    enter_code(cs, rip);
    return Outcome::Leave;
  }
  // To an outer level: SS:rSP came from the stack too.
  Segment ss;
  if (!outer_stack(static_cast<std::uint16_t>(ss_slot), rpl, to64, ss) || !mark_accessed(selector, d))
    return Outcome::Fault;
  set_segment(SS, ss);
  b->gpr[RSP] = new_sp + release_bytes;
  if (!to64 && !(ss.attributes & Segment::DB)) b->gpr[RSP] = (sp & ~std::uint64_t{0xffff}) | (b->gpr[RSP] & 0xffff);
  set_segment(CS, cs);
  b->rip = rip;
  drop_inner_segments();
  mode_changed();
  return Outcome::Leave;
}

bool BtVcpu::outer_stack(std::uint16_t selector, unsigned level, bool to64, Segment& ss) {
  ss = Segment{};
  ss.selector = selector;
  const std::uint32_t error = selector_error(selector);
  if (!error) {
    // Null: only for 64-bit code that is not a user's; it keeps its DPL.
    if (!to64 || level == 3 || (selector & 3u) != level) return raise(VECTOR_GP, 0);
    ss.attributes = static_cast<std::uint16_t>(level << 5);
    return true;
  }
  std::uint64_t d, unused;
  if (!read_descriptor(selector, d, unused, false, VECTOR_GP)) return false;
  const Descriptor desc{d};
  if ((selector & 3u) != level || desc.dpl() != level || !desc.writable_data()) return raise(VECTOR_GP, error);
  if (!desc.present()) return raise(VECTOR_SS, error);
  if (!mark_accessed(selector, d)) return false;
  ss = unpack_descriptor(selector, d);
  return true;
}

}  // namespace veneer::cpu::bt
