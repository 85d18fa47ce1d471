// Where a translated memory access goes that the TLB check did not let through, and the bounce. Register-only.
#include "cpu/bt/copy_bytes.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

/// AMD's misaligned SSE mode, MXCSR.MM (APM 1 4.3.2).
bool misalignment_allowed() {
  constexpr std::uint32_t MXCSR_MM = 1u << 17;
  std::uint32_t mxcsr;
  asm volatile("stmxcsr %0" : "=m"(mxcsr));
  return mxcsr & MXCSR_MM;
}

bool x87_exception_pending() {
  constexpr std::uint16_t FSW_ES = 1u << 7;
  std::uint16_t status;
  asm volatile("fnstsw %0" : "=a"(status));
  return status & FSW_ES;
}

/// Operands that are accessed in two parts, lower one first, each with a #GP and a #PF of its own (Zen 4): m80 as 8 and
/// 2 bytes, a store of 64 as two of 32. The size of the lower one, or 0.
unsigned low_part(unsigned size, bool store) {
  if (size == 10) return 8;
  return size == 64 && store ? 32 : 0;
}

}  // namespace

std::uint64_t BtVcpu::effective_address(const MemoryOperand& o) const {
  std::uint64_t ea = static_cast<std::uint64_t>(o.displacement);
  if (o.base == MemoryOperand::rip)
    ea += b->page_address;
  else if (o.base != MemoryOperand::none)
    ea += b->gpr[o.base];
  if (o.index != MemoryOperand::none) ea += b->gpr[o.index] << o.scale_log2;
  if (o.address_bytes == 4) ea &= 0xffffffffu;
  if (o.address_bytes == 2) ea &= 0xffffu;
  return ea;
}

bool BtVcpu::linear_address(const MemoryOperand& o, std::uint64_t& out, std::uint64_t size, Access access) {
  std::uint64_t ea = effective_address(o);
  if (code64()) {
    bool reachable = true;
    if (o.segment == FS || o.segment == GS) {
      ea += b->segment_base[o.segment];
      reachable = offset_canonical(o.segment, ea, static_cast<unsigned>(size));
    }
    if (!reachable || !canonical(ea)) return raise(o.segment == SS ? VECTOR_SS : VECTOR_GP, 0);
  } else {
    if (!check_segment(static_cast<SegReg>(o.segment), ea, size, access)) return false;
    ea = (ea + b->segment_base[o.segment]) & 0xffffffffu;
  }
  out = ea;
  return true;
}

bool BtVcpu::offset_canonical(unsigned segment, std::uint64_t linear, unsigned size) const {
  const std::uint64_t offset = linear - b->segment_base[segment];
  return !engine_.amd() || (canonical(offset) && canonical(offset + size - 1));
}

bool BtVcpu::range_reachable(unsigned segment, std::uint64_t address, unsigned size) const {
  if (!code64()) return true;
  if (!canonical(address) || !canonical(address + size - 1)) return false;
  return (segment != FS && segment != GS) || offset_canonical(segment, address, size);
}

/// Delivers the fault that was noted, for the instruction of this access.
std::uint64_t BtVcpu::refuse_access(const AccessDescriptor& d) {
  const Fault f = fault_;
  deliver(f, EventKind::Exception, rip_of(d.offset));
  b->exit_kind = static_cast<std::uint64_t>(ExitKind::Resume);
  return AccessAnswer::left;
}

/// Faults that come before those of pages: what the host's processor met in this place, alignment, segments.
bool BtVcpu::passes_before_paging(const AccessDescriptor& d, std::uint64_t address, bool misaligned) {
  if (native_vector_ >= 0) {
    const auto vector = static_cast<std::uint8_t>(native_vector_);
    native_vector_ = -1;
    return raise(vector);
  }
  const bool forced = force_gp_;
  force_gp_ = false;
  if ((d.flags & AccessDescriptor::WAITS) && x87_exception_pending()) return raise(VECTOR_MF);
  const bool masked = d.flags & AccessDescriptor::MASKED;
  if ((forced && range_reachable(d.segment, address, d.size)) || (misaligned && !masked)) return raise(VECTOR_GP, 0);
  if (code64() || masked) return true;
  const auto which = static_cast<SegReg>(d.segment);
  return check_segment(which, (address - b->segment_base[which]) & 0xffffffffu, d.size,
                       d.flags & AccessDescriptor::WRITE ? Access::Write : Access::Read);
}

std::uint64_t BtVcpu::slow_access(const AccessDescriptor& d) {
  count.slow_accesses++;
  const std::uint64_t address = b->t0;
  const bool write = d.flags & AccessDescriptor::WRITE;
  const bool group = d.flags & AccessDescriptor::GROUP;
  const bool misaligned =
      (d.flags & AccessDescriptor::ALIGNED) && !group && (address & (d.size - 1u)) && !misalignment_allowed();
  if (!passes_before_paging(d, address, misaligned)) return refuse_access(d);
  // Calls without end have no other place to look for events. A single-instruction block must get on: an interrupt
  // shadow may end with it.
  if (!mode.has(Mode::SINGLE) && kicked()) return leave_before(d, ExitKind::Poll);
  if (d.flags & AccessDescriptor::MASKED) return masked_access(d, misaligned);
  if (!range_reachable(d.segment, address, d.size)) {
    if (group) return AccessAnswer::to_variant;
    const unsigned low = low_part(d.size, write);
    if (low && range_reachable(d.segment, address, low) && !probe(address, write ? Access::Write : Access::Read))
      return refuse_access(d);
    raise(d.flags & AccessDescriptor::STACK ? VECTOR_SS : VECTOR_GP, 0);
    return refuse_access(d);
  }
  if (!check_alignment(address, d.size)) return refuse_access(d);
  if (!group) return operand_access(d, address);
  const std::uint64_t answer = group_access(d, address);
  // The way to the variant may lead through the run loop, where events are looked at.
  return answer == AccessAnswer::to_variant && d.behind_sti ? leave_before(d, ExitKind::Resume) : answer;
}

/// To the run loop, with this instruction still to do. STI inside the block has left no shadow behind so far.
std::uint64_t BtVcpu::leave_before(const AccessDescriptor& d, ExitKind kind) {
  if (d.behind_sti) set_interrupt_shadow();
  b->rip = rip_of(d.offset);
  b->exit_kind = static_cast<std::uint64_t>(kind);
  return AccessAnswer::left;
}

/// All in one plain page, or the ungrouped variant sorts it out, instruction by instruction. A fault is the leader's
/// own already: its access is in this page; jump_bytes says where.
std::uint64_t BtVcpu::group_access(const AccessDescriptor& d, std::uint64_t address) {
  if ((address & page_offset_mask) + d.size > page_size) return AccessAnswer::to_variant;
  GuestPhys unused;
  bool faulted;
  const Access access = d.flags & AccessDescriptor::WRITE ? Access::Write : Access::Read;
  const HostPtr page = page_pointer(address, access, false, unused, faulted);
  if (faulted) {
    if (d.flags & AccessDescriptor::ALIGNED) return AccessAnswer::to_variant;  // #GP may come first
    if (fault_.vector == VECTOR_PF) fault_.address += d.jump_bytes;
    if (fault_.vector == VECTOR_VMEXIT) noted_exit_.info2 += d.jump_bytes;
    return refuse_access(d);
  }
  if (!page) return AccessAnswer::to_variant;
  b->t1 = reinterpret_cast<std::uint64_t>(page) - address;
  return AccessAnswer::go_on;
}

std::uint64_t BtVcpu::operand_access(const AccessDescriptor& d, std::uint64_t address) {
  const bool write = d.flags & AccessDescriptor::WRITE;
  const Access access = write ? Access::Write : Access::Read;
  const auto first = static_cast<unsigned>(std::min<std::uint64_t>(d.size, page_size - (address & page_offset_mask)));
  OperandParts parts{.first_bytes = first};
  bool faulted;
  parts.host[0] = page_pointer(address, access, false, parts.physical[0], faulted);
  if (faulted) return refuse_access(d);
  if (first == d.size && parts.host[0]) {
    b->t1 = reinterpret_cast<std::uint64_t>(parts.host[0]) - address;
    if (!vectors_loaded_) load_vectors();
    return AccessAnswer::go_on;
  }
  if (first < d.size) {
    const std::uint64_t second = code64() ? address + first : (address + first) & 0xffffffffu;
    parts.host[1] = page_pointer(second, access, false, parts.physical[1], faulted);
    if (faulted) return refuse_access(d);
  }
  if (engine_.many() && write && first < d.size && !alone_ && (d.flags & AccessDescriptor::READ) &&
      !(d.flags & AccessDescriptor::STAY)) {
    // It may be locked: read, change and write two pages as one (traps.md 7).
    alone_wanted_ = true;
    return leave_before(d, ExitKind::Resume);
  }
  if (watch_data_) note_data_access(address, d.size, write);
  count.bounces++;
  b->rip = rip_of(d.offset);  // for the flight recorder
  bounce_.in_place = false;
  if (write && first == d.size && !watch_data_ && write_in_place(d, address, parts.physical[0])) return d.jump_bytes;
  return bounce(d, address, parts);
}

/// A page with code: the instruction runs on the operand itself, so that it is as atomic as it is; write_back() then
/// looks after the translations. False where this is not RAM.
bool BtVcpu::write_in_place(const AccessDescriptor& d, std::uint64_t address, GuestPhys physical) {
  machine::MemorySlot* slot = engine_.memory().find(physical);
  if (!slot || !slot->writable_at(physical - slot->base)) return false;
  b->t1 = reinterpret_cast<std::uint64_t>(slot->host + (physical - slot->base)) - address;
  if (!vectors_loaded_) load_vectors();
  bounce_.in_place = true;
  bounce_.size = d.size;
  bounce_.part[0] = physical;
  return true;
}

/// The operand goes through a buffer with the same low 6 address bits.
std::uint64_t BtVcpu::bounce(const AccessDescriptor& d, std::uint64_t address, const OperandParts& parts) {
  const bool write = d.flags & AccessDescriptor::WRITE;
  bounced_address_ = address;
  std::uint8_t* buffer = bounce_area() + (address & 63);
  if (!write || (d.flags & AccessDescriptor::READ)) {
    auto get = [&](unsigned i, std::uint8_t* to, unsigned n) {
      if (parts.host[i])
        copy_operand(to, parts.host[i], n);
      else
        physical_read(parts.physical[i], to, n);
    };
    get(0, buffer, parts.first_bytes);
    if (parts.first_bytes < d.size) get(1, buffer + parts.first_bytes, d.size - parts.first_bytes);
  }
  b->t1 = reinterpret_cast<std::uint64_t>(buffer) - address;
  if (!vectors_loaded_) load_vectors();
  if (!write) return AccessAnswer::go_on;
  bounce_.address = address;
  bounce_.size = d.size;
  bounce_.first_bytes = parts.first_bytes;
  // Pages are kept by physical address: between here and write_back() nothing can change the mapping.
  for (unsigned i = 0; i < 2; i++) {
    bounce_.part[i] = parts.physical[i];
    if (!parts.host[i]) continue;
    for (const auto& slot : engine_.memory().slots())
      if (static_cast<std::uint64_t>(parts.host[i] - slot->host) < slot->size_bytes)
        bounce_.part[i] = slot->base + static_cast<std::uint64_t>(parts.host[i] - slot->host);
  }
  return d.jump_bytes;
}

std::uint64_t BtVcpu::write_back(const AccessDescriptor& d) {
  leave_soon_ = false;
  const std::uint8_t* buffer = bounce_area() + (bounce_.address & 63);
  if (d.flags & AccessDescriptor::MASKED) {
    masked_write_back();
  } else if (bounce_.in_place) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);  // as in physical_write()
    machine::MemorySlot* slot = engine_.memory().find(bounce_.part[0]);
    const std::uint64_t offset = bounce_.part[0] - slot->base;
    if (slot->code_pages[offset >> page_shift].load(std::memory_order_relaxed))
      code_written(*slot, offset, bounce_.size);
  } else {
    physical_write(bounce_.part[0], buffer, bounce_.first_bytes);
    if (bounce_.first_bytes < bounce_.size)
      physical_write(bounce_.part[1], buffer + bounce_.first_bytes, bounce_.size - bounce_.first_bytes);
  }
  // A kick may be the write's own doing: an interrupt to this processor comes right behind it.
  if ((leave_soon_ || kicked()) && !(d.flags & AccessDescriptor::STAY)) {
    b->rip = rip_of(d.next_offset);
    b->exit_kind = static_cast<std::uint64_t>(ExitKind::Resume);
    return AccessAnswer::left;
  }
  if (!vectors_loaded_) load_vectors();
  return AccessAnswer::go_on;
}

}  // namespace veneer::cpu::bt
