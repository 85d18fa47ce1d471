// Callouts for control registers, MSRs, CPUID, TLB control, time and ports. Register-only.
#include "base/flight_recorder.h"
#include "cpu/bt/callouts.h"
#include "cpu/bt/control_registers.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"
#include "cpu/cpuid_features.h"
#include "cpu/msr.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t CR3_NO_FLUSH = std::uint64_t{1} << 63;
constexpr std::uint64_t DR6_BD = 1u << 13, DR7_GD = 1u << 13;

}  // namespace

Outcome callout_cpuid(BtVcpu& v, const CalloutRecord&) {
  CpuidResult result;
  v.with_vectors_saved([&] {
    CpuidPolicy::Dynamic dynamic;
    dynamic.apic_id = v.index();
    dynamic.osxsave = v.s.cr4 & CR4_OSXSAVE;
    dynamic.xcr0 = v.s.xcr0;
    if (auto base = v.interrupts().read_msr(0x1b)) dynamic.apic_enabled = (*base >> 11) & 1;
    result = v.engine().cpuid().query(static_cast<std::uint32_t>(v.reg(RAX)), static_cast<std::uint32_t>(v.reg(RCX)),
                                      dynamic);
  });
  v.b->gpr[RAX] = result.eax;
  v.b->gpr[RBX] = result.ebx;
  v.b->gpr[RCX] = result.ecx;
  v.b->gpr[RDX] = result.edx;
  return Outcome::Next;  // it serialises: another vCPU's changes to this block count from here on
}

Outcome callout_rdmsr(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const auto index = static_cast<std::uint32_t>(v.reg(RCX));
  std::uint64_t value = 0;
  bool ok = true;
  v.with_vectors_saved([&] {
    const MsrRow* row = find_msr(index, v.engine().cpuid());
    if (!row) {
      ok = false;
      return;
    }
    switch (row->kind) {
      case MsrKind::Apic:
        if (auto a = v.interrupts().read_msr(index))
          value = *a;
        else
          ok = false;
        break;
      case MsrKind::Tsc:
        value = v.read_tsc();
        break;
      default:
        v.s.segments[FS].base = v.b->segment_base[FS];
        v.s.segments[GS].base = v.b->segment_base[GS];
        v.s.kernel_gs_base = v.b->kernel_gs_base;
        if (auto a = read_msr(v.s, v.engine().cpuid(), index))
          value = *a;
        else
          ok = false;
    }
  });
  if (!ok) return v.fault(VECTOR_GP, 0);
  v.note(flight::Event::MsrRead, value, index);
  v.b->gpr[RAX] = value & 0xffffffffu;
  v.b->gpr[RDX] = value >> 32;
  return Outcome::Continue;
}

Outcome callout_wrmsr(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const auto index = static_cast<std::uint32_t>(v.reg(RCX));
  const std::uint64_t value = (v.reg(RAX) & 0xffffffffu) | (v.reg(RDX) << 32);
  bool ok = true, clock = false;
  const std::uint64_t old_efer = v.s.efer;
  v.with_vectors_saved([&] {
    const MsrRow* row = find_msr(index, v.engine().cpuid());
    if (!row) {
      ok = false;
      return;
    }
    switch (row->kind) {
      case MsrKind::Apic:
        ok = msr_value_allowed(*row, v.engine().cpuid(), value) && v.interrupts().write_msr(index, value);
        break;
      case MsrKind::Tsc: {
        const std::uint64_t moved = value - v.read_tsc();
        v.s.tsc_offset += moved;
        v.s.tsc_adjust += moved;
        break;
      }
      default:
        v.s.segments[FS].base = v.b->segment_base[FS];
        v.s.segments[GS].base = v.b->segment_base[GS];
        v.s.kernel_gs_base = v.b->kernel_gs_base;
        ok = write_msr(v.s, v.engine().cpuid(), index, value);
        v.b->segment_base[FS] = v.s.segments[FS].base;
        v.b->segment_base[GS] = v.s.segments[GS].base;
        v.b->kernel_gs_base = v.s.kernel_gs_base;
        clock = row->kind == MsrKind::PvClock;
    }
  });
  if (!ok) return v.fault(VECTOR_GP, 0);
  v.note(flight::Event::MsrWrite, value, index);
  v.tsc_changed();
  if (clock) v.update_pvclock(index, value);
  flight::record(flight::ring(v.index()), flight::Event::MsrWrite, v.b->page_address, value, index);
  if (v.s.efer != old_efer) v.paging_mode_changed();
  v.mode_changed();
  return Outcome::Next;
}

Outcome callout_rdtsc(BtVcpu& v, const CalloutRecord&) {
  if ((v.s.cr4 & CR4_TSD) && v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const std::uint64_t tsc = v.read_tsc();
  v.b->gpr[RAX] = tsc & 0xffffffffu;
  v.b->gpr[RDX] = tsc >> 32;
  return Outcome::Continue;
}

Outcome callout_rdtscp(BtVcpu& v, const CalloutRecord& r) {
  const Outcome o = callout_rdtsc(v, r);
  if (o == Outcome::Continue) v.b->gpr[RCX] = v.s.tsc_aux & 0xffffffffu;
  return o;
}

Outcome callout_rdpmc(BtVcpu& v, const CalloutRecord&) { return v.fault(VECTOR_GP, 0); }

Outcome callout_mov_from_control(BtVcpu& v, const CalloutRecord& r) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  std::uint64_t value = 0;
  switch (r.reg) {
    case 0:
      value = v.s.cr0;
      break;
    case 2:
      value = v.s.cr2;
      break;
    case 3:
      value = v.s.cr3;
      break;
    case 4:
      value = v.s.cr4;
      break;
    case 8:
      v.with_vectors_saved([&] { value = v.interrupts().cr8(); });
      break;
    default:
      return v.fault(VECTOR_UD);
  }
  v.set_reg(r.rm, value, v.code64() ? 8 : 4);
  return Outcome::Continue;
}

static Outcome write_cr0(BtVcpu& v, std::uint64_t value) {
  if (value >> 32) return v.fault(VECTOR_GP, 0);
  value = (value & (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)) | CR0_ET;
  if ((value & CR0_PG) && !(value & CR0_PE)) return v.fault(VECTOR_GP, 0);
  if ((value & CR0_NW) && !(value & CR0_CD)) return v.fault(VECTOR_GP, 0);
  const std::uint64_t changed = v.s.cr0 ^ value;
  if ((changed & CR0_PG) && (value & CR0_PG)) {
    if (v.s.efer & EFER_LME) {
      if (!(v.s.cr4 & CR4_PAE) || (v.s.segments[CS].attributes & Segment::L)) return v.fault(VECTOR_GP, 0);
      if ((v.s.tr.attributes & Segment::P) && !(v.s.tr.attributes & 8)) return v.fault(VECTOR_GP, 0);  // a 16-bit TSS
      v.s.efer |= EFER_LMA;
    }
  }
  // SDM 3A 4.4.1: these bits load the PDPTEs anew, with #GP for reserved bits.
  if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && (value & CR0_PG) && !v.load_pdptes(v.s.cr3, value, v.s.cr4))
    return v.fault(VECTOR_GP, 0);
  if ((changed & CR0_PG) && !(value & CR0_PG)) {
    if (v.code64() || (v.s.cr4 & CR4_PCIDE)) return v.fault(VECTOR_GP, 0);
    v.s.efer &= ~EFER_LMA;
  }
  v.s.cr0 = value;
  v.note(flight::Event::Control, value, 0);
  v.mode_changed();
  if (changed & (CR0_PG | CR0_WP | CR0_PE)) v.paging_mode_changed();
  return Outcome::Next;
}

static Outcome write_cr4(BtVcpu& v, std::uint64_t value) {
  if (value & ~cr4_allowed(v.engine().cpuid())) return v.fault(VECTOR_GP, 0);
  const std::uint64_t changed = v.s.cr4 ^ value;
  if (v.s.long_mode() && !(value & CR4_PAE)) return v.fault(VECTOR_GP, 0);
  if ((changed & CR4_PCIDE) && (value & CR4_PCIDE) && (!v.s.long_mode() || (v.s.cr3 & 0xfff)))
    return v.fault(VECTOR_GP, 0);
  if ((changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) && !v.load_pdptes(v.s.cr3, v.s.cr0, value))
    return v.fault(VECTOR_GP, 0);
  v.s.cr4 = value;
  v.note(flight::Event::Control, value, 4);
  v.mode_changed();
  if (changed & CR4_DE) v.debug_registers_changed();
  if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP)) v.paging_mode_changed();
  return Outcome::Next;
}

Outcome callout_mov_to_control(BtVcpu& v, const CalloutRecord& r) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const std::uint64_t value = v.code64() ? v.reg(r.rm) : v.reg(r.rm) & 0xffffffffu;
  flight::record(flight::ring(v.index()), flight::Event::Control, v.rip_of(r.offset), value, r.reg);
  switch (r.reg) {
    case 0:
      return write_cr0(v, value);
    case 2:
      v.s.cr2 = value;
      return Outcome::Continue;
    case 3: {
      const bool pcid = v.s.cr4 & CR4_PCIDE;
      const bool keep = pcid && (value & CR3_NO_FLUSH);
      std::uint64_t cr3 = pcid ? value & ~CR3_NO_FLUSH : value;
      if (v.s.long_mode()) {
        if (cr3 >> v.engine().cpuid().physical_bits()) return v.fault(VECTOR_GP, 0);
      } else {
        cr3 &= 0xffffffffu;
        if (!v.load_pdptes(cr3, v.s.cr0, v.s.cr4)) return v.fault(VECTOR_GP, 0);
      }
      v.note(flight::Event::Control, value, 3);
      v.load_cr3(cr3, keep);
      return Outcome::Next;
    }
    case 4:
      return write_cr4(v, value);
    case 8:
      if (value >> 4) return v.fault(VECTOR_GP, 0);
      v.with_vectors_saved([&] { v.interrupts().set_cr8(value); });
      return Outcome::Next;
    default:
      return v.fault(VECTOR_UD);
  }
}

/// Which debug register a MOV names, and whether it may have it: DR4 and DR5 are names of DR6 and DR7 unless CR4.DE is
/// set, and all may be under guard (SDM 3B 18.2.2, 18.2.4, 18.3.1.3).
static bool debug_register(BtVcpu& v, const CalloutRecord& r, unsigned& n) {
  n = r.modrm_reg;
  if (r.reg > 7) return v.raise(VECTOR_UD);
  if (n == 4 || n == 5) {
    if (v.s.cr4 & CR4_DE) return v.raise(VECTOR_UD);
    n += 2;
  }
  if (v.cpl() != 0) return v.raise(VECTOR_GP, 0);
  if (!(v.s.dr[7] & DR7_GD)) return true;
  v.s.dr[6] |= DR6_BD;
  return v.raise(VECTOR_DB);
}

Outcome callout_mov_from_debug(BtVcpu& v, const CalloutRecord& r) {
  unsigned n;
  if (!debug_register(v, r, n)) return Outcome::Fault;
  v.set_reg(r.rm, v.s.dr[n], v.code64() ? 8 : 4);
  return Outcome::Continue;
}

Outcome callout_mov_to_debug(BtVcpu& v, const CalloutRecord& r) {
  unsigned n;
  if (!debug_register(v, r, n)) return Outcome::Fault;
  const std::uint64_t value = v.code64() ? v.reg(r.rm) : v.reg(r.rm) & 0xffffffffu;
  if (n >= 6 && (value >> 32)) return v.fault(VECTOR_GP, 0);
  if (n == 6)
    v.s.dr[6] = (value & 0xe00f) | 0xffff0ff0u;
  else if (n == 7)
    v.s.dr[7] = (value & 0xffff2bffu) | 0x400;
  else
    v.s.dr[n] = value;
  if (n != 6 && (n == 7 || (v.s.dr[7] & 0xff))) v.debug_registers_changed();
  return Outcome::Next;
}

Outcome callout_clts(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  v.s.cr0 &= ~CR0_TS;
  v.mode_changed();
  return Outcome::Next;
}

Outcome callout_lmsw(BtVcpu& v, const CalloutRecord& r) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  std::uint16_t value;
  if (r.has_memory) {
    std::uint64_t address;
    if (!v.linear_address(r.memory, address, 2, Access::Read) || !v.read_value(address, value)) return Outcome::Fault;
  } else {
    value = static_cast<std::uint16_t>(v.reg(r.rm));
  }
  // PE can be set but not cleared.
  return write_cr0(v, (v.s.cr0 & ~std::uint64_t{0xe}) | (value & 0xf));
}

Outcome callout_smsw(BtVcpu& v, const CalloutRecord& r) {
  if ((v.s.cr4 & CR4_UMIP) && v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  if (!r.has_memory) {
    v.set_reg(r.rm, v.s.cr0, r.operand_bytes);
    return Outcome::Continue;
  }
  std::uint64_t address;
  const auto value = static_cast<std::uint16_t>(v.s.cr0);
  if (!v.linear_address(r.memory, address, 2, Access::Write) || !v.write_value(address, value)) return Outcome::Fault;
  return Outcome::Continue;
}

Outcome callout_invlpg(BtVcpu& v, const CalloutRecord& r) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  MemoryOperand m = r.memory;
  std::uint64_t address = v.effective_address(m);
  if (!v.code64() || m.segment == FS || m.segment == GS) address += v.b->segment_base[m.segment];
  if (v.code64() && !v.canonical(address)) return Outcome::Continue;  // a no-operation
  v.invalidate_page(address);
  return Outcome::Next;
}

Outcome callout_invpcid(BtVcpu& v, const CalloutRecord& r) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  std::uint64_t address, descriptor[2];
  if (!v.linear_address(r.memory, address, 16, Access::Read) || !v.read_memory(address, descriptor, 16))
    return Outcome::Fault;
  const std::uint64_t type = v.code64() ? v.reg(r.reg) : v.reg(r.reg) & 0xffffffffu;
  const std::uint64_t pcid = descriptor[0] & 0xfff;
  if (type > 3 || (descriptor[0] >> 12)) return v.fault(VECTOR_GP, 0);
  if (!(v.s.cr4 & CR4_PCIDE) && pcid && type < 2) return v.fault(VECTOR_GP, 0);
  if (type == 0 && !v.canonical(descriptor[1])) return v.fault(VECTOR_GP, 0);
  switch (type) {
    case 0:
      v.invalidate_page(descriptor[1]);
      break;
    case 1:
      v.drop_returns();
      v.contexts().for_each([&](Context& c) {
        if ((c.tag & 0xfff) == pcid) c.flush(Scope::ButGlobal);
      });
      break;
    default:
      v.flush_all_contexts();
  }
  return Outcome::Next;
}

Outcome callout_cache_control(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  return Outcome::Next;  // caches are coherent and invisible; but it serialises
}

Outcome callout_xgetbv(BtVcpu& v, const CalloutRecord&) {
  if (!(v.s.cr4 & CR4_OSXSAVE)) return v.fault(VECTOR_UD);
  const auto index = static_cast<std::uint32_t>(v.reg(RCX));
  if (index > 1 || (index == 1 && !has(v.engine().cpuid(), Feature::XGETBV1))) return v.fault(VECTOR_GP, 0);
  std::uint64_t value = v.s.xcr0;
  if (index == 1) {
    // XINUSE: the host's answer for our registers, restricted to what the guest has.
    std::uint32_t low, high;
    v.load_vectors();
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    value &= low | (std::uint64_t{high} << 32);
  }
  v.b->gpr[RAX] = value & 0xffffffffu;
  v.b->gpr[RDX] = value >> 32;
  return Outcome::Continue;
}

Outcome callout_xsetbv(BtVcpu& v, const CalloutRecord&) {
  if (!(v.s.cr4 & CR4_OSXSAVE)) return v.fault(VECTOR_UD);
  if (v.cpl() != 0 || static_cast<std::uint32_t>(v.reg(RCX)) != 0) return v.fault(VECTOR_GP, 0);
  const std::uint64_t value = (v.reg(RAX) & 0xffffffffu) | (v.reg(RDX) << 32);
  // SDM 1 13.3: x87 always; AVX needs SSE; the AVX-512 parts come together and need AVX.
  if ((value & ~v.engine().cpuid().xcr0_mask()) || !(value & 1) || ((value & 4) && !(value & 2)))
    return v.fault(VECTOR_GP, 0);
  if ((value & 0xe0) && ((value & 0xe0) != 0xe0 || !(value & 4))) return v.fault(VECTOR_GP, 0);
  v.s.xcr0 = value;
  v.mode_changed();
  return Outcome::Next;
}

Outcome callout_swapgs(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_GP, 0);
  const std::uint64_t base = v.b->segment_base[GS];
  v.b->segment_base[GS] = v.b->kernel_gs_base;
  v.b->kernel_gs_base = base;
  return Outcome::Continue;
}

Outcome callout_fsgsbase(BtVcpu& v, const CalloutRecord& r) {
  if (!(v.s.cr4 & CR4_FSGSBASE)) return v.fault(VECTOR_UD);
  // F3 0F AE /0 RDFSBASE, /1 RDGSBASE, /2 WRFSBASE, /3 WRGSBASE
  std::uint64_t& base = v.b->segment_base[r.modrm_reg & 1 ? GS : FS];
  if (r.modrm_reg < 2) {
    v.set_reg(r.rm, base, r.operand_bytes == 8 ? 8 : 4);  // 66h means nothing here
    return Outcome::Continue;
  }
  const std::uint64_t value = r.operand_bytes == 8 ? v.reg(r.rm) : v.reg(r.rm) & 0xffffffffu;
  if (!v.canonical(value)) return v.fault(VECTOR_GP, 0);
  base = value;
  return Outcome::Continue;
}

/// I/O permission bitmap (SDM 1 19.5.2).
bool port_allowed(BtVcpu& v, std::uint16_t port, unsigned bytes) {
  if (!(v.s.cr0 & CR0_PE)) return true;
  if (v.cpl() <= v.iopl() && !(v.s.rflags & RFLAGS_VM)) return true;
  if (!(v.s.tr.attributes & 8)) return v.raise(VECTOR_GP, 0);  // a 16-bit TSS has none
  std::uint16_t map, bits;
  if (v.s.tr.limit < 0x67) return v.raise(VECTOR_GP, 0);
  if (!v.read_value(v.s.tr.base + 0x66, map, true)) return false;
  const std::uint32_t at = map + port / 8u;
  if (at + 1 > v.s.tr.limit) return v.raise(VECTOR_GP, 0);
  if (!v.read_value(v.s.tr.base + at, bits, true)) return false;
  if ((bits >> (port & 7)) & ((1u << bytes) - 1)) return v.raise(VECTOR_GP, 0);
  return true;
}

Outcome callout_in_out(BtVcpu& v, const CalloutRecord& r) {
  // E4-E7 immediate, EC-EF DX; bit 0: not byte; bit 1: OUT.
  const unsigned bytes = r.opcode & 1 ? (r.operand_bytes == 2 ? 2 : 4) : 1;
  const auto port = static_cast<std::uint16_t>(r.opcode & 8 ? v.reg(RDX) : r.immediate & 0xff);
  if (!port_allowed(v, port, bytes)) return Outcome::Fault;
  v.note_port_access(port, bytes);
  if (r.opcode & 2) {
    const auto value = static_cast<std::uint32_t>(v.reg(RAX) & (bytes == 4 ? 0xffffffffu : (1u << (8 * bytes)) - 1));
    v.with_vectors_saved([&] { v.engine().board().write_port(port, bytes, value); });
    v.note(flight::Event::PortWrite, value, port | bytes << 16);
    return Outcome::Next;  // it may have raised or ended something
  }
  std::uint32_t value = 0;
  v.with_vectors_saved([&] { value = v.engine().board().read_port(port, bytes); });
  v.note(flight::Event::PortRead, value, port | bytes << 16);
  v.set_reg(RAX, value, bytes);
  return Outcome::Continue;
}

Outcome callout_string_in_out(BtVcpu& v, const CalloutRecord& r) {
  const bool out = r.opcode & 2;  // 6C 6D INS, 6E 6F OUTS
  const unsigned bytes = r.opcode & 1 ? (r.operand_bytes == 2 ? 2 : 4) : 1;
  const unsigned address_bytes = r.memory.address_bytes;
  const std::uint64_t mask = address_bytes == 8 ? ~std::uint64_t{0} : address_bytes == 4 ? 0xffffffffu : 0xffffu;
  const auto port = static_cast<std::uint16_t>(v.reg(RDX));
  if (!port_allowed(v, port, bytes)) return Outcome::Fault;  // also for no repetitions at all
  if (r.rep && (v.reg(RCX) & mask) == 0) return Outcome::Continue;
  v.note_port_access(port, bytes);
  const unsigned pointer = out ? RSI : RDI;
  MemoryOperand m = r.memory;
  m.base = m.index = MemoryOperand::none;
  m.displacement = static_cast<std::int64_t>(v.reg(pointer) & mask);
  if (!out) m.segment = ES;
  std::uint64_t address;
  if (!v.linear_address(m, address, bytes, out ? Access::Read : Access::Write)) return Outcome::Fault;
  std::uint32_t value = 0;
  if (out) {
    if (!v.read_memory(address, &value, bytes)) return Outcome::Fault;
    v.with_vectors_saved([&] { v.engine().board().write_port(port, bytes, value); });
    v.note(flight::Event::PortWrite, value, port | bytes << 16);
  } else {
    // The destination must be writable before the port is read.
    GuestPhys physical;
    bool faulted;
    v.page_pointer(address, Access::Write, false, physical, faulted);
    if (faulted) return Outcome::Fault;
    v.with_vectors_saved([&] { value = v.engine().board().read_port(port, bytes); });
    v.note(flight::Event::PortRead, value, port | bytes << 16);
    if (!v.write_memory(address, &value, bytes)) return Outcome::Fault;
  }
  const std::uint64_t step = v.b->direction ? -std::uint64_t{bytes} : bytes;
  v.set_reg(pointer, (v.reg(pointer) + step) & mask, address_bytes);
  if (!r.rep) return Outcome::Next;
  v.set_reg(RCX, (v.reg(RCX) - 1) & mask, address_bytes);
  if ((v.reg(RCX) & mask) == 0) return Outcome::Next;
  v.b->rip = v.rip_of(r.offset);  // the next round, with interrupts looked at in between
  return Outcome::Leave;
}

}  // namespace veneer::cpu::bt
