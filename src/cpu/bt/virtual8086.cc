// Virtual-8086 mode and its extensions: interrupt redirection, VIF and VIP, and protected-mode virtual interrupts.
// Register-only.
//
// SDM 3B 20.2 (sensitive instructions), 20.3 (interrupts, table 20-2), 20.4 (PVI).
#include "cpu/bt/callouts.h"
#include "cpu/bt/descriptor.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr unsigned io_map_base = 0x66;
constexpr unsigned redirection_bytes = 32;

}  // namespace

bool BtVcpu::virtual_interrupts() const {
  if (cpl_ <= iopl() || cpl_ != 3) return false;
  return s.cr4 & ((s.rflags & RFLAGS_VM) ? CR4_VME : CR4_PVI);
}

/// Whether INT n of a virtual-8086 program goes to its own handler: a clear bit in the TSS's redirection map.
bool BtVcpu::redirected(std::uint8_t vector, bool& answer) {
  answer = false;
  if (!(s.cr4 & CR4_VME)) return true;
  std::uint16_t map;
  std::uint8_t bits;
  if (!(s.tr.attributes & TYPE_WIDE) || s.tr.limit < io_map_base + 1) return raise(VECTOR_GP, 0);
  if (!read_value(s.tr.base + io_map_base, map, true)) return false;
  const std::uint32_t at = map - redirection_bytes + vector / 8u;
  if (at > s.tr.limit) return raise(VECTOR_GP, 0);
  if (!read_value(s.tr.base + at, bits, true)) return false;
  answer = !((bits >> (vector & 7)) & 1);
  return true;
}

/// As real mode would, through the vector table at linear address 0 (SDM 3B 20.3.3, methods 5 and 6).
Outcome BtVcpu::virtual8086_interrupt(std::uint8_t vector, std::uint64_t return_rip) {
  const bool is_virtual = virtual_interrupts();
  std::uint32_t handler;
  if (!read_value(vector * 4u, handler)) return Outcome::Fault;
  std::uint64_t image = rflags();
  if (is_virtual) image = (image & ~RFLAGS_IF) | RFLAGS_IOPL | (image & RFLAGS_VIF ? RFLAGS_IF : 0);
  const std::uint64_t frame[3] = {return_rip, s.segments[CS].selector, image};
  std::uint64_t sp = reg(RSP);
  if (!push_frame(s.segments[SS], sp, frame, 3, 2, {.level = 3, .error = 0, .long_frame = false}))
    return Outcome::Fault;
  b->gpr[RSP] = sp;
  set_rflags(rflags() & ~(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | (is_virtual ? RFLAGS_VIF : RFLAGS_IF)));
  enter_code(real_mode_segment(handler >> 16, 0xf3), handler & 0xffff);
  return Outcome::Leave;
}

bool BtVcpu::set_virtual_flags(std::uint64_t image, std::uint64_t mask) {
  if ((image & RFLAGS_TF) || ((image & RFLAGS_IF) && (s.rflags & RFLAGS_VIP))) return raise(VECTOR_GP, 0);
  const std::uint64_t kept = rflags() & ~(mask | RFLAGS_VIF | RFLAGS_RF);
  set_rflags(kept | (image & mask) | (image & RFLAGS_IF ? RFLAGS_VIF : 0));
  return true;
}

Outcome callout_cli(BtVcpu& v, const CalloutRecord&) {
  if (v.virtual_interrupts()) {
    v.s.rflags &= ~RFLAGS_VIF;
    return Outcome::Continue;
  }
  if (v.cpl() > v.iopl()) return v.fault(VECTOR_GP, 0);
  v.b->interrupt_flag = 0;
  return Outcome::Continue;
}

Outcome callout_sti(BtVcpu& v, const CalloutRecord&) {
  if (v.virtual_interrupts()) {
    if (v.s.rflags & RFLAGS_VIP) return v.fault(VECTOR_GP, 0);
    v.s.rflags |= RFLAGS_VIF;
    return Outcome::Continue;
  }
  if (v.cpl() > v.iopl()) return v.fault(VECTOR_GP, 0);
  if (v.b->interrupt_flag) return Outcome::Continue;
  v.b->interrupt_flag = 1;
  v.set_interrupt_shadow();
  return Outcome::Next;
}

}  // namespace veneer::cpu::bt
