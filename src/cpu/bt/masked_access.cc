// The slow path of masked memory operands: only active elements are touched, and only they can fault. Register-only.
//
// The fast path checks the whole operand and runs the instruction on guest memory. When that check fails, the mask
// decides: the active bytes go through a buffer on which the same instruction runs (traps.md 7), and of a store only
// they are written back; neighbours may be another device's, or change under us by DMA.
#include "cpu/bt/masked_access.h"

#include <algorithm>

#include "base/bits.h"
#include "base/units.h"
#include "cpu/bt/copy_bytes.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"
#include "cpu/bt/vector_registers.h"

namespace veneer::cpu::bt {
namespace {

/// Behind the descriptor stand the jump back to the fast form (5 bytes), then the record's address.
const CalloutRecord& record_of(const AccessDescriptor& d) {
  const CalloutRecord* record;
  __builtin_memcpy(&record, reinterpret_cast<const std::uint8_t*>(&d) + sizeof d + masked_record_distance, 8);
  return *record;
}

unsigned population(std::uint64_t bits) {
  std::uint64_t n;
  asm("popcntq %1, %0" : "=r"(n) : "r"(bits) : "cc");
  return static_cast<unsigned>(n);
}

/// Where a pointer into guest memory is in the guest's terms.
GuestPhys physical_of(const machine::GuestMemory& memory, HostPtr host) {
  for (const auto& slot : memory.slots())
    if (static_cast<std::uint64_t>(host - slot->host) < slot->size_bytes)
      return slot->base + static_cast<std::uint64_t>(host - slot->host);
  return {};
}

}  // namespace

std::uint64_t mask_value(const VectorOperands& o) {
  switch (o.kind) {
    case MaskKind::Opmask:
    case MaskKind::Compress:
      return o.mask ? vector_registers::opmask(o.mask) : ~std::uint64_t{0};
    case MaskKind::SignBits: {
      VectorValue value;
      vector_registers::store(o.mask, false, value);
      std::uint64_t bits = 0;
      for (unsigned i = 0; i < o.elements; i++)
        bits |= std::uint64_t{value.byte[(i + 1) * o.element_bytes - 1]} >> 7 << i;
      return bits;
    }
    case MaskKind::None:
      break;
  }
  return ~std::uint64_t{0};
}

std::uint64_t active_bytes(const VectorOperands& o, std::uint64_t mask) {
  if (o.kind == MaskKind::Opmask) {
    mask &= low_bits(o.mask_bits);
    for (unsigned folded = o.elements; folded < o.mask_bits; folded *= 2) mask |= mask >> folded;
  }
  if (o.kind == MaskKind::Compress) mask = low_bits(population(mask & low_bits(o.mask_bits)));
  mask &= low_bits(o.elements);
  std::uint64_t bytes = 0;
  for_each_run(
      mask, [&](unsigned first, unsigned n) { bytes |= low_bits(n * o.element_bytes) << (first * o.element_bytes); });
  return bytes;
}

/// What to take off the address of the operand's byte `n`, whose offset in the segment is too large for the address
/// size: the elements of VMASKMOV wrap one by one (Zen 4).
std::uint64_t BtVcpu::element_wrap(const AccessDescriptor& d, const CalloutRecord& r, unsigned n) const {
  if (r.memory.address_bytes == 8 || r.vector.kind != MaskKind::SignBits) return 0;
  const bool based = !code64() || d.segment == FS || d.segment == GS;
  std::uint64_t offset = b->t0 - (based ? b->segment_base[d.segment] : 0);
  if (!code64()) offset &= 0xffffffffu;
  const std::uint64_t end = r.memory.address_bytes == 4 ? 4 * GiB : 64 * KiB;
  return offset + n >= end ? end : 0;
}

std::uint64_t BtVcpu::masked_access(const AccessDescriptor& d, bool misaligned) {
  const CalloutRecord& r = record_of(d);
  const std::uint64_t address = b->t0;
  const bool stack = d.flags & AccessDescriptor::STACK;
  const bool write = d.flags & AccessDescriptor::WRITE;
  if (r.vector.faults_whole && !range_reachable(d.segment, address, d.size)) {
    raise(stack ? VECTOR_SS : VECTOR_GP, 0);
    return refuse_access(d);
  }
  masked_.bytes = active_bytes(r.vector, mask_value(r.vector));
  masked_.address = address;
  if (misaligned && masked_.bytes) {
    raise(VECTOR_GP, 0);
    return refuse_access(d);
  }
  const std::uint64_t checked = r.vector.faults_whole ? low_bits(d.size) : masked_.bytes;
  const auto first = static_cast<unsigned>(std::min<std::uint64_t>(d.size, page_size - (address & page_offset_mask)));
  const std::uint64_t parts[2] = {checked & low_bits(first), first < d.size ? checked >> first : 0};
  const unsigned starts[2] = {0, first};
  const auto reachable = [&](std::uint64_t at) {
    if (!code64()) return true;
    return canonical(at) && ((d.segment != FS && d.segment != GS) || offset_canonical(d.segment, at, 1));
  };
  // Element by element: #GP and #SS of all of the first one come before its #PF.
  if (const unsigned at = checked ? static_cast<unsigned>(__builtin_ctzll(checked)) : 0;
      checked && !(reachable(address + at) && reachable(address + at + r.vector.element_bytes - 1))) {
    raise(stack ? VECTOR_SS : VECTOR_GP, 0);
    return refuse_access(d);
  }
  // The first element's segment check comes before its page's, those of the others after it (Zen 4).
  auto in_segment = [&](unsigned at, unsigned n) {
    const auto which = static_cast<SegReg>(d.segment);
    const std::uint64_t offset = ((address - b->segment_base[which]) & 0xffffffffu) + at - element_wrap(d, r, at);
    return check_segment(which, offset, n, write ? Access::Write : Access::Read);
  };
  if (!code64() && r.vector.faults_whole && !in_segment(0, d.size)) return refuse_access(d);
  if (checked && !code64()) {
    const auto lowest = static_cast<unsigned>(__builtin_ctzll(checked));
    if (!in_segment(lowest, r.vector.element_bytes - lowest % r.vector.element_bytes)) return refuse_access(d);
  }
  if (checked && r.vector.aligned_bytes && !check_alignment(address, r.vector.aligned_bytes)) return refuse_access(d);
  HostPtr host[2] = {};
  for (unsigned i = 0; i < 2; i++) {
    if (!parts[i]) continue;
    const auto lowest = static_cast<unsigned>(__builtin_ctzll(parts[i]));
    std::uint64_t at = address + starts[i] + lowest - element_wrap(d, r, starts[i] + lowest);
    if (!code64()) {
      at &= 0xffffffffu;
      const unsigned element = (starts[i] + lowest) % r.vector.element_bytes;
      if (!in_segment(starts[i] + lowest, r.vector.element_bytes - element)) return refuse_access(d);
    }
    if (!reachable(at)) {
      raise(stack ? VECTOR_SS : VECTOR_GP, 0);
      return refuse_access(d);
    }
    bool faulted;
    GuestPhys physical;
    host[i] = page_pointer(at, write ? Access::Write : Access::Read, false, physical, faulted);
    if (faulted) return refuse_access(d);
    const auto beyond = 64 - static_cast<unsigned>(__builtin_clzll(parts[i]));
    if (!code64() && !in_segment(starts[i] + lowest, beyond - lowest)) return refuse_access(d);
    if (host[i]) {
      host[i] -= lowest;
      if (write) physical = physical_of(engine_.memory(), host[i]);
    } else {
      physical.value -= lowest;
    }
    masked_.part[i] = physical;
  }
  masked_.first_bytes = first;
  if (first == d.size && host[0]) {
    b->t1 = reinterpret_cast<std::uint64_t>(host[0]) - address;
    if (!vectors_loaded_) load_vectors();
    return AccessAnswer::go_on;
  }
  if (watch_data_)
    for_each_run(masked_.bytes, [&](unsigned at, unsigned n) { note_data_access(address + at, n, write); });
  count.bounces++;
  std::uint8_t* buffer = bounce_area() + (address & 63);
  if (!write) {
    for (unsigned i = 0; i < 2; i++)
      for_each_run(parts[i], [&](unsigned at, unsigned n) {
        std::uint8_t* to = buffer + starts[i] + at;
        if (host[i])
          copy_bytes(to, host[i] + at, n);
        else
          physical_read(masked_.part[i] + at, to, n);
      });
  }
  b->t1 = reinterpret_cast<std::uint64_t>(buffer) - address;
  if (!vectors_loaded_) load_vectors();
  return write ? d.jump_bytes : AccessAnswer::go_on;
}

void BtVcpu::masked_write_back() {
  const unsigned first = masked_.first_bytes;
  const std::uint8_t* buffer = bounce_area() + (masked_.address & 63);
  for_each_run(masked_.bytes & low_bits(first),
               [&](unsigned at, unsigned n) { physical_write(masked_.part[0] + at, buffer + at, n); });
  if (first >= 64) return;
  for_each_run(masked_.bytes >> first,
               [&](unsigned at, unsigned n) { physical_write(masked_.part[1] + at, buffer + first + at, n); });
}

}  // namespace veneer::cpu::bt
