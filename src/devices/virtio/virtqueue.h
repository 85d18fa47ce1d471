// A split virtqueue as the device sees it. Everything in its rings may be hostile.
//
// State: size, addresses, indices, broken flag.
// Missing: packed rings, VIRTIO_F_RING_RESET, in-order use.
// Differs from the spec: an indirect table may be longer than the queue (Linux makes such), up to max_chain.
// Spec: Virtio 1.2, 2.7.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"
#include "machine/dma_space.h"
#include "machine/snapshot.h"

namespace veneer::devices {

/// One buffer of a descriptor chain: guest memory that may or may not exist.
struct VirtSegment {
  GuestPhys address;
  std::uint32_t bytes = 0;
};

/// A descriptor chain that the driver made available. At most VirtQueue::max_chain segments.
struct VirtChain {
  std::uint16_t head = 0;
  std::vector<VirtSegment> readable;  ///< what the driver wrote for the device
  std::vector<VirtSegment> writable;  ///< room for the device's answer

  std::uint64_t readable_bytes = 0;  ///< sum over readable
  std::uint64_t writable_bytes = 0;
};

/// Board lock held. A ring that makes no sense sets broken(): nothing is taken from it any more until reset(), and
/// the transport tells the driver (DEVICE_NEEDS_RESET). No guest content costs more than max_chain steps per pop().
class VirtQueue {
 public:
  static constexpr unsigned max_chain = 1024;

  VirtQueue(const machine::DmaSpace& memory, std::uint16_t size_max) : memory_(memory), size_max_(size_max) { reset(); }

  // For the transport.
  struct Setup {
    std::uint16_t size = 0;  ///< a power of two, at most size_max
    GuestPhys descriptors, driver_area, device_area;
    bool enabled = false;
  };
  std::uint16_t size_max() const { return size_max_; }
  Setup& setup() { return setup_; }
  const Setup& setup() const { return setup_; }
  void set_event_index(bool negotiated) { event_index_ = negotiated; }
  bool broken() const { return broken_; }
  void reset();

  // For the device.
  /// The next available chain; nothing when there is none (the driver's next one notifies then) or the ring is broken.
  std::optional<VirtChain> pop();
  /// The same into a chain whose memory is used again; false in place of nothing.
  bool pop(VirtChain& chain);
  /// The last `count` chains that were taken, none of them given back, are the next to be taken again.
  void put_back(unsigned count) { next_available_ = static_cast<std::uint16_t>(next_available_ - count); }
  /// Reads a chain again that was taken before (restoring a device that had work in hand).
  std::optional<VirtChain> reread(std::uint16_t head);
  /// Gives a chain back, with the number of bytes written to its writable part.
  void push(std::uint16_t head, std::uint32_t written);
  /// True when the driver wants an interrupt for what was pushed since the last call.
  bool interrupt_wanted();
  /// The device cannot make sense of a request, and has no place to say so: breaks the ring. `why` is a static text.
  void refuse(const char* why) { break_ring(why); }

  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);

 private:
  struct Descriptor;
  enum class Table { Ring, Indirect };

  std::optional<VirtChain> break_ring(const char* why);
  bool read_chain(std::uint16_t head, VirtChain& chain);
  std::optional<std::uint16_t> available_index() const;
  bool collect(Table kind, GuestPhys table, std::uint32_t entries, std::uint32_t first, VirtChain& chain);
  bool add_segment(const Descriptor& descriptor, VirtChain& chain);
  std::optional<std::uint16_t> load16(GuestPhys address) const;
  bool store16(GuestPhys address, std::uint16_t value);
  GuestPhys used_event() const { return setup_.driver_area + 4u + 2u * setup_.size; }
  GuestPhys avail_event() const { return setup_.device_area + 4u + 8u * setup_.size; }

  machine::DmaSpace memory_;
  const std::uint16_t size_max_;
  Setup setup_;
  bool event_index_ = false;
  bool broken_ = false;
  std::uint16_t next_available_ = 0;
  std::uint16_t next_used_ = 0;
  std::uint16_t signalled_used_ = 0;
};

/// Copies `data` to the writable part from `offset` on; gives how much found room in real memory.
std::size_t copy_to_chain(const machine::DmaSpace& memory, const VirtChain& chain, std::uint64_t offset,
                          std::span<const std::byte> data);
/// Copies from the readable part from `offset` on; gives how much was there.
std::size_t copy_from_chain(const machine::DmaSpace& memory, const VirtChain& chain, std::uint64_t offset,
                            std::span<std::byte> out);

}  // namespace veneer::devices
