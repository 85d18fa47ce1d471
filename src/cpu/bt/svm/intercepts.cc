// Instructions of a guest that its hypervisor may want to see (APM 2 15.9 to 15.11). Register-only.
//
// Blocks of Mode::NESTED call out for these, and the callout comes here first. An instruction's own exceptions that
// need no operand come before its intercept, the others after it (APM 2 table 15-7).
#include "cpu/bt/callouts.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t MOV_INSTRUCTION = std::uint64_t{1} << 63;

enum class Kind : std::uint8_t { None, Always, Privileged, System, Time, Svm, Control, Io, Other };

struct Intercept {
  Kind kind = Kind::None;
  ExitCode code = ExitCode::INVALID;
};

/// How each is treated; the code where there is but one.
Intercept intercept_of(unsigned mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
      return {Kind::Always, ExitCode::CPUID};
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
      return {Kind::Always, ExitCode::PUSHF};
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
      return {Kind::Always, ExitCode::POPF};
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
      return {Kind::Always, ExitCode::IRET};
    case ZYDIS_MNEMONIC_INT1:
      return {Kind::Always, ExitCode::ICEBP};
    case ZYDIS_MNEMONIC_PAUSE:
      return {Kind::Always, ExitCode::PAUSE};
    case ZYDIS_MNEMONIC_RDTSC:
      return {Kind::Time, ExitCode::RDTSC};
    case ZYDIS_MNEMONIC_RDTSCP:
      return {Kind::Time, ExitCode::RDTSCP};
    case ZYDIS_MNEMONIC_HLT:
      return {Kind::Privileged, ExitCode::HLT};
    case ZYDIS_MNEMONIC_INVD:
      return {Kind::Privileged, ExitCode::INVD};
    case ZYDIS_MNEMONIC_WBINVD:
      return {Kind::Privileged, ExitCode::WBINVD};
    case ZYDIS_MNEMONIC_LGDT:
      return {Kind::Privileged, ExitCode::GDTR_WRITE};
    case ZYDIS_MNEMONIC_LIDT:
      return {Kind::Privileged, ExitCode::IDTR_WRITE};
    case ZYDIS_MNEMONIC_LLDT:
      return {Kind::System, ExitCode::LDTR_WRITE};
    case ZYDIS_MNEMONIC_LTR:
      return {Kind::System, ExitCode::TR_WRITE};
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INVLPG:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_XSETBV:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
      return {Kind::Other};
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_CLTS:
    case ZYDIS_MNEMONIC_LMSW:
    case ZYDIS_MNEMONIC_SMSW:
      return {Kind::Control};
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
      return {Kind::Io};
    case ZYDIS_MNEMONIC_VMRUN:
      return {Kind::Svm, ExitCode::VMRUN};
    case ZYDIS_MNEMONIC_VMLOAD:
      return {Kind::Svm, ExitCode::VMLOAD};
    case ZYDIS_MNEMONIC_VMSAVE:
      return {Kind::Svm, ExitCode::VMSAVE};
    case ZYDIS_MNEMONIC_STGI:
      return {Kind::Svm, ExitCode::STGI};
    case ZYDIS_MNEMONIC_CLGI:
      return {Kind::Svm, ExitCode::CLGI};
    case ZYDIS_MNEMONIC_INVLPGA:
      return {Kind::Svm, ExitCode::INVLPGA};
    default:
      return {};
  }
}

bool protected_mode(const BtVcpu& v) { return (v.s.cr0 & CR0_PE) && !(v.s.rflags & RFLAGS_VM); }

/// What one instruction of a guest does, for the hypervisor that may want it.
class Look {
 public:
  Look(BtVcpu& v, const GuestCalloutRecord& r) : v_(v), r_(r) {}

  /// True after a #VMEXIT.
  bool leaves() {
    const Intercept what = intercept_of(r_.mnemonic);
    const bool supervisor = v_.cpl() == 0;
    switch (what.kind) {
      case Kind::None:
        return false;
      case Kind::Always:
        return wanted(what.code);
      case Kind::Privileged:
        return supervisor && wanted(what.code);
      case Kind::System:
        return supervisor && protected_mode(v_) && wanted(what.code);
      case Kind::Time:
        return (supervisor || !(v_.s.cr4 & CR4_TSD)) && wanted(what.code);
      case Kind::Svm:
        return supervisor && protected_mode(v_) && (v_.s.efer & EFER_SVME) && wanted(what.code);
      case Kind::Control:
        return control();
      case Kind::Io:
        return io();
      case Kind::Other:
        break;
    }
    return other();
  }

 private:
  bool leave(ExitCode code, std::uint64_t info1 = 0, std::uint64_t info2 = 0) {
    v_.leave_guest({.code = code, .info1 = info1, .info2 = info2, .next_rip = v_.rip_of(r_.next_offset)},
                   v_.rip_of(r_.offset));
    return true;
  }
  bool wanted(ExitCode code, std::uint64_t info1 = 0) { return v_.intercepts(code) && leave(code, info1); }

  bool other() {
    const bool supervisor = v_.cpl() == 0;
    const bool shown = supervisor || !(v_.s.cr4 & CR4_UMIP);
    switch (r_.mnemonic) {
      case ZYDIS_MNEMONIC_SGDT:
        return shown && wanted(ExitCode::GDTR_READ);
      case ZYDIS_MNEMONIC_SIDT:
        return shown && wanted(ExitCode::IDTR_READ);
      case ZYDIS_MNEMONIC_SLDT:
        return shown && protected_mode(v_) && wanted(ExitCode::LDTR_READ);
      case ZYDIS_MNEMONIC_STR:
        return shown && protected_mode(v_) && wanted(ExitCode::TR_READ);
      case ZYDIS_MNEMONIC_RDPMC:
        return (supervisor || (v_.s.cr4 & CR4_PCE)) && wanted(ExitCode::RDPMC);
      case ZYDIS_MNEMONIC_INT:
        return wanted(ExitCode::SWINT, r_.immediate & 0xff);
      case ZYDIS_MNEMONIC_INVLPG:
        return supervisor && wanted(ExitCode::INVLPG);
      case ZYDIS_MNEMONIC_XSETBV:
        return supervisor && (v_.s.cr4 & CR4_OSXSAVE) && wanted(ExitCode::XSETBV);
      case ZYDIS_MNEMONIC_VMMCALL:
        return wanted(ExitCode::VMMCALL);
      case ZYDIS_MNEMONIC_RDMSR:
        return supervisor && msr(false);
      case ZYDIS_MNEMONIC_WRMSR:
        return supervisor && msr(true);
      default:
        return false;
    }
  }

  bool control() {
    if (r_.mnemonic == ZYDIS_MNEMONIC_SMSW)
      return (v_.cpl() == 0 || !(v_.s.cr4 & CR4_UMIP)) && wanted(ExitCode::READ_CR0);
    if (v_.cpl() != 0) return false;
    if (r_.mnemonic == ZYDIS_MNEMONIC_CLTS) return wanted(ExitCode::WRITE_CR0);
    // LMSW counts as selective whatever it writes (APM 2 15.9).
    if (r_.mnemonic == ZYDIS_MNEMONIC_LMSW) return wanted(ExitCode::WRITE_CR0) || wanted(ExitCode::CR0_SEL_WRITE);
    const std::uint64_t info = MOV_INSTRUCTION | r_.rm;
    if (r_.instruction == callout_mov_from_debug) return r_.reg < 8 && wanted(ExitCode::READ_DR0 + r_.reg, info);
    if (r_.instruction == callout_mov_to_debug) return r_.reg < 8 && wanted(ExitCode::WRITE_DR0 + r_.reg, info);
    const bool exists = r_.reg == 0 || (r_.reg >= 2 && r_.reg <= 4) || r_.reg == 8;
    if (!exists) return false;
    if (r_.instruction == callout_mov_from_control) return wanted(ExitCode::READ_CR0 + r_.reg, info);
    if (r_.instruction != callout_mov_to_control) return false;
    if (wanted(ExitCode::WRITE_CR0 + r_.reg, info)) return true;
    const std::uint64_t changed = (v_.s.cr0 ^ v_.reg(r_.rm)) & ~(CR0_TS | CR0_MP);
    return r_.reg == 0 && changed && wanted(ExitCode::CR0_SEL_WRITE, info);
  }

  /// Two bits for each MSR of three ranges; what is outside is intercepted (APM 2 15.11).
  bool msr(bool write) {
    if (!v_.intercepts(ExitCode::MSR)) return false;
    const auto index = static_cast<std::uint32_t>(v_.reg(RCX));
    const std::uint32_t in_range = index & 0x1fff;
    std::uint64_t at = 0;
    if (index >> 13 == 0)
      at = 0;
    else if (index >> 13 == 0xc0000000u >> 13)
      at = 0x800;
    else if (index >> 13 == 0xc0010000u >> 13)
      at = 0x1000;
    else
      return leave(ExitCode::MSR, write);
    std::uint8_t bits;
    v_.physical_read(GuestPhys{v_.s.svm.msr_map + at + in_range / 4}, &bits, 1);
    return ((bits >> (2 * (in_range & 3) + write)) & 1) && leave(ExitCode::MSR, write);
  }

  /// A bit for each port that is touched (APM 2 15.10).
  bool io() {
    if (!v_.intercepts(ExitCode::IOIO)) return false;
    const bool string = r_.opcode >= 0x6c && r_.opcode <= 0x6f;
    const unsigned bytes = r_.opcode & 1 ? (r_.operand_bytes == 2 ? 2 : 4) : 1;
    const bool out = r_.opcode & 2;
    const auto port = static_cast<std::uint16_t>(string || (r_.opcode & 8) ? v_.reg(RDX) : r_.immediate & 0xff);
    const unsigned address_bytes = r_.memory.address_bytes;
    if (string && r_.rep) {
      const std::uint64_t count = v_.reg(RCX) << (64 - 8 * address_bytes);
      if (count == 0) return false;
    }
    if (!port_allowed(v_, port, bytes)) return false;  // its fault comes again, and is taken
    std::uint8_t map[2];
    v_.physical_read(GuestPhys{v_.s.svm.io_map + port / 8}, &map[0], 1);
    v_.physical_read(GuestPhys{v_.s.svm.io_map + port / 8 + 1}, &map[1], 1);
    const unsigned bits = (map[0] | unsigned{map[1]} << 8) >> (port & 7);
    if (!(bits & ((1u << bytes) - 1))) return false;
    constexpr unsigned STR = 1u << 2, REP = 1u << 3;
    std::uint64_t info = (out ? 0 : 1u) | bytes << 4 | std::uint64_t{port} << 16;
    info |= std::uint64_t{address_bytes / 2 == 4 ? 4u : address_bytes / 2} << 7;
    if (string) info |= STR | (r_.rep ? REP : 0) | (out ? std::uint64_t{r_.memory.segment} << 10 : 0);
    return leave(ExitCode::IOIO, info, v_.rip_of(r_.next_offset));
  }

  BtVcpu& v_;
  const GuestCalloutRecord& r_;
};

}  // namespace

bool may_be_intercepted(ZydisMnemonic mnemonic) { return intercept_of(mnemonic).kind != Kind::None; }

Outcome callout_in_guest(BtVcpu& v, const CalloutRecord& record) {
  const auto& r = static_cast<const GuestCalloutRecord&>(record);
  if (Look(v, r).leaves()) return Outcome::Leave;
  if (r.instruction == callout_hypercall) return v.fault(VECTOR_UD);  // nobody answers but the hypervisor
  SvmState& svm = v.s.svm;
  const bool cr8 = r.mnemonic == ZYDIS_MNEMONIC_MOV && r.reg == 8 && v.cpl() == 0;
  if (cr8 && svm.virtual_interrupt_masking && r.instruction == callout_mov_from_control) {
    v.set_reg(r.rm, svm.virtual_tpr, v.code64() ? 8 : 4);
    return Outcome::Continue;
  }
  if (cr8 && r.instruction == callout_mov_to_control) {
    const std::uint64_t value = v.reg(r.rm);
    if (value >> 4) return v.fault(VECTOR_GP, 0);
    svm.virtual_tpr = static_cast<std::uint8_t>(value);
    v.look_at_events();
    if (svm.virtual_interrupt_masking) return Outcome::Next;
  }
  return r.instruction(v, record);
}

}  // namespace veneer::cpu::bt
