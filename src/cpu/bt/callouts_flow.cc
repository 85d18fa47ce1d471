// Callouts that change the flow: system calls, software interrupts, far transfers, HLT, undefined instructions.
// Register-only.
#include <sys/syscall.h>

#include "cpu/bt/callouts.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

Segment flat_segment(std::uint16_t selector, std::uint16_t attributes) {
  Segment g;
  g.selector = selector;
  g.attributes = attributes;
  g.limit = 0xffffffffu;
  return g;
}

constexpr std::uint16_t CODE64_ATTRIBUTES = 0x9b | Segment::L | Segment::G;
constexpr std::uint16_t CODE32_ATTRIBUTES = 0x9b | Segment::DB | Segment::G;
constexpr std::uint16_t DATA_ATTRIBUTES = 0x93 | Segment::DB | Segment::G;
constexpr std::uint16_t USER = 3 << 5;

}  // namespace

Outcome callout_undefined(BtVcpu& v, const CalloutRecord&) { return v.fault(VECTOR_UD); }
Outcome callout_too_long(BtVcpu& v, const CalloutRecord&) { return v.fault(VECTOR_GP, 0); }
Outcome callout_not_available(BtVcpu& v, const CalloutRecord&) { return v.fault(VECTOR_NM); }

Outcome callout_hlt(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  v.halt();
  return Outcome::Next;
}

/// A guest that waits for another of its vCPUs, which may be waiting for our core: a while is looked at, then the core
/// is offered (docs/smp.md, "Waiting").
Outcome callout_pause(BtVcpu& v, const CalloutRecord&) {
  __builtin_ia32_pause();
  if (v.engine().options().deterministic) {
    v.end_turn();
    return Outcome::Next;
  }
  if (++v.count.pauses % BtVcpu::pauses_to_yield == 0) {
    long result = SYS_sched_yield;
    asm volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
  }
  return Outcome::Continue;
}

/// Outside long mode SYSCALL and SYSRET exist on AMD only: EIP from STAR, IF off and on (APM 3 SYSCALL, SYSRET).
static Outcome legacy_syscall(BtVcpu& v, const CalloutRecord& r) {
  if (!v.engine().amd() || !(v.s.cr0 & CR0_PE)) return v.fault(VECTOR_UD);
  v.b->gpr[RCX] = v.rip_of(r.next_offset);
  const auto selector = static_cast<std::uint16_t>((v.s.star >> 32) & 0xfffc);
  v.set_segment(CS, flat_segment(selector, CODE32_ATTRIBUTES));
  v.set_segment(SS, flat_segment(static_cast<std::uint16_t>(selector + 8), DATA_ATTRIBUTES));
  v.set_rflags(v.rflags() & ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF));
  v.b->rip = v.s.star & 0xffffffffu;
  v.mode_changed();
  return Outcome::Leave;
}

static Outcome legacy_sysret(BtVcpu& v) {
  if (!v.engine().amd() || !(v.s.cr0 & CR0_PE)) return v.fault(VECTOR_UD);
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const auto base = static_cast<std::uint16_t>(v.s.star >> 48);
  v.set_segment(CS, flat_segment(base | 3, CODE32_ATTRIBUTES | USER));
  v.set_segment(SS, flat_segment(static_cast<std::uint16_t>((base + 8) | 3), DATA_ATTRIBUTES | USER));
  v.b->rip = v.reg(RCX) & 0xffffffffu;
  v.set_rflags((v.rflags() | RFLAGS_IF) & ~RFLAGS_RF);
  v.mode_changed();
  return Outcome::Leave;
}

Outcome callout_syscall(BtVcpu& v, const CalloutRecord& r) {
  if (!(v.s.efer & EFER_SCE)) return v.fault(VECTOR_UD);
  if (!v.s.long_mode()) return legacy_syscall(v, r);
  // SYSCALL from compatibility mode exists on AMD only.
  if (!v.code64() && !v.engine().amd()) return v.fault(VECTOR_UD);
  const bool from64 = v.code64();
  v.b->gpr[RCX] = v.rip_of(r.next_offset);
  v.b->gpr[R11] = v.rflags() & ~RFLAGS_RF;
  v.b->rip = from64 ? v.s.lstar : v.s.cstar;
  const auto selector = static_cast<std::uint16_t>((v.s.star >> 32) & 0xfffc);
  v.set_segment(CS, flat_segment(selector, CODE64_ATTRIBUTES));
  v.set_segment(SS, flat_segment(static_cast<std::uint16_t>(selector + 8), DATA_ATTRIBUTES));
  if (v.s.sfmask & RFLAGS_TF) v.drop_trap();
  v.set_rflags(v.rflags() & ~(v.s.sfmask | RFLAGS_RF));
  v.mode_changed();
  return Outcome::Leave;
}

Outcome callout_sysret(BtVcpu& v, const CalloutRecord& r) {
  if (!(v.s.efer & EFER_SCE)) return v.fault(VECTOR_UD);
  if (!v.s.long_mode()) return legacy_sysret(v);
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const bool to64 = r.operand_bytes == 8;
  const std::uint64_t target = v.reg(RCX);
  if (to64 && !v.canonical(target)) return v.fault(VECTOR_GP, 0);
  const auto base = static_cast<std::uint16_t>(v.s.star >> 48);
  const auto cs = static_cast<std::uint16_t>((to64 ? base + 16 : base) | 3);
  v.set_segment(CS, flat_segment(cs, (to64 ? CODE64_ATTRIBUTES : CODE32_ATTRIBUTES) | USER));
  // Intel loads all of SS; AMD only the selector, but DPL 3 either way.
  v.set_segment(SS, flat_segment(static_cast<std::uint16_t>((base + 8) | 3), DATA_ATTRIBUTES | USER));
  v.b->rip = to64 ? target : target & 0xffffffffu;
  v.set_rflags(v.reg(R11) & ~(RFLAGS_RF | RFLAGS_VM));
  v.trap_by_new_flags();
  v.mode_changed();
  return Outcome::Leave;
}

Outcome callout_sysenter(BtVcpu& v, const CalloutRecord&) {
  if (!(v.s.cr0 & CR0_PE)) return v.fault(VECTOR_GP, 0);
  if (v.s.long_mode() && v.engine().amd()) return v.fault(VECTOR_UD);
  if (!(v.s.sysenter_cs & 0xfffc)) return v.fault(VECTOR_GP, 0);
  const bool lma = v.s.long_mode();
  const auto selector = static_cast<std::uint16_t>(v.s.sysenter_cs & 0xfffc);
  v.set_segment(CS, flat_segment(selector, lma ? CODE64_ATTRIBUTES : CODE32_ATTRIBUTES));
  v.set_segment(SS, flat_segment(static_cast<std::uint16_t>(selector + 8), DATA_ATTRIBUTES));
  v.set_rflags(v.rflags() & ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF));
  v.b->rip = lma ? v.s.sysenter_eip : v.s.sysenter_eip & 0xffffffffu;
  v.b->gpr[RSP] = lma ? v.s.sysenter_esp : v.s.sysenter_esp & 0xffffffffu;
  v.mode_changed();
  return Outcome::Leave;
}

Outcome callout_sysexit(BtVcpu& v, const CalloutRecord& r) {
  if (!(v.s.cr0 & CR0_PE) || v.cpl() != 0 || !(v.s.sysenter_cs & 0xfffc)) return v.fault(VECTOR_GP, 0);
  if (v.s.long_mode() && v.engine().amd()) return v.fault(VECTOR_UD);
  const bool to64 = r.operand_bytes == 8;
  if (to64 && (!v.canonical(v.reg(RCX)) || !v.canonical(v.reg(RDX)))) return v.fault(VECTOR_GP, 0);
  const unsigned base = static_cast<unsigned>(v.s.sysenter_cs & 0xfffc);
  const auto cs = static_cast<std::uint16_t>((base + (to64 ? 32 : 16)) | 3);
  v.set_segment(CS, flat_segment(cs, (to64 ? CODE64_ATTRIBUTES : CODE32_ATTRIBUTES) | USER));
  v.set_segment(SS, flat_segment(static_cast<std::uint16_t>(cs + 8), DATA_ATTRIBUTES | USER));
  v.b->rip = to64 ? v.reg(RDX) : v.reg(RDX) & 0xffffffffu;
  v.b->gpr[RSP] = to64 ? v.reg(RCX) : v.reg(RCX) & 0xffffffffu;
  v.mode_changed();
  return Outcome::Leave;
}

Outcome callout_iret(BtVcpu& v, const CalloutRecord& r) {
  return v.interrupt_return(r.operand_bytes, v.rip_of(r.next_offset));
}

static Outcome software_interrupt(BtVcpu& v, const CalloutRecord& r, std::uint8_t vector, EventKind kind) {
  v.deliver(Fault{vector, false, 0, 0}, kind, v.rip_of(r.next_offset));
  return Outcome::Leave;
}

Outcome callout_int_n(BtVcpu& v, const CalloutRecord& r) {
  if (v.s.rflags & RFLAGS_VM) {
    const auto vector = static_cast<std::uint8_t>(r.immediate);
    bool redirected;
    if (!v.redirected(vector, redirected)) return Outcome::Fault;
    if (redirected) return v.virtual8086_interrupt(vector, v.rip_of(r.next_offset));
    if (v.iopl() < 3) return v.fault(VECTOR_GP, 0);
  }
  return software_interrupt(v, r, static_cast<std::uint8_t>(r.immediate), EventKind::Software);
}

Outcome callout_int3(BtVcpu& v, const CalloutRecord& r) {
  return software_interrupt(v, r, VECTOR_BP, EventKind::SoftwareBreakpoint);
}

Outcome callout_int1(BtVcpu& v, const CalloutRecord& r) {
  v.report_debug_hits();
  return software_interrupt(v, r, VECTOR_DB, EventKind::External);
}

Outcome callout_into(BtVcpu& v, const CalloutRecord& r) {
  if (v.code64()) return v.fault(VECTOR_UD);
  if (!(v.rflags() & RFLAGS_OF)) return Outcome::Continue;
  return software_interrupt(v, r, VECTOR_OF, EventKind::SoftwareBreakpoint);
}

namespace {

/// The far pointer of an instruction: in memory (offset, then selector) or an immediate.
bool far_pointer(BtVcpu& v, const CalloutRecord& r, std::uint16_t& selector, std::uint64_t& offset) {
  offset = 0;
  if (!r.has_memory) {
    offset = r.immediate;
    selector = static_cast<std::uint16_t>(r.immediate2);
    return true;
  }
  // Two accesses, each with a #GP or #SS and a #PF of its own (Zen 4).
  unsigned offset_bytes = r.memory_bytes - 2u;
  std::uint64_t address;
  if (!v.linear_address(r.memory, address, offset_bytes, Access::Read)) return false;
  // AMD's processors ignore REX.W here, hypervisors that emulate accesses to devices do not (docs/QUIRKS.md).
  if (r.operand_bytes == 8 && offset_bytes < 8 && v.answered_by_device(address)) offset_bytes = 8;
  if (!v.read_memory(address, &offset, offset_bytes)) return false;
  if (v.code64()) {
    MemoryOperand behind = r.memory;
    behind.displacement += offset_bytes;
    return v.linear_address(behind, address, sizeof selector, Access::Read) && v.read_value(address, selector);
  }
  const auto segment = static_cast<SegReg>(r.memory.segment);
  const std::uint64_t in_segment = ((address - v.b->segment_base[segment]) & 0xffffffffu) + offset_bytes;
  return v.check_segment(segment, in_segment, sizeof selector, Access::Read) &&
         v.read_value((address + offset_bytes) & 0xffffffffu, selector);
}

}  // namespace

Outcome callout_far_jump(BtVcpu& v, const CalloutRecord& r) {
  std::uint16_t selector;
  std::uint64_t offset;
  if (!far_pointer(v, r, selector, offset)) return Outcome::Fault;
  return v.far_jump(selector, offset, v.rip_of(r.next_offset));
}

Outcome callout_far_call(BtVcpu& v, const CalloutRecord& r) {
  std::uint16_t selector;
  std::uint64_t offset;
  if (!far_pointer(v, r, selector, offset)) return Outcome::Fault;
  return v.far_call(selector, offset, r.operand_bytes, v.rip_of(r.next_offset));
}

Outcome callout_far_return(BtVcpu& v, const CalloutRecord& r) {
  return v.far_return(r.operand_bytes, r.opcode == 0xca ? static_cast<unsigned>(r.immediate & 0xffff) : 0);
}

CalloutFunction callout_for_mnemonic(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_HLT:
      return callout_hlt;
    case ZYDIS_MNEMONIC_SYSCALL:
      return callout_syscall;
    case ZYDIS_MNEMONIC_SYSRET:
      return callout_sysret;
    case ZYDIS_MNEMONIC_SYSENTER:
      return callout_sysenter;
    case ZYDIS_MNEMONIC_SYSEXIT:
      return callout_sysexit;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
      return callout_iret;
    case ZYDIS_MNEMONIC_INT:
      return callout_int_n;
    case ZYDIS_MNEMONIC_INT3:
      return callout_int3;
    case ZYDIS_MNEMONIC_INT1:
      return callout_int1;
    case ZYDIS_MNEMONIC_INTO:
      return callout_into;
    case ZYDIS_MNEMONIC_JMP:
      return callout_far_jump;
    case ZYDIS_MNEMONIC_CALL:
      return callout_far_call;
    case ZYDIS_MNEMONIC_RET:
      return callout_far_return;
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
      return callout_hypercall;
    case ZYDIS_MNEMONIC_VMRUN:
      return callout_vmrun;
    case ZYDIS_MNEMONIC_VMLOAD:
      return callout_vmload;
    case ZYDIS_MNEMONIC_VMSAVE:
      return callout_vmsave;
    case ZYDIS_MNEMONIC_STGI:
      return callout_stgi;
    case ZYDIS_MNEMONIC_CLGI:
      return callout_clgi;
    case ZYDIS_MNEMONIC_INVLPGA:
      return callout_invlpga;
    case ZYDIS_MNEMONIC_CLAC:
      return callout_clac;
    case ZYDIS_MNEMONIC_STAC:
      return callout_stac;
    case ZYDIS_MNEMONIC_SWAPGS:
      return callout_swapgs;
    case ZYDIS_MNEMONIC_CPUID:
      return callout_cpuid;
    case ZYDIS_MNEMONIC_RDMSR:
      return callout_rdmsr;
    case ZYDIS_MNEMONIC_WRMSR:
      return callout_wrmsr;
    case ZYDIS_MNEMONIC_RDPMC:
      return callout_rdpmc;
    case ZYDIS_MNEMONIC_CLTS:
      return callout_clts;
    case ZYDIS_MNEMONIC_LMSW:
      return callout_lmsw;
    case ZYDIS_MNEMONIC_SMSW:
      return callout_smsw;
    case ZYDIS_MNEMONIC_INVLPG:
      return callout_invlpg;
    case ZYDIS_MNEMONIC_INVPCID:
      return callout_invpcid;
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD:
      return callout_cache_control;
    case ZYDIS_MNEMONIC_XGETBV:
      return callout_xgetbv;
    case ZYDIS_MNEMONIC_XSETBV:
      return callout_xsetbv;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
      return callout_fsgsbase;
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
      return callout_in_out;
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
      return callout_string_in_out;
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
      return callout_load_far_pointer;
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
      return callout_store_descriptor_table;
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
      return callout_load_descriptor_table;
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
      return callout_sldt_str;
    case ZYDIS_MNEMONIC_LLDT:
      return callout_lldt;
    case ZYDIS_MNEMONIC_LTR:
      return callout_ltr;
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
      return callout_lar_lsl;
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
      return callout_verr_verw;
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
      return callout_fxsave;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
      return callout_fxrstor;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
      return callout_xsave;
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
      return callout_xrstor;
    case ZYDIS_MNEMONIC_FNSTENV:
      return callout_fnstenv;
    case ZYDIS_MNEMONIC_FLDENV:
      return callout_fldenv;
    case ZYDIS_MNEMONIC_FNSAVE:
      return callout_fnsave;
    case ZYDIS_MNEMONIC_FRSTOR:
      return callout_frstor;
    case ZYDIS_MNEMONIC_AAA:
      return callout_aaa;
    case ZYDIS_MNEMONIC_AAS:
      return callout_aas;
    case ZYDIS_MNEMONIC_AAD:
      return callout_aad;
    case ZYDIS_MNEMONIC_AAM:
      return callout_aam;
    case ZYDIS_MNEMONIC_DAA:
      return callout_daa;
    case ZYDIS_MNEMONIC_DAS:
      return callout_das;
    case ZYDIS_MNEMONIC_SALC:
      return callout_salc;
    case ZYDIS_MNEMONIC_BOUND:
      return callout_bound;
    case ZYDIS_MNEMONIC_ARPL:
      return callout_arpl;
    default:
      return nullptr;
  }
}

}  // namespace veneer::cpu::bt
