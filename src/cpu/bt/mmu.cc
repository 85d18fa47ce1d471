// The MMU: page walks, TLB fills, and every access of C++ to guest-virtual memory. Register-only.
//
// SDM 3A chapter 4. Permissions, accessed and dirty bits, SMEP, SMAP, WP, NX are all settled here, at fill time.
#include "base/bits.h"
#include "base/flight_recorder.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80;
constexpr std::uint64_t PTE_NX = std::uint64_t{1} << 63;

void copy(void* to, const void* from, unsigned size) {
  auto* t = static_cast<std::uint8_t*>(to);
  auto* f = static_cast<const std::uint8_t*>(from);
  switch (size) {
    case 1:
      *t = *f;
      return;
    case 2:
      __builtin_memcpy(t, f, 2);
      return;
    case 4:
      __builtin_memcpy(t, f, 4);
      return;
    case 8:
      __builtin_memcpy(t, f, 8);
      return;
    default: {
      std::uint64_t n = size;
      asm volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(n) : : "memory");
    }
  }
}

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

/// What #AC wants of an operand of this many bytes (SDM 3A table 6-7; vectors: 16, as processors do).
unsigned natural_alignment(unsigned size) {
  switch (size) {
    case 10:  // m80
      return 8;
    case 14:  // the 16-bit FPU environment and state
    case 94:
      return 2;
    case 28:
    case 108:
      return 4;
    case 2:
    case 4:
    case 8:
      return size;
    case 16:
    case 32:
    case 64:
      return 16;
    default:
      return 1;
  }
}

}  // namespace

bool BtVcpu::walk(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out) {
  for (;;) {
    bool changed = false;
    const bool ok = walk_once(address, access, user, smap_override, out, changed);
    if (!changed) return ok;
  }
}

/// `changed`: an entry changed under the walk, which counts for nothing then.
bool BtVcpu::walk_once(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out,
                       bool& changed) {
  if (!(s.cr0 & CR0_PG)) {
    out = {GuestPhys{address & 0xffffffffu}, true, true};
    return true;
  }
  const bool pae = s.cr4 & CR4_PAE;
  const bool lma = s.long_mode();
  const bool nxe = s.efer & EFER_NXE;
  const bool write = access == Access::Write;
  const bool fetch = access == Access::Fetch;
  std::uint32_t error =
      (write ? PF_WRITE : 0) | (user ? PF_USER : 0) | (fetch && ((nxe && pae) || (s.cr4 & CR4_SMEP)) ? PF_FETCH : 0);
  auto page_fault = [&](std::uint32_t extra) {
    fault_ = Fault{VECTOR_PF, true, error | extra, lma ? address : address & 0xffffffffu};
    return false;
  };

  auto& memory = engine_.memory();
  const std::uint64_t physical_mask = byte_mask(8) >> (64 - engine_.cpuid().physical_bits());
  const std::uint64_t frame_mask = pae ? physical_mask & ~page_offset_mask : 0xfffff000u;
  std::uint64_t reserved = pae ? (~physical_mask & 0x000fffffffffffffu) : 0;
  if (pae && !nxe) reserved |= PTE_NX;
  if (pae && !lma) reserved |= std::uint64_t{0x7ff} << 52;

  unsigned level = lma ? 4 : pae ? 3 : 2;
  std::uint64_t table = s.cr3 & (pae ? (lma ? frame_mask : 0xffffffe0u) : 0xfffff000u);
  bool can_write = true, can_user = true, no_execute = false;
  std::uint64_t* entries[5] = {};
  std::uint64_t values[5] = {};
  GuestPhys places[5];
  std::uint64_t page_mask = page_offset_mask;
  const unsigned top = level;

  for (;; level--) {
    const unsigned bits = pae ? 9 : 10;
    const unsigned shift = page_shift + bits * (level - 1);
    const std::uint64_t index = (address >> shift) & ((1u << bits) - 1) & (pae && !lma && level == 3 ? 3u : ~0u);
    const GuestPhys place{table + index * (pae ? 8 : 4)};
    places[level] = place;
    HostPtr host = memory.at(place, pae ? 8 : 4);
    std::uint64_t entry = 0;
    if (host && pae)
      entry = __atomic_load_n(reinterpret_cast<std::uint64_t*>(host), __ATOMIC_RELAXED);
    else if (host)
      entry = __atomic_load_n(reinterpret_cast<std::uint32_t*>(host), __ATOMIC_RELAXED);
    else
      entry = byte_mask(pae ? 8 : 4);  // nobody answers: all ones, a reserved-bit fault
    entries[level] = reinterpret_cast<std::uint64_t*>(host);
    values[level] = entry;
    if (!(entry & PTE_P)) return page_fault(0);
    const bool pdpte = pae && !lma && level == 3;
    if (pdpte) {
      if (entry & (reserved | 0x1e6)) return page_fault(PF_PRESENT | PF_RESERVED);
      table = entry & frame_mask;
      continue;
    }
    if (entry & reserved) return page_fault(PF_PRESENT | PF_RESERVED);
    if (pae && level == 4 && (entry & PTE_PS)) return page_fault(PF_PRESENT | PF_RESERVED);
    can_write &= (entry & PTE_W) != 0;
    can_user &= (entry & PTE_U) != 0;
    no_execute |= pae && (entry & PTE_NX);
    const bool large = level > 1 && (entry & PTE_PS) && (pae || (s.cr4 & CR4_PSE));
    if (level == 1 || large) {
      if (large) {
        page_mask = (std::uint64_t{1} << shift) - 1;
        const std::uint64_t low_reserved =
            pae ? page_mask & ~std::uint64_t{0x1fff} : 0x3fe000 & ~std::uint64_t{0x1fe000};
        if (entry & low_reserved) return page_fault(PF_PRESENT | PF_RESERVED);
      }
      break;
    }
    table = entry & frame_mask;
  }

  // Permissions (SDM 3A 4.6.1)
  const bool wp = s.cr0 & CR0_WP;
  if (user) {
    if (!can_user || (write && !can_write) || (fetch && no_execute)) return page_fault(PF_PRESENT);
  } else {
    if (fetch && no_execute) return page_fault(PF_PRESENT);
    if (fetch && can_user && (s.cr4 & CR4_SMEP)) return page_fault(PF_PRESENT);
    if (!fetch && can_user && (s.cr4 & CR4_SMAP) && !smap_override) return page_fault(PF_PRESENT);
    if (write && !can_write && wp) return page_fault(PF_PRESENT);
  }

  // Accessed and dirty bits, atomically, top down.
  for (unsigned l = top; l >= level; l--) {
    if (pae && !lma && l == 3) continue;
    const std::uint64_t want = PTE_A | (l == level && write ? PTE_D : 0);
    if ((values[l] & want) == want) continue;
    // Only in the entry that was checked: another processor may be taking it away (SDM 3A 8.1.2.1).
    bool same;
    if (pae) {
      same = __atomic_compare_exchange_n(entries[l], &values[l], values[l] | want, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST);
    } else {
      auto expected = static_cast<std::uint32_t>(values[l]);
      same = __atomic_compare_exchange_n(reinterpret_cast<std::uint32_t*>(entries[l]), &expected,
                                         expected | static_cast<std::uint32_t>(want), false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST);
    }
    if (!same) {
      changed = true;
      return false;
    }
    values[l] |= want;
    if (auto* slot = memory.find(places[l]); slot && slot->code_pages[(places[l] - slot->base) >> page_shift])
      code_written(*slot, places[l] - slot->base, pae ? 8 : 4);
  }

  std::uint64_t frame = values[level] & frame_mask;
  if (!pae && level == 2) frame = (values[level] & 0xffc00000u) | ((values[level] & 0x1fe000u) << 19);  // PSE-36
  out.address = GuestPhys{(frame & ~page_mask) | (address & page_mask)};
  out.large = level > 1;
  const bool write_allowed = can_write || (!user && !wp);
  out.writable = write_allowed && (values[level] & PTE_D);
  return true;
}

HostPtr BtVcpu::page_pointer(std::uint64_t address, Access access, bool supervisor, GuestPhys& physical,
                             bool& faulted) {
  faulted = false;
  const bool user = cpl_ == 3 && !supervisor;
  const bool override_smap = user || !(s.cr4 & CR4_SMAP) || (!supervisor && (s.rflags & RFLAGS_AC));
  const Regime regime = user ? Regime::User : override_smap ? Regime::Override : Regime::Supervisor;
  Context& context = contexts_.current();
  const std::uint64_t page = address & ~page_offset_mask;
  const unsigned slot_index = static_cast<unsigned>(address >> page_shift) & (table_slots - 1);
  TlbTable& table = context.tlb(regime);
  const std::uint64_t tag = access == Access::Write ? table.write_tag[slot_index] : table.read_tag[slot_index];
  if (address + tag < page_size && tag != invalid_tag)
    return reinterpret_cast<HostPtr>(address + table.addend[slot_index]);

  Translation t;
  if (!walk(address, access, user, override_smap, t)) {
    faulted = true;
    return nullptr;
  }
  physical = t.address;
  if (watch_data_ && watched_page(address)) return nullptr;
  machine::MemorySlot* slot = engine_.memory().find(t.address);
  if (!slot) return nullptr;
  const std::uint64_t offset = t.address - slot->base;
  const bool rom = slot->kind == machine::SlotKind::Rom;
  const HostPtr host_page = slot->host + (offset & ~page_offset_mask);
  bool writable =
      t.writable && !rom && engine_.cache().may_write(code_page_id(slot->index, offset >> page_shift), index_);
  if (shadow_) {
    if (access == Access::Write && !rom && !shadow_lets_write(host_page)) {
      faulted = true;
      raise(VECTOR_MC);  // never seen: the trial is over
      return nullptr;
    }
    writable = writable && access == Access::Write;  // the first write must come here
  }
  context.fill(regime, page, host_page, writable, t.large);
  count.tlb_fills++;
  if (access == Access::Write && !writable) return nullptr;
  return slot->host + offset;
}

void BtVcpu::physical_read(GuestPhys address, void* out, unsigned size) {
  if (HostPtr host = engine_.memory().at(address, size)) return copy(out, host, size);
  auto* to = static_cast<std::uint8_t*>(out);
  if (shadow_keeps_off_device()) {
    for (unsigned i = 0; i < size; i++) to[i] = 0xff;
    return;
  }
  flight::record(flight::ring(index_), flight::Event::MmioRead, b->page_address, address.value, size);
  with_vectors_saved([&] {
    // Registers are 1, 2, 4 or 8 bytes wide; wider operands go in pieces as on the bus.
    for (unsigned done = 0; done < size;) {
      unsigned piece = 8;
      while (piece > size - done || ((address.value + done) & (piece - 1))) piece /= 2;
      if (size == 1 || size == 2 || size == 4 || size == 8) piece = size;
      const std::uint64_t value = engine_.board().read_mmio(address + done, piece);
      note(flight::Event::MmioRead, address.value + done, piece);
      __builtin_memcpy(to + done, &value, piece);
      done += piece;
    }
  });
}

void BtVcpu::physical_write(GuestPhys address, const void* data, unsigned size) {
  auto& memory = engine_.memory();
  machine::MemorySlot* slot = memory.find(address);
  if (slot && slot->kind == machine::SlotKind::Ram && address.value - slot->base.value + size <= slot->size_bytes) {
    const std::uint64_t offset = address - slot->base;
    if (shadow_ && !shadow_lets_write(slot->host + (offset & ~page_offset_mask))) return;
    copy(slot->host + offset, data, size);
    // Whoever translates marks the page, then reads it; this wrote, and now reads the mark.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (slot->code_pages[offset >> page_shift].load(std::memory_order_relaxed)) code_written(*slot, offset, size);
    return;
  }
  auto* from = static_cast<const std::uint8_t*>(data);
  if (shadow_keeps_off_device()) return;
  flight::record(flight::ring(index_), flight::Event::MmioWrite, b->page_address, address.value, size);
  with_vectors_saved([&] {
    for (unsigned done = 0; done < size;) {
      unsigned piece = 8;
      while (piece > size - done || ((address.value + done) & (piece - 1))) piece /= 2;
      if (size == 1 || size == 2 || size == 4 || size == 8) piece = size;
      std::uint64_t value = 0;
      __builtin_memcpy(&value, from + done, piece);
      note(flight::Event::MmioWrite, address.value + done, piece);
      engine_.board().write_mmio(address + done, piece, value);
      done += piece;
    }
  });
}

bool BtVcpu::probe(std::uint64_t address, Access access) {
  GuestPhys physical;
  bool faulted;
  page_pointer(address, access, false, physical, faulted);
  return !faulted;
}

bool BtVcpu::check_alignment(std::uint64_t address, unsigned size) {
  if (!must_be_aligned() || !(address & (natural_alignment(size) - 1))) return true;
  return raise(VECTOR_AC, 0);
}

/// #GP when the operand begins in canonical addresses and does not end there; its start is the caller's to check.
bool BtVcpu::end_canonical(std::uint64_t address, unsigned size) {
  if (!code64() || canonical(address + size - 1) || !canonical(address)) return true;
  return raise(VECTOR_GP, 0);
}

bool BtVcpu::read_memory(std::uint64_t address, void* out, unsigned size, bool supervisor) {
  if (!supervisor && !end_canonical(address, size)) return false;
  if (!supervisor && !check_alignment(address, size)) return false;
  if (watch_data_ && !supervisor) note_data_access(address, size, false);
  auto* to = static_cast<std::uint8_t*>(out);
  while (size) {
    const auto piece = static_cast<unsigned>(std::min<std::uint64_t>(size, page_size - (address & page_offset_mask)));
    GuestPhys physical;
    bool faulted;
    HostPtr host = page_pointer(address, Access::Read, supervisor, physical, faulted);
    if (faulted) return false;
    if (host)
      copy(to, host, piece);
    else
      physical_read(physical, to, piece);
    address += piece, to += piece, size -= piece;
  }
  return true;
}

bool BtVcpu::write_memory(std::uint64_t address, const void* data, unsigned size, bool supervisor) {
  if (!supervisor && !end_canonical(address, size)) return false;
  if (!supervisor && !check_alignment(address, size)) return false;
  if (watch_data_ && !supervisor) note_data_access(address, size, true);
  // Both pages must be writable before the first byte changes.
  const auto first = static_cast<unsigned>(std::min<std::uint64_t>(size, page_size - (address & page_offset_mask)));
  GuestPhys physical[2];
  HostPtr host[2] = {};
  bool faulted;
  host[0] = page_pointer(address, Access::Write, supervisor, physical[0], faulted);
  if (faulted) return false;
  if (first < size) {
    host[1] = page_pointer(address + first, Access::Write, supervisor, physical[1], faulted);
    if (faulted) return false;
  }
  auto* from = static_cast<const std::uint8_t*>(data);
  auto put = [&](unsigned i, const std::uint8_t* bytes, unsigned n) {
    if (host[i])
      copy(host[i], bytes, n);
    else
      physical_write(physical[i], bytes, n);
  };
  put(0, from, first);
  if (first < size) put(1, from + first, size - first);
  return true;
}

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
      reachable = offset_canonical(o.segment, ea, 1);
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

bool BtVcpu::range_reachable(const AccessDescriptor& d, std::uint64_t address) const {
  if (!code64()) return true;
  if (!canonical(address) || !canonical(address + d.size - 1)) return false;
  return (d.segment != FS && d.segment != GS) || offset_canonical(d.segment, address, d.size);
}

std::uint64_t BtVcpu::slow_access(const AccessDescriptor& d) {
  count.slow_accesses++;
  const std::uint64_t address = b->t0;
  const bool stack = d.flags & AccessDescriptor::STACK;
  auto fail = [&] {
    const Fault f = fault_;
    deliver(f, EventKind::Exception, rip_of(d.offset));
    b->exit_kind = static_cast<std::uint64_t>(ExitKind::Resume);
    return std::uint64_t{1};
  };
  const bool reachable = range_reachable(d, address);
  if (native_vector_ >= 0) {
    raise(static_cast<std::uint8_t>(native_vector_));
    native_vector_ = -1;
    return fail();
  }
  if ((d.flags & AccessDescriptor::WAITS) && x87_exception_pending()) {
    force_gp_ = false;
    raise(VECTOR_MF);
    return fail();
  }
  const bool masked = d.flags & AccessDescriptor::MASKED;
  const bool group = d.flags & AccessDescriptor::GROUP;
  const bool misaligned =
      (d.flags & AccessDescriptor::ALIGNED) && !group && (address & (d.size - 1u)) && !misalignment_allowed();
  if ((force_gp_ && reachable) || (misaligned && !masked)) {
    force_gp_ = false;
    raise(VECTOR_GP, 0);
    return fail();
  }
  force_gp_ = false;
  if (!code64() && !masked) {
    const auto which = static_cast<SegReg>(d.segment);
    if (!check_segment(which, (address - b->segment_base[which]) & 0xffffffffu, d.size,
                       d.flags & AccessDescriptor::WRITE ? Access::Write : Access::Read))
      return fail();
  }
  // Calls without end have no other place to look for events. A single-instruction block must get on: an interrupt
  // shadow may end with it.
  if (!mode.has(Mode::SINGLE) && kicked()) {
    b->rip = rip_of(d.offset);
    b->exit_kind = static_cast<std::uint64_t>(ExitKind::Poll);
    return 1;
  }
  if (masked) return masked_access(d, misaligned);
  if (!reachable && (d.flags & AccessDescriptor::GROUP)) return 5;
  if (!reachable) {
    const bool store = d.flags & AccessDescriptor::WRITE;
    const unsigned low = low_part(d.size, store);
    const bool low_reachable = low && canonical(address) && canonical(address + low - 1);
    if (low_reachable && !probe(address, store ? Access::Write : Access::Read)) return fail();
    raise(stack ? VECTOR_SS : VECTOR_GP, 0);
    return fail();
  }
  if (!check_alignment(address, d.size)) return fail();
  const bool write = d.flags & AccessDescriptor::WRITE;
  const Access access = write ? Access::Write : Access::Read;
  const auto first = static_cast<unsigned>(std::min<std::uint64_t>(d.size, page_size - (address & page_offset_mask)));
  bool faulted;
  if (d.flags & AccessDescriptor::GROUP) {
    // All in one plain page, or the ungrouped variant sorts it out, instruction by instruction. A fault is the leader's
    // own already: its access is in this page; jump_bytes says where.
    GuestPhys unused;
    constexpr std::uint64_t to_variant = 5;
    if (first != d.size) return to_variant;
    HostPtr page = page_pointer(address, access, false, unused, faulted);
    if (faulted && (d.flags & AccessDescriptor::ALIGNED)) return to_variant;  // #GP may come first
    if (faulted) {
      if (fault_.vector == VECTOR_PF) fault_.address += d.jump_bytes;
      return fail();
    }
    if (!page) return to_variant;
    b->t1 = reinterpret_cast<std::uint64_t>(page) - address;
    return 0;
  }
  GuestPhys physical[2];
  HostPtr host[2] = {};
  host[0] = page_pointer(address, access, false, physical[0], faulted);
  if (faulted) return fail();
  if (first == d.size && host[0]) {
    b->t1 = reinterpret_cast<std::uint64_t>(host[0]) - address;
    return vectors_loaded_ ? 0 : (load_vectors(), 0);
  }
  std::uint64_t second_address = address + first;
  if (!code64()) second_address &= 0xffffffffu;
  if (first < d.size) {
    host[1] = page_pointer(second_address, access, false, physical[1], faulted);
    if (faulted) return fail();
  }
  if (engine_.many() && write && first < d.size && !alone_ && (d.flags & AccessDescriptor::READ) &&
      !(d.flags & AccessDescriptor::STAY)) {
    // It may be locked: read, change and write two pages as one (traps.md 7).
    alone_wanted_ = true;
    b->rip = rip_of(d.offset);
    b->exit_kind = static_cast<std::uint64_t>(ExitKind::Resume);
    return 1;
  }
  if (watch_data_) note_data_access(address, d.size, write);
  bounce_.in_place = false;
  if (write && first == d.size && !watch_data_) {
    machine::MemorySlot* slot = engine_.memory().find(physical[0]);
    if (slot && slot->kind == machine::SlotKind::Ram) {
      // A page with code: the instruction runs on the operand itself, so that it is as atomic as it is; write_back()
      // then looks after the translations.
      count.bounces++;
      b->rip = rip_of(d.offset);
      const std::uint64_t offset = physical[0] - slot->base;
      b->t1 = reinterpret_cast<std::uint64_t>(slot->host + offset) - address;
      if (!vectors_loaded_) load_vectors();
      bounce_.in_place = true;
      bounce_.size = d.size;
      bounce_.part[0] = physical[0];
      return d.jump_bytes;
    }
  }
  // The bounce: the operand goes through a buffer with the same low 6 address bits.
  count.bounces++;
  bounced_address_ = address;
  b->rip = rip_of(d.offset);  // for the flight recorder
  std::uint8_t* buffer = bounce_area() + (address & 63);
  if (!write || (d.flags & AccessDescriptor::READ)) {
    auto get = [&](unsigned i, std::uint8_t* to, unsigned n) {
      if (host[i])
        copy(to, host[i], n);
      else
        physical_read(physical[i], to, n);
    };
    get(0, buffer, first);
    if (first < d.size) get(1, buffer + first, d.size - first);
  }
  b->t1 = reinterpret_cast<std::uint64_t>(buffer) - address;
  if (!vectors_loaded_) load_vectors();
  if (!write) return 0;
  bounce_.address = address;
  bounce_.size = d.size;
  bounce_.first_bytes = first;
  // Pages are kept by physical address: between here and write_back() nothing can change the mapping.
  for (unsigned i = 0; i < 2; i++)
    if (host[i]) {
      for (const auto& slot : engine_.memory().slots())
        if (static_cast<std::uint64_t>(host[i] - slot->host) < slot->size_bytes)
          physical[i] = slot->base + static_cast<std::uint64_t>(host[i] - slot->host);
    }
  bounce_.part[0] = physical[0];
  bounce_.part[1] = physical[1];
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
  if (leave_soon_ && !(d.flags & AccessDescriptor::STAY)) {
    b->rip = rip_of(d.next_offset);
    b->exit_kind = static_cast<std::uint64_t>(ExitKind::Resume);
    return 1;
  }
  if (!vectors_loaded_) load_vectors();
  return 0;
}

void BtVcpu::code_written(machine::MemorySlot& slot, std::uint64_t offset, std::uint64_t size) {
  count.code_writes++;
  note(flight::Event::Invalidate, slot.base.value + offset, static_cast<std::uint32_t>(size));
  const std::uint64_t first = offset >> page_shift, last = (offset + size - 1) >> page_shift;
  const CodeLockGuard hold(engine_.cache().lock());
  for (std::uint64_t page = first; page <= last; page++) {
    const std::uint64_t from = page == first ? offset & page_offset_mask : 0;
    const std::uint64_t to = page == last ? ((offset + size - 1) & page_offset_mask) + 1 : page_size;
    if (engine_.cache().invalidate(code_page_id(slot.index, page), from, to - from)) leave_soon_ = true;
  }
  // Another vCPU may have killed the running block already, over other bytes of it.
  if (engine_.cache().counters().invalidated != invalidated_at_entry_) leave_soon_ = true;
}

// ---- contexts

void BtVcpu::select_context() {
  // What a context is valid for: the table root (with PCID when enabled) and the bits that change permissions.
  const bool paging = s.cr0 & CR0_PG;
  std::uint64_t tag = paging ? (s.cr4 & CR4_PCIDE ? s.cr3 : s.cr3 & ~std::uint64_t{0xfff}) : 1;
  tag |= std::uint64_t{(s.cr0 & CR0_WP) != 0} << 63;
  tag |= std::uint64_t{(s.cr4 & CR4_SMAP) != 0} << 62;
  tag |= std::uint64_t{(s.cr4 & CR4_SMEP) != 0} << 61;
  tag |= std::uint64_t{(s.efer & EFER_NXE) != 0} << 60;
  tag |= std::uint64_t{(s.efer & EFER_LMA) != 0} << 59;
  tag |= std::uint64_t{(s.cr4 & CR4_PAE) != 0} << 58;
  tag |= std::uint64_t{(s.cr4 & CR4_PCIDE) != 0} << 57;
  tag |= std::uint64_t{(s.cr4 & CR4_PSE) != 0} << 56;
  tag |= std::uint64_t{paging} << 55;
  contexts_.select(tag);
  drop_returns();
  count.context_switches++;
  load_gs();
}

void BtVcpu::load_cr3(std::uint64_t value, bool keep) {
  s.cr3 = value;
  if (!keep && (s.cr4 & CR4_PCIDE)) {
    // All of this PCID goes, whatever root it was used with: a later load with bit 63 would revive it (SDM
    // 3A 4.10.4.1).
    contexts_.for_each([&](Context& c) {
      if ((c.tag & 0xfff) == (value & 0xfff)) c.flush();
    });
    return select_context();
  }
  select_context();
  if (!keep) contexts_.current().flush();
}

void BtVcpu::paging_mode_changed() {
  flush_all_contexts();
  select_context();
}

void BtVcpu::flush_all_contexts() {
  drop_returns();
  contexts_.for_each([](Context& c) { c.flush(); });
}

void BtVcpu::invalidate_page(std::uint64_t address) {
  note(flight::Event::TlbFlush, address);
  drop_returns();
  // Global entries may live in any context, so all of them drop the page.
  contexts_.for_each([&](Context& c) { c.invalidate_page(address); });
}

}  // namespace veneer::cpu::bt
