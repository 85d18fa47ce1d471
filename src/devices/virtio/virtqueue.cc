// Split ring: taking chains, giving them back, notification suppression.
#include "devices/virtio/virtqueue.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/log.h"

namespace veneer::devices {

/// Virtio 1.2 2.7.5.
struct VirtQueue::Descriptor {
  std::uint64_t address;
  std::uint32_t length;
  std::uint16_t flags;
  std::uint16_t next;
};

namespace {

constexpr std::uint16_t DESC_F_NEXT = 1;
constexpr std::uint16_t DESC_F_WRITE = 2;
constexpr std::uint16_t DESC_F_INDIRECT = 4;
constexpr std::uint16_t AVAIL_F_NO_INTERRUPT = 1;
constexpr std::uint64_t descriptor_bytes = 16;
/// 2.7.5: a chain's buffers are at most 2^32 bytes together.
constexpr std::uint64_t chain_bytes_max = std::uint64_t{1} << 32;

LogLimiter& complaints() {
  static LogLimiter limiter;
  return limiter;
}

}  // namespace

void VirtQueue::reset() {
  setup_ = Setup{.size = size_max_, .descriptors = {}, .driver_area = {}, .device_area = {}, .enabled = false};
  event_index_ = broken_ = false;
  next_available_ = next_used_ = signalled_used_ = 0;
}

std::optional<VirtChain> VirtQueue::break_ring(const char* why) {
  log_guest(complaints(), "virtqueue: {}", why);
  broken_ = true;
  return std::nullopt;
}

/// Ring indices are shared with other processors: one aligned access each, never a copy in pieces. Sequentially
/// consistent, because both sides publish an index and then look at what the other wants (2.7.7.2, 2.7.10.1).
std::optional<std::uint16_t> VirtQueue::load16(GuestPhys address) const {
  std::uint16_t value = 0;
  if (address.value % sizeof value == 0) {
    const auto run = memory_.translate(address, sizeof value, machine::DmaAccess::Read);  // aligned: one page, one run
    const HostPtr host = run ? memory_.memory().at(run->address, sizeof value) : nullptr;
    if (!host) return std::nullopt;
    return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(host)).load(std::memory_order_seq_cst);
  }
  if (!memory_.read_value(address, value)) return std::nullopt;
  return value;
}

bool VirtQueue::store16(GuestPhys address, std::uint16_t value) {
  if (address.value % sizeof value != 0) return memory_.write_value(address, value);
  const auto run = memory_.translate(address, sizeof value, machine::DmaAccess::Write);
  if (!run) return false;
  machine::GuestMemory& memory = memory_.memory();
  const machine::MemorySlot* slot = memory.find(run->address);
  if (!slot || slot->kind != machine::SlotKind::Ram) return memory.write_value(run->address, value);
  const HostPtr host = memory.at(run->address, sizeof value);
  if (!host) return false;
  std::atomic_ref(*reinterpret_cast<std::uint16_t*>(host)).store(value, std::memory_order_seq_cst);
  memory.written(run->address, sizeof value);
  return true;
}

std::optional<std::uint16_t> VirtQueue::available_index() const { return load16(setup_.driver_area + 2); }

std::optional<VirtChain> VirtQueue::pop() {
  VirtChain chain;
  if (!pop(chain)) return std::nullopt;
  return chain;
}

bool VirtQueue::pop(VirtChain& chain) {
  const auto refuse = [this](const char* why) { return break_ring(why).has_value(); };
  if (broken_ || !setup_.enabled) return false;
  auto available = available_index();
  if (available && *available == next_available_ && event_index_) {
    // Ask for a notification, then look again: the driver may have added one before it saw that (2.7.10).
    if (!store16(avail_event(), next_available_)) return refuse("avail_event is outside RAM");
    available = available_index();
  }
  if (!available) return refuse("the driver area is outside RAM");
  const auto waiting = static_cast<std::uint16_t>(*available - next_available_);
  if (waiting == 0) return false;
  if (waiting > setup_.size) return refuse("the available index ran ahead of the queue size");

  const auto head = load16(setup_.driver_area + 4u + 2u * (next_available_ % setup_.size));
  if (!head) return refuse("the driver area is outside RAM");
  ++next_available_;
  return read_chain(*head, chain);
}

std::optional<VirtChain> VirtQueue::reread(std::uint16_t head) {
  if (broken_ || !setup_.enabled) return std::nullopt;
  VirtChain chain;
  if (!read_chain(head, chain)) return std::nullopt;
  return chain;
}

bool VirtQueue::read_chain(std::uint16_t head, VirtChain& chain) {
  if (head >= setup_.size) return break_ring("an available descriptor is beyond the table").has_value();
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  chain.readable_bytes = chain.writable_bytes = 0;
  if (collect(Table::Ring, setup_.descriptors, setup_.size, head, chain)) return true;
  broken_ = true;
  return false;
}

/// Follows a chain through a descriptor table. A table can be left only once (no loops), an indirect one not again.
bool VirtQueue::collect(Table kind, GuestPhys table, std::uint32_t entries, std::uint32_t first, VirtChain& chain) {
  const auto refuse = [this](const char* why) { return break_ring(why).has_value(); };
  std::uint32_t index = first;
  for (std::uint32_t steps = 0; steps < entries; ++steps) {
    Descriptor descriptor{};
    static_assert(sizeof descriptor == descriptor_bytes);
    if (!memory_.read_value(table + index * descriptor_bytes, descriptor))
      return refuse("a descriptor table is outside RAM");

    if (descriptor.flags & DESC_F_INDIRECT) {
      if (kind == Table::Indirect) return refuse("an indirect descriptor inside an indirect table");
      if (descriptor.flags & DESC_F_NEXT) return refuse("an indirect descriptor with a successor");
      const auto count = static_cast<std::uint32_t>(descriptor.length / descriptor_bytes);
      if (count == 0 || count > max_chain || descriptor.length % descriptor_bytes != 0)
        return refuse("an indirect table of impossible size");
      return collect(Table::Indirect, GuestPhys{descriptor.address}, count, 0, chain);
    }
    if (!add_segment(descriptor, chain)) return false;
    if (!(descriptor.flags & DESC_F_NEXT)) return true;
    if (descriptor.next >= entries) return refuse("a descriptor's successor is beyond the table");
    index = descriptor.next;
  }
  return refuse("a descriptor chain is a loop");
}

bool VirtQueue::add_segment(const Descriptor& descriptor, VirtChain& chain) {
  const auto refuse = [this](const char* why) { return break_ring(why).has_value(); };
  const bool writable = (descriptor.flags & DESC_F_WRITE) != 0;
  if (!writable && !chain.writable.empty()) return refuse("a readable buffer behind a writable one");
  if (chain.readable.size() + chain.writable.size() >= max_chain) return refuse("a descriptor chain is too long");
  if (descriptor.address + descriptor.length < descriptor.address) return refuse("a buffer wraps around");
  (writable ? chain.writable : chain.readable).push_back({GuestPhys{descriptor.address}, descriptor.length});
  (writable ? chain.writable_bytes : chain.readable_bytes) += descriptor.length;
  if (chain.readable_bytes + chain.writable_bytes > chain_bytes_max) return refuse("a chain of over 4 GiB");
  return true;
}

void VirtQueue::push(std::uint16_t head, std::uint32_t written) {
  if (broken_ || !setup_.enabled) return;
  struct {
    std::uint32_t id, length;
  } const element{head, written};
  const GuestPhys slot = setup_.device_area + 4u + 8u * (next_used_ % setup_.size);
  ++next_used_;
  // The element before the index that makes it visible (2.7.8.1).
  if (!memory_.write_value(slot, element) || !store16(setup_.device_area + 2, next_used_))
    break_ring("the device area is outside RAM");
}

bool VirtQueue::interrupt_wanted() {
  if (broken_ || !setup_.enabled || next_used_ == signalled_used_) return false;
  const std::uint16_t before = signalled_used_;
  signalled_used_ = next_used_;
  if (!event_index_) return (load16(setup_.driver_area).value_or(0) & AVAIL_F_NO_INTERRUPT) == 0;
  const std::uint16_t event = load16(used_event()).value_or(before);
  return static_cast<std::uint16_t>(next_used_ - event - 1) < static_cast<std::uint16_t>(next_used_ - before);
}

void VirtQueue::save(machine::SnapshotWriter& out) const {
  out.section("virtqueue");
  out.put(setup_.size);
  out.put(setup_.descriptors.value);
  out.put(setup_.driver_area.value);
  out.put(setup_.device_area.value);
  out.put(static_cast<std::uint8_t>(setup_.enabled));
  out.put(static_cast<std::uint8_t>(event_index_));
  out.put(static_cast<std::uint8_t>(broken_));
  out.put(next_available_);
  out.put(next_used_);
  out.put(signalled_used_);
}

void VirtQueue::restore(machine::SnapshotReader& in) {
  in.section("virtqueue");
  in.get(setup_.size);
  in.get(setup_.descriptors.value);
  in.get(setup_.driver_area.value);
  in.get(setup_.device_area.value);
  setup_.enabled = in.get<std::uint8_t>() != 0;
  event_index_ = in.get<std::uint8_t>() != 0;
  broken_ = in.get<std::uint8_t>() != 0;
  in.get(next_available_);
  in.get(next_used_);
  in.get(signalled_used_);
  if (setup_.size == 0 || setup_.size > size_max_ || (setup_.size & (setup_.size - 1)) != 0) {
    in.fail();
    reset();
  }
}

namespace {

/// Calls copy(address, piece offset, piece bytes) for the part of `segments` that [offset, offset + size) covers,
/// until copy fails; gives the bytes done.
template <typename Copy>
std::size_t walk(const std::vector<VirtSegment>& segments, std::uint64_t offset, std::size_t size, Copy copy) {
  std::size_t done = 0;
  for (const VirtSegment& segment : segments) {
    if (done == size) break;
    if (offset >= segment.bytes) {
      offset -= segment.bytes;
      continue;
    }
    const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(segment.bytes - offset, size - done));
    if (!copy(segment.address + offset, done, piece)) break;
    done += piece;
    offset = 0;
  }
  return done;
}

}  // namespace

std::size_t copy_to_chain(const machine::DmaSpace& memory, const VirtChain& chain, std::uint64_t offset,
                          std::span<const std::byte> data) {
  return walk(chain.writable, offset, data.size(), [&](GuestPhys address, std::size_t at, std::size_t size) {
    return memory.write(address, data.subspan(at, size));
  });
}

std::size_t copy_from_chain(const machine::DmaSpace& memory, const VirtChain& chain, std::uint64_t offset,
                            std::span<std::byte> out) {
  return walk(chain.readable, offset, out.size(), [&](GuestPhys address, std::size_t at, std::size_t size) {
    return memory.read(address, out.subspan(at, size));
  });
}

}  // namespace veneer::devices
