// VMRUN and #VMEXIT: the host's state out and the guest's in, and back (APM 2 15.5, 15.6). Register-only.
//
// State: ArchState::svm.
// Missing: LBR virtualization, AVIC, virtual GIF and VMSAVE, SEV: not offered in CPUID Fn8000_000A.
// Differs: clean bits are ignored; the area that VM_HSAVE_PA points to is not written.
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"
#include "cpu/cpuid_features.h"

namespace veneer::cpu::bt {
namespace {

VmcbSegment to_vmcb(const Segment& segment) {
  return {segment.selector, segment.attributes, segment.limit, segment.base};
}
VmcbSegment to_vmcb(const DescriptorTable& table) { return {0, 0, table.limit, table.base}; }

constexpr std::uint16_t attribute_bits = 0xfff;

/// Code, data and stack segments have bases of 32 bits.
Segment code_or_data(const VmcbSegment& from) {
  return {from.selector, static_cast<std::uint16_t>(from.attributes & attribute_bits), from.limit,
          from.base & 0xffffffffu};
}

std::uint64_t canonicalized(std::uint64_t base) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(base << 16) >> 16);
}

DescriptorTable table(const VmcbSegment& from) {
  return {canonicalized(from.base), static_cast<std::uint16_t>(from.limit)};
}

constexpr std::uint64_t CR0_KNOWN =
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;

/// What of the guest's registers is in a VMCB and neither a segment nor RAX.
void save_registers(const ArchState& s, VmcbSave& save) {
  save.gdtr = to_vmcb(s.gdtr);
  save.idtr = to_vmcb(s.idtr);
  save.cpl = static_cast<std::uint8_t>(s.cpl());
  save.efer = s.efer;
  save.cr0 = s.cr0;
  save.cr2 = s.cr2;
  save.cr3 = s.cr3;
  save.cr4 = s.cr4;
  save.dr6 = s.dr[6];
  save.dr7 = s.dr[7];
  if (s.svm.nested_paging) save.g_pat = s.pat;
}

void load_registers(ArchState& s, const VmcbSave& save) {
  s.gdtr = table(save.gdtr);
  s.idtr = table(save.idtr);
  s.cr0 = (save.cr0 & CR0_KNOWN) | CR0_ET;
  s.efer = save.efer & ~EFER_LMA;
  if ((s.efer & EFER_LME) && (s.cr0 & CR0_PG)) s.efer |= EFER_LMA;
  s.cr2 = save.cr2;
  s.cr3 = s.efer & EFER_LMA ? save.cr3 : save.cr3 & 0xffffffffu;
  s.cr4 = save.cr4;
  s.dr[6] = (save.dr6 & 0xe00f) | 0xffff0ff0u;
  s.dr[7] = (save.dr7 & 0xffff2bffu) | 0x400;
  if (s.svm.nested_paging) s.pat = save.g_pat;
}

/// The privilege level is a field of its own; here it is SS's.
Segment stack_segment(const VmcbSave& save) {
  Segment ss = code_or_data(save.ss);
  ss.attributes = static_cast<std::uint16_t>((ss.attributes & ~(3u << 5)) | (save.cpl & 3u) << 5);
  return ss;
}

}  // namespace

/// Controls that count until the #VMEXIT.
void BtVcpu::load_controls(const VmcbControl& control) {
  SvmState& svm = s.svm;
  for (unsigned i = 0; i < intercept_words; i++) svm.intercepts[i] = control.intercepts[i];
  svm.io_map = control.iopm_base_pa & ~page_offset_mask;
  svm.msr_map = control.msrpm_base_pa & ~page_offset_mask;
  svm.tsc_offset = control.tsc_offset;
  svm.asid = control.asid;
  svm.nested_paging = (control.np_enable & NP_ENABLE) && has(engine_.cpuid(), Feature::NPT);
  svm.nested_cr3 = control.n_cr3;
  const std::uint64_t field = control.virtual_interrupt;
  svm.virtual_tpr = field & 0xf;
  svm.virtual_interrupt = field & VirtualInterruptField::V_IRQ;
  svm.virtual_ignore_tpr = field & VirtualInterruptField::V_IGN_TPR;
  svm.virtual_interrupt_masking = field & VirtualInterruptField::V_INTR_MASKING;
  svm.virtual_priority = (field >> VirtualInterruptField::V_INTR_PRIO_SHIFT) & 0xf;
  svm.virtual_vector = static_cast<std::uint8_t>(field >> VirtualInterruptField::V_INTR_VECTOR_SHIFT);
}

Outcome BtVcpu::enter_guest(std::uint64_t vmcb, std::uint64_t next_rip) {
  VmcbControl control;
  VmcbSave save;
  physical_read(GuestPhys{vmcb}, &control, sizeof control);
  physical_read(GuestPhys{vmcb + vmcb_save_at}, &save, sizeof save);
  s.svm.vmcb = vmcb;
  if (!guest_state_allowed(control, save)) {
    write_exit(control, {.code = ExitCode::INVALID});
    s.svm.gif = false;
    b->rip = next_rip;
    return Outcome::Leave;
  }
  s.svm.host = {s.segments[ES], s.segments[CS], s.segments[SS], s.segments[DS], s.gdtr,   s.idtr,   s.efer, s.cr0,
                s.cr3,          s.cr4,          rflags(),       next_rip,       reg(RSP), reg(RAX), s.pat};
  load_controls(control);
  s.svm.guest = s.svm.gif = true;
  s.tsc_offset += s.svm.tsc_offset;
  tsc_changed();
  load_registers(s, save);
  set_segment(ES, code_or_data(save.es));
  set_segment(CS, code_or_data(save.cs));
  set_segment(SS, stack_segment(save));
  set_segment(DS, code_or_data(save.ds));
  b->rip = save.rip;
  enter_world(save.rflags);
  b->gpr[RSP] = save.rsp;
  b->gpr[RAX] = save.rax;
  switch (static_cast<TlbControl>(control.tlb_control)) {
    case TlbControl::Nothing:
      break;
    case TlbControl::Asid:
      flush_asid(Scope::All);
      break;
    case TlbControl::AsidLocal:
      flush_asid(Scope::ButGlobal);
      break;
    case TlbControl::All:
    default:
      flush_all_contexts();
  }
  if (!load_pdptes(s.cr3, s.cr0, s.cr4)) {
    leave_guest({.code = ExitCode::INVALID}, b->rip);
    return Outcome::Leave;
  }
  s.interrupt_shadow = control.interrupt_shadow & INTERRUPT_SHADOW;
  if (const EventField event{control.event_injection}; event.valid()) inject_event(event, control.next_rip);
  return Outcome::Leave;
}

/// After everything that decides how code runs was replaced: what follows from it.
void BtVcpu::enter_world(std::uint64_t flags) {
  count.events++;  // no single-step trap behind VMRUN or an exit
  s.halted = s.interrupt_shadow = stack_shadow_ = shadow_at_entry_ = false;
  pending_debug_ = 0;
  debug_hits_ = 0;
  set_rflags(flags);
  mode_changed();
  debug_registers_changed();
  select_context();
  look_at_events();
}

/// The control area's half of a #VMEXIT.
void BtVcpu::write_exit(VmcbControl& control, const GuestExit& exit) {
  control.exit_code = static_cast<std::uint64_t>(exit.code);
  control.exit_info1 = exit.info1;
  control.exit_info2 = exit.info2;
  control.exit_int_info = exit.interrupted.bits;
  control.event_injection &= ~EventField::VALID;
  control.next_rip = has(engine_.cpuid(), Feature::NRIP_SAVE) ? exit.next_rip : 0;
  control.fetched_bytes = 0;
  constexpr unsigned first = offsetof(VmcbControl, virtual_interrupt);
  physical_write(GuestPhys{s.svm.vmcb + first}, reinterpret_cast<std::uint8_t*>(&control) + first,
                 sizeof control - first);
}

void BtVcpu::leave_guest(const GuestExit& exit, std::uint64_t rip) {
  const GuestPhys vmcb{s.svm.vmcb};
  note(flight::Event::GuestExit, exit.info2, static_cast<std::uint32_t>(exit.code));
  VmcbControl control;
  VmcbSave save;
  physical_read(vmcb, &control, sizeof control);
  physical_read(vmcb + vmcb_save_at, &save, sizeof save);
  s.segments[FS].base = b->segment_base[FS];
  s.segments[GS].base = b->segment_base[GS];
  save.es = to_vmcb(s.segments[ES]);
  save.cs = to_vmcb(s.segments[CS]);
  save.ss = to_vmcb(s.segments[SS]);
  save.ds = to_vmcb(s.segments[DS]);
  save_registers(s, save);
  save.rflags = rflags();
  save.rip = rip;
  save.rsp = reg(RSP);
  save.rax = reg(RAX);
  physical_write(vmcb + vmcb_save_at, &save, sizeof save);
  control.interrupt_shadow = s.interrupt_shadow || shadow_at_entry_ ? INTERRUPT_SHADOW : 0;
  constexpr std::uint64_t updated = 0xff | VirtualInterruptField::V_IRQ;
  control.virtual_interrupt = (control.virtual_interrupt & ~updated) | s.svm.virtual_tpr |
                              (s.svm.virtual_interrupt ? VirtualInterruptField::V_IRQ : 0);
  write_exit(control, exit);

  const SvmState::Host& host = s.svm.host;
  s.svm.guest = s.svm.gif = s.svm.nested_paging = false;
  s.tsc_offset -= s.svm.tsc_offset;
  tsc_changed();
  s.efer = host.efer;
  s.cr0 = host.cr0 | CR0_PE;
  s.cr3 = host.cr3;
  s.cr4 = host.cr4;
  s.pat = host.pat;
  s.dr[7] = 0x400;
  s.gdtr = host.gdtr;
  s.idtr = host.idtr;
  set_segment(ES, host.es);
  set_segment(CS, host.cs);
  set_segment(SS, host.ss);
  set_segment(DS, host.ds);
  b->rip = host.rip;
  enter_world(host.rflags & ~RFLAGS_VM);
  b->gpr[RSP] = host.rsp;
  b->gpr[RAX] = host.rax;
  if (!load_pdptes(s.cr3, s.cr0, s.cr4)) triple_fault(Fault{}, Fault{VECTOR_GP, true, 0, 0});  // APM 2 15.6: shutdown
}

bool BtVcpu::raise_exit(ExitCode code, std::uint64_t info1, std::uint64_t info2) {
  noted_exit_ = {.code = code, .info1 = info1, .info2 = info2};
  return raise(VECTOR_VMEXIT);
}

}  // namespace veneer::cpu::bt
