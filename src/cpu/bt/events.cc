// Delivering exceptions and interrupts through the IDT. Register-only.
//
// SDM 3A chapter 6 (6.12 protected mode, 6.14 64-bit mode, 6.15 double fault) and 20.1.4 (real mode).
#include "base/bits.h"
#include "cpu/bt/descriptor.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/svm/event_field.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

/// Contributory exceptions (SDM 3A table 6-5).
bool contributory(std::uint8_t v) {
  return v == VECTOR_DE || v == VECTOR_TS || v == VECTOR_NP || v == VECTOR_SS || v == VECTOR_GP;
}

constexpr std::uint64_t DR7_GD = 1u << 13;

bool pushes_error(std::uint8_t v) { return v == VECTOR_DF || (v >= VECTOR_TS && v <= VECTOR_PF) || v == VECTOR_AC; }

}  // namespace

void BtVcpu::deliver(Fault what, EventKind kind, std::uint64_t return_rip, EventField injected) {
  count.events++;
  bool is_exception = kind == EventKind::Exception;
  if (is_exception && what.vector == VECTOR_VMEXIT) return leave_guest(noted_exit_, return_rip);
  const bool by_pin = is_exception && what.vector == VECTOR_MF && !(s.cr0 & CR0_NE);
  if (s.svm.guest && !injected.valid() && !by_pin && leave_for_event(what, kind, return_rip, {})) return;
  s.interrupt_shadow = false;
  s.halted = false;
  if (is_exception) debug_hits_ = 0;
  const Fault first = what;
  // INT n that cannot be delivered faults as an instruction: RIP is its own.
  std::uint64_t fault_rip = is_exception ? return_rip : b->rip;
  if (by_pin) {
    if (s.svm.guest && intercepts(ExitCode::FERR_FREEZE))
      return leave_guest({.code = ExitCode::FERR_FREEZE}, return_rip);
    // The old way: the error goes out by a pin, and the instruction waits for the interrupt that it brings.
    with_vectors_saved([&] { engine_.board().coprocessor_error(); });
    b->rip = return_rip;
    halt();
    return;
  }
  for (;;) {
    if (is_exception) {
      what.has_error = injected.valid() ? injected.has_error() : pushes_error(what.vector);
      flight::record(flight::ring(index_), flight::Event::Fault, return_rip,
                     what.vector == VECTOR_PF ? what.address : 0, what.vector | what.error << 8);
      if (what.vector == VECTOR_PF) s.cr2 = what.address;
      if (what.vector == VECTOR_DB) s.dr[7] &= ~DR7_GD;
    }
    const std::uint64_t rflags_before = rflags();
    task_committed_ = false;
    const bool ok = !(s.cr0 & CR0_PE) ? deliver_real(what, return_rip)
                    : s.long_mode()   ? deliver_long_mode(what, kind, return_rip)
                                      : deliver_protected(what, kind, return_rip);
    if (ok) return;
    if (!task_committed_) set_rflags(rflags_before);
    // Delivering failed with fault_: a second exception (SDM 3A 6.15).
    const Fault second = fault_;
    if (task_committed_) fault_rip = return_rip = b->rip;  // the new task's own
    if (s.svm.guest) {
      const EventField before = injected.valid() ? injected : event_field(what, kind);
      noted_exit_.interrupted = before;
      if (second.vector == VECTOR_VMEXIT) return leave_guest(noted_exit_, fault_rip);
      if (leave_for_event(second, EventKind::Exception, fault_rip, before)) return;
    }
    injected = {};
    if (is_exception && what.vector == VECTOR_DF) {
      b->rip = return_rip;
      if (s.svm.guest && intercepts(ExitCode::SHUTDOWN)) return leave_guest({.code = ExitCode::SHUTDOWN}, return_rip);
      triple_fault(first, second);
      return;
    }
    const bool doubled =
        is_exception && ((contributory(what.vector) && contributory(second.vector)) ||
                         (what.vector == VECTOR_PF && (contributory(second.vector) || second.vector == VECTOR_PF)));
    what = doubled ? Fault{VECTOR_DF, true, 0, 0} : second;
    return_rip = fault_rip;
    kind = EventKind::Exception;
    is_exception = true;
    if (doubled && s.svm.guest && leave_for_event(what, kind, return_rip, {})) return;
  }
}

bool BtVcpu::deliver_real(const Fault& what, std::uint64_t return_rip) {
  const std::uint32_t entry = what.vector * 4u;
  if (entry + 3 > s.idtr.limit) return raise(VECTOR_GP, 0);
  std::uint32_t handler = 0;
  if (!read_value(s.idtr.base + entry, handler, true)) return false;
  const std::uint64_t frame[3] = {return_rip, s.segments[CS].selector, rflags()};
  std::uint64_t sp = reg(RSP);
  if (!push_frame(s.segments[SS], sp, frame, 3, 2, {.level = 0, .error = 0, .long_frame = false})) return false;
  Segment cs;
  if (!real_target(static_cast<std::uint16_t>(handler >> 16), handler & 0xffff, cs)) return false;
  b->gpr[RSP] = sp;
  set_rflags(rflags() & ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF));
  enter_code(cs, handler & 0xffff);
  return true;
}

bool BtVcpu::deliver_long_mode(const Fault& what, EventKind kind, std::uint64_t return_rip) {
  const std::uint32_t ext = kind == EventKind::Software || kind == EventKind::SoftwareBreakpoint ? 0 : 1;
  const std::uint32_t gate_error = what.vector * 8u + 2u + ext;
  if (what.vector * 16u + 15u > s.idtr.limit) return raise(VECTOR_GP, gate_error);
  std::uint64_t low, high;
  if (!read_value(s.idtr.base + what.vector * 16u, low, true)) return false;
  if (!read_value(s.idtr.base + what.vector * 16u + 8, high, true)) return false;
  const unsigned type = (low >> 40) & 0x1f;
  if (type != 0xe && type != 0xf) return raise(VECTOR_GP, gate_error);
  const unsigned gate_dpl = (low >> 45) & 3;
  if (ext == 0 && gate_dpl < cpl_) return raise(VECTOR_GP, gate_error);
  if (!((low >> 47) & 1)) return raise(VECTOR_NP, gate_error);
  const auto selector = static_cast<std::uint16_t>(low >> 16);
  const std::uint64_t target = (low & 0xffff) | ((low >> 32) & 0xffff0000u) | (high << 32);
  const unsigned ist = (low >> 32) & 7;

  const std::uint32_t cs_error = (selector & 0xfffcu) + ext;
  if (!(selector & 0xfffcu)) return raise(VECTOR_GP, ext);
  std::uint64_t d, unused;
  if (!read_descriptor(selector, d, unused, false, VECTOR_GP)) {
    if (fault_.vector == VECTOR_GP) fault_.error |= ext;
    return false;
  }
  const unsigned cs_type = (d >> 40) & 0x1f, dpl = (d >> 45) & 3;
  if ((cs_type & 0x18) != 0x18 || dpl > cpl_) return raise(VECTOR_GP, cs_error);
  if (!((d >> 47) & 1)) return raise(VECTOR_NP, cs_error);
  if (!((d >> 53) & 1) || ((d >> 54) & 1)) return raise(VECTOR_GP, cs_error);
  const bool conforming = cs_type & 4;
  const unsigned new_cpl = conforming ? cpl_ : dpl;

  std::uint64_t sp = reg(RSP);
  bool switched = false;
  if (ist || new_cpl < cpl_) {
    const unsigned offset = ist ? 0x24 + (ist - 1) * 8 : 4 + new_cpl * 8;
    if (offset + 7 > s.tr.limit) return raise(VECTOR_TS, (s.tr.selector & 0xfffcu) + ext);
    if (!read_value(s.tr.base + offset, sp, true)) return false;
    if (!canonical(sp)) return raise(VECTOR_SS, ext);
    switched = new_cpl < cpl_;
  }
  sp &= ~std::uint64_t{15};
  std::uint64_t flags = rflags();
  if (kind == EventKind::Exception && what.vector != VECTOR_DB) flags |= RFLAGS_RF;
  std::uint64_t frame[6] = {what.error, return_rip, s.segments[CS].selector, flags, reg(RSP), s.segments[SS].selector};
  const unsigned skip = what.has_error ? 0 : 1;
  const unsigned bytes = (6 - skip) * 8;
  // The frame is written with the new privilege.
  if (!write_memory(sp - bytes, frame + skip, bytes, true)) {
    if (fault_.vector == VECTOR_PF && new_cpl == 3) fault_.error |= PF_USER;
    return false;
  }
  b->gpr[RSP] = sp - bytes;
  Segment cs = unpack_descriptor(static_cast<std::uint16_t>((selector & ~3u) | new_cpl), d);
  cs.base = 0;  // 64-bit code has neither base nor limit
  cs.limit = 0xffffffffu;
  set_segment(CS, cs);
  if (switched) {
    Segment ss;
    ss.selector = static_cast<std::uint16_t>(new_cpl);
    ss.attributes = static_cast<std::uint16_t>(new_cpl << 5);
    set_segment(SS, ss);
  }
  std::uint64_t clear = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM;
  if (type == 0xe) clear |= RFLAGS_IF;
  set_rflags(rflags() & ~clear);
  b->rip = target;
  mode_changed();
  return true;
}

bool BtVcpu::deliver_protected(const Fault& what, EventKind kind, std::uint64_t return_rip) {
  const std::uint32_t ext = kind == EventKind::Software || kind == EventKind::SoftwareBreakpoint ? 0 : 1;
  const std::uint32_t gate_error = what.vector * 8u + 2u + ext;
  if (what.vector * 8u + 7u > s.idtr.limit) return raise(VECTOR_GP, gate_error);
  Descriptor gate;
  if (!read_value(s.idtr.base + what.vector * 8u, gate.bits, true)) return false;
  const unsigned type = gate.type();
  const bool through_task = type == TYPE_TASK_GATE;
  const bool known = through_task || type == TYPE_INTERRUPT_GATE16 || type == TYPE_TRAP_GATE16 ||
                     type == TYPE_INTERRUPT_GATE || type == TYPE_TRAP_GATE;
  if (gate.segment() || !known) return raise(VECTOR_GP, gate_error);
  if (ext == 0 && gate.dpl() < cpl_) return raise(VECTOR_GP, gate_error);
  if (!gate.present()) return raise(VECTOR_NP, gate_error);
  std::uint64_t flags = rflags();
  if (kind == EventKind::Exception && what.vector != VECTOR_DB) flags |= RFLAGS_RF;
  if (through_task) return deliver_to_task(what, gate.gate_selector(), return_rip, flags, ext);

  const std::uint16_t selector = gate.gate_selector();
  const std::uint32_t cs_error = selector_error(selector) + ext;
  std::uint64_t d;
  if (!read_code_descriptor(selector, d, VECTOR_GP, ext)) return false;
  const Descriptor code{d};
  if (!code.code() || code.dpl() > cpl_) return raise(VECTOR_GP, cs_error);
  if (!code.present()) return raise(VECTOR_NP, cs_error);
  const unsigned level = code.conforming() ? cpl_ : code.dpl();
  const bool vm86 = s.rflags & RFLAGS_VM;
  if (vm86 && level != 0) return raise(VECTOR_GP, cs_error);

  const bool switched = level < cpl_;
  Segment ss = s.segments[SS];
  std::uint64_t sp = reg(RSP);
  if (switched && !inner_stack(level, ext, ss, sp)) return false;
  std::uint64_t frame[10];
  unsigned n = 0;
  if (what.has_error) frame[n++] = what.error;
  frame[n++] = return_rip;
  frame[n++] = s.segments[CS].selector;
  frame[n++] = flags;
  if (switched) {
    frame[n++] = reg(RSP);
    frame[n++] = s.segments[SS].selector;
    if (vm86)
      for (SegReg which : {ES, DS, FS, GS}) frame[n++] = s.segments[which].selector;
  }
  const std::uint32_t stack_error = (switched ? selector_error(ss.selector) : 0) + ext;
  const unsigned width = type & TYPE_WIDE ? 4 : 2;
  if (!push_frame(ss, sp, frame, n, width, {.level = level, .error = stack_error, .long_frame = false})) return false;
  const std::uint64_t target = gate.gate_offset();
  const Segment cs = unpack_descriptor(static_cast<std::uint16_t>((selector & ~3u) | level), d);
  if (target > cs.limit) return raise(VECTOR_GP, ext);
  if (!mark_accessed(selector, d)) return false;
  b->gpr[RSP] = sp;
  if (switched) set_segment(SS, ss);
  set_segment(CS, cs);
  if (vm86)
    for (SegReg which : {ES, DS, FS, GS}) set_segment(which, Segment{});
  std::uint64_t clear = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM;
  if (!(type & 1)) clear |= RFLAGS_IF;
  set_rflags(rflags() & ~clear);
  b->rip = target;
  mode_changed();
  return true;
}

/// A task gate: the error code, if there is one, goes on the new task's stack.
bool BtVcpu::deliver_to_task(const Fault& what, std::uint16_t selector, std::uint64_t return_rip, std::uint64_t flags,
                             std::uint32_t ext) {
  if (selector & 4) return raise(VECTOR_GP, selector_error(selector) + ext);
  std::uint64_t d;
  if (!read_code_descriptor(selector, d, VECTOR_GP, ext)) return false;
  if (!task_switch(selector, d, TaskCause::Event, return_rip, flags, ext)) return false;
  if (!what.has_error) return true;
  const std::uint64_t error = what.error;
  std::uint64_t sp = reg(RSP);
  const unsigned width = s.tr.attributes & TYPE_WIDE ? 4 : 2;
  if (!push_frame(s.segments[SS], sp, &error, 1, width, {.level = cpl_, .error = ext, .long_frame = false}))
    return false;
  b->gpr[RSP] = sp;
  return true;
}

}  // namespace veneer::cpu::bt
