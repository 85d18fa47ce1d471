// The virtio entropy device.
//
// State: none of its own.
// Missing: nothing. Differs from the spec: a request gets at most 64 KiB, of however much room it offers.
// Spec: Virtio 1.2, 5.4.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "devices/virtio/virtio_device.h"

namespace veneer::devices {

/// Fills with random bytes; false when the host has none.
using EntropySource = std::function<bool(std::span<std::byte>)>;
/// getrandom(2).
bool host_entropy(std::span<std::byte> out);

class VirtioRng final : public VirtioDevice {
 public:
  static constexpr std::size_t request_bytes_max = 64 * KiB;

  explicit VirtioRng(const machine::DmaSpace& memory, EntropySource source = host_entropy)
      : memory_(memory), source_(std::move(source)) {}

  std::uint16_t type() const override { return VIRTIO_TYPE_ENTROPY; }
  std::uint32_t pci_class() const override { return 0x00ff00; }  // no class fits
  unsigned queue_count() const override { return 1; }
  std::uint16_t queue_size_max(unsigned) const override { return 64; }
  void notify(unsigned index, VirtQueue& queue) override;

 private:
  std::uint32_t fill(const VirtChain& chain);

  machine::DmaSpace memory_;
  EntropySource source_;
};

}  // namespace veneer::devices
