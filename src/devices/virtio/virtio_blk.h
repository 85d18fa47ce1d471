// The virtio block device.
//
// State: the driver's choice of cache mode, requests in hand.
// Missing: zoned devices, lifetime, secure erase; a discard or write-zeroes request has one segment.
// Differs from the spec: nothing known. Spec: Virtio 1.2, 5.2.
#pragma once

#include <cstdint>
#include <list>
#include <string>

#include "devices/virtio/virtio_device.h"
#include "disk/io/backend.h"
#include "machine/dma.h"

namespace veneer::devices {

class VirtioBlk final : public VirtioDevice {
 public:
  static constexpr std::uint16_t queue_size = 256;
  static constexpr unsigned queues_max = 64;
  /// Data buffers of one request: what fits into a ring beside header and status.
  static constexpr std::uint32_t segments_max = queue_size - 2;
  /// Sectors of one discard or write-zeroes request: 1 GiB.
  static constexpr std::uint32_t discard_sectors_max = 1u << 21;

  /// `queues`: 1 to queues_max. `disk` outlives it.
  VirtioBlk(const machine::DmaSpace& memory, disk::Backend& disk, unsigned queues);

  std::uint16_t type() const override { return VIRTIO_TYPE_BLOCK; }
  std::uint32_t pci_class() const override { return 0x018000; }  // mass storage, other
  std::uint64_t features() const override;
  unsigned queue_count() const override { return queues_; }
  std::uint16_t queue_size_max(unsigned) const override { return queue_size; }
  std::uint8_t read_config(unsigned offset) override;
  void write_config(unsigned offset, std::uint8_t value) override;
  void start(std::uint64_t features) override;
  void notify(unsigned index, VirtQueue& queue) override;
  void reset() override;
  void settle() override { disk_.settle(); }
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;

 private:
  /// A request between its chain's coming and going.
  struct Active {
    unsigned queue = 0;
    std::uint16_t head = 0;
    GuestPhys status;
    bool to_guest = false;  // its data is written to guest memory
    machine::DmaBuffers data;
  };
  using ActiveIt = std::list<Active>::iterator;

  void begin(unsigned index, VirtQueue& queue, const VirtChain& chain);
  void begin_transfer(ActiveIt active, const VirtChain& chain, bool read, std::uint64_t sector);
  void begin_range(ActiveIt active, const VirtChain& chain, disk::IoKind kind);
  void begin_get_id(ActiveIt active, const VirtChain& chain);
  void hand_over(ActiveIt active, disk::IoRequest request);
  void finish(ActiveIt active, std::uint8_t status, std::uint32_t written);
  bool writes_are_stable() const;

  machine::DmaSpace memory_;
  disk::Backend& disk_;
  const unsigned queues_;
  std::uint64_t agreed_features_ = 0;
  std::uint8_t writeback_ = 1;  // the configuration's field: 0 write-through, 1 write-back
  std::list<Active> active_;
  std::vector<std::uint16_t> active_count_;  // of each queue
};

}  // namespace veneer::devices
