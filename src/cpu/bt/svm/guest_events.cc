// Events around a guest: interrupts under GIF and V_INTR_MASKING, virtual interrupts, injection, intercepted exceptions
// (APM 2 15.12, 15.13, 15.17, 15.20, 15.21). Register-only.
#include "cpu/bt/svm/event_field.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

bool BtVcpu::interrupts_enabled() const {
  if (!s.svm.gif) return false;
  if (s.svm.guest && s.svm.virtual_interrupt_masking) return s.svm.host.rflags & RFLAGS_IF;
  return b->interrupt_flag != 0;
}

bool BtVcpu::take_events_under_svm() {
  b->irq_pending = 0;
  if (!s.svm.gif) return false;  // STGI looks
  SvmState& svm = s.svm;
  InterruptPort& port = interrupts();
  const bool shadow = s.interrupt_shadow;
  if (port.nmi_pending() && !s.nmi_blocked) {
    if (shadow) {
      look_at_events();
    } else if (intercepts(ExitCode::NMI)) {
      leave_guest({.code = ExitCode::NMI}, b->rip);
      return true;
    } else {
      with_vectors_saved([&] { port.take_nmi(); });
      note(flight::Event::Nmi);
      s.nmi_blocked = true;
      deliver(Fault{VECTOR_NMI, false, 0, 0}, EventKind::External, b->rip);
      return true;
    }
  }
  const bool pending = port.interrupt_pending();
  if (pending && interrupts_enabled() && !shadow) {
    if (intercepts(ExitCode::INTR)) {
      leave_guest({.code = ExitCode::INTR}, b->rip);
      return true;
    }
    int vector = -1;
    with_vectors_saved([&] {
      if (auto v = port.acknowledge()) vector = *v;
    });
    look_at_events();
    if (vector >= 0) deliver(Fault{static_cast<std::uint8_t>(vector), false, 0, 0}, EventKind::External, b->rip);
    return vector >= 0;
  }
  const bool virtual_pending =
      svm.virtual_interrupt && (svm.virtual_ignore_tpr || svm.virtual_priority > svm.virtual_tpr);
  if (virtual_pending && b->interrupt_flag && !shadow) {
    if (intercepts(ExitCode::VINTR)) {
      leave_guest({.code = ExitCode::VINTR}, b->rip);
    } else {
      svm.virtual_interrupt = false;
      deliver(Fault{svm.virtual_vector, false, 0, 0}, EventKind::External, b->rip);
      look_at_events();
    }
    return true;
  }
  // What the guest's IF holds back is looked at when that is set, the rest right behind the shadow.
  if (shadow && (pending || virtual_pending)) look_at_events();
  b->irq_pending = virtual_pending || (pending && !svm.virtual_interrupt_masking);
  return false;
}

bool BtVcpu::leave_for_event(const Fault& what, EventKind kind, std::uint64_t return_rip, EventField before) {
  const bool int1 = kind == EventKind::External && what.vector == VECTOR_DB;
  if (kind == EventKind::Software || (kind == EventKind::External && !int1)) return false;
  if (what.vector >= 32 || !intercepts(ExitCode::EXCP0 + what.vector)) return false;
  GuestExit exit{.code = ExitCode::EXCP0 + what.vector, .info1 = what.error, .interrupted = before};
  if (what.vector == VECTOR_PF) exit.info2 = what.address;
  std::uint64_t rip = return_rip;
  if (kind == EventKind::SoftwareBreakpoint) {  // INT3, INTO: RIP is the instruction's
    exit.next_rip = return_rip;
    rip = b->rip;
  }
  leave_guest(exit, rip);
  return true;
}

void BtVcpu::inject_event(EventField event, std::uint64_t next_rip) {
  Fault what{event.vector(), event.has_error(), event.has_error() ? event.error() : 0, s.cr2};
  switch (event.type()) {
    case EventField::NMI:
      what.vector = VECTOR_NMI;
      s.nmi_blocked = true;
      [[fallthrough]];
    case EventField::INTR:
      what.has_error = false;
      return deliver(what, EventKind::External, b->rip, event);
    case EventField::SOFTWARE:
      what.has_error = false;
      return deliver(what, EventKind::Software, next_rip, event);
    default:
      // INT3 and INTO return behind themselves, and no gate's privilege is looked at.
      if (what.vector == VECTOR_BP || what.vector == VECTOR_OF)
        return deliver(what, EventKind::External, next_rip, event);
      return deliver(what, EventKind::Exception, b->rip, event);
  }
}

}  // namespace veneer::cpu::bt
