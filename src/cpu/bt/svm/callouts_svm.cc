// The hypervisor's instructions: VMRUN, VMLOAD, VMSAVE, STGI, CLGI, INVLPGA (APM 3 chapter 4). Register-only.
#include "cpu/bt/callouts.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

bool may_use_svm(BtVcpu& v) {
  const bool protected_mode = (v.s.cr0 & CR0_PE) && !(v.s.rflags & RFLAGS_VM);
  if (!(v.s.efer & EFER_SVME) || !protected_mode) return v.raise(VECTOR_UD);
  if (v.cpl() != 0) return v.raise(VECTOR_GP, 0);
  return true;
}

std::uint64_t address_in_rax(const BtVcpu& v, const CalloutRecord& r) {
  switch (r.memory.address_bytes) {
    case 8:
      return v.reg(RAX);
    case 4:
      return v.reg(RAX) & 0xffffffffu;
    default:
      return v.reg(RAX) & 0xffffu;
  }
}

bool vmcb_address(BtVcpu& v, const CalloutRecord& r, std::uint64_t& out) {
  if (!may_use_svm(v)) return false;
  out = address_in_rax(v, r);
  if ((out & page_offset_mask) || (out >> v.engine().cpuid().physical_bits())) return v.raise(VECTOR_GP, 0);
  return true;
}

std::uint64_t canonicalized(std::uint64_t base) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(base << 16) >> 16);
}

Segment from_vmcb(const VmcbSegment& from) {
  constexpr std::uint16_t attribute_bits = 0xfff;
  return {from.selector, static_cast<std::uint16_t>(from.attributes & attribute_bits), from.limit,
          canonicalized(from.base)};
}

VmcbSegment to_vmcb(const Segment& segment) {
  return {segment.selector, segment.attributes, segment.limit, segment.base};
}

}  // namespace

Outcome callout_vmrun(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t vmcb;
  if (!vmcb_address(v, r, vmcb)) return Outcome::Fault;
  // A guest's VMRUN is intercepted, always: without the intercept it would not run.
  return v.enter_guest(vmcb, v.rip_of(r.next_offset));
}

Outcome callout_vmload(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t vmcb;
  if (!vmcb_address(v, r, vmcb)) return Outcome::Fault;
  VmcbSave save;
  v.physical_read(GuestPhys{vmcb + vmcb_save_at}, &save, sizeof save);
  v.set_segment(FS, from_vmcb(save.fs));
  v.set_segment(GS, from_vmcb(save.gs));
  v.s.tr = from_vmcb(save.tr);
  v.s.ldtr = from_vmcb(save.ldtr);
  v.b->kernel_gs_base = v.s.kernel_gs_base = canonicalized(save.kernel_gs_base);
  v.s.star = save.star;
  v.s.lstar = canonicalized(save.lstar);
  v.s.cstar = canonicalized(save.cstar);
  v.s.sfmask = save.sfmask & 0xffffffffu;
  v.s.sysenter_cs = save.sysenter_cs;
  v.s.sysenter_esp = canonicalized(save.sysenter_esp);
  v.s.sysenter_eip = canonicalized(save.sysenter_eip);
  v.mode_changed();
  return Outcome::Next;
}

Outcome callout_vmsave(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t vmcb;
  if (!vmcb_address(v, r, vmcb)) return Outcome::Fault;
  VmcbSave save;
  v.physical_read(GuestPhys{vmcb + vmcb_save_at}, &save, sizeof save);
  v.s.segments[FS].base = v.b->segment_base[FS];
  v.s.segments[GS].base = v.b->segment_base[GS];
  save.fs = to_vmcb(v.s.segments[FS]);
  save.gs = to_vmcb(v.s.segments[GS]);
  save.tr = to_vmcb(v.s.tr);
  save.ldtr = to_vmcb(v.s.ldtr);
  save.kernel_gs_base = v.b->kernel_gs_base;
  save.star = v.s.star;
  save.lstar = v.s.lstar;
  save.cstar = v.s.cstar;
  save.sfmask = v.s.sfmask;
  save.sysenter_cs = v.s.sysenter_cs;
  save.sysenter_esp = v.s.sysenter_esp;
  save.sysenter_eip = v.s.sysenter_eip;
  v.physical_write(GuestPhys{vmcb + vmcb_save_at}, &save, sizeof save);
  return Outcome::Next;
}

Outcome callout_stgi(BtVcpu& v, const CalloutRecord&) {
  if (!may_use_svm(v)) return Outcome::Fault;
  v.s.svm.gif = true;
  v.look_at_events();
  return Outcome::Next;
}

Outcome callout_clgi(BtVcpu& v, const CalloutRecord&) {
  if (!may_use_svm(v)) return Outcome::Fault;
  v.s.svm.gif = false;
  return Outcome::Next;
}

/// The ASID in ECX does not matter: every context drops the page.
Outcome callout_invlpga(BtVcpu& v, const CalloutRecord& r) {
  if (!may_use_svm(v)) return Outcome::Fault;
  v.invalidate_page(address_in_rax(v, r));
  return Outcome::Next;
}

}  // namespace veneer::cpu::bt
