// Accesses of C++ to guest memory, by virtual and by physical address; TLB fills. Register-only.
#include "base/bits.h"
#include "base/flight_recorder.h"
#include "cpu/bt/copy_bytes.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

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
  const bool rom = !slot->writable_at(offset);
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
  context.fill(regime, page, host_page, {writable, t.large, t.global});
  count.tlb_fills++;
  if (access == Access::Write && !writable) return nullptr;
  return slot->host + offset;
}

bool BtVcpu::answered_by_device(std::uint64_t address) {
  GuestPhys physical;
  bool faulted;
  return !page_pointer(address, Access::Read, false, physical, faulted) && !faulted && !engine_.memory().find(physical);
}

void BtVcpu::physical_read(GuestPhys address, void* out, unsigned size) {
  if (HostPtr host = engine_.memory().at(address, size)) return copy_operand(out, host, size);
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
  const std::uint64_t offset = slot ? address - slot->base : 0;
  if (slot && offset + size <= slot->size_bytes && slot->writable_at(offset)) {
    if (shadow_ && !shadow_lets_write(slot->host + (offset & ~page_offset_mask))) return;
    copy_operand(slot->host + offset, data, size);
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
  // A flash chip that shows something else now: the next instruction may look at it.
  if (map_changed_.load(std::memory_order_relaxed)) leave_soon_ = true;
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
      copy_operand(to, host, piece);
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
      copy_operand(host[i], bytes, n);
    else
      physical_write(physical[i], bytes, n);
  };
  put(0, from, first);
  if (first < size) put(1, from + first, size - first);
  return true;
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

}  // namespace veneer::cpu::bt
