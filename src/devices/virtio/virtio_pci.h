// The virtio transport over PCI, modern interface.
//
// State: status, features, queue selection and setup, MSI-X vectors, ISR; PCI configuration space.
// Missing: the transitional (legacy) interface, shared memory regions, notification data, queue reset.
// Differs from the spec: nothing known. Spec: Virtio 1.2, 4.1; device initialization 3.1.
#pragma once

#include <cstdint>
#include <vector>

#include "devices/pci/pci_function.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio/virtqueue.h"
#include "machine/device.h"
#include "machine/dma_space.h"
#include "machine/register_window.h"

namespace veneer::devices {

/// BAR 0 has the registers, BAR 1 the MSI-X table. `device` outlives it. Behind an IOMMU ACCESS_PLATFORM is offered
/// (6.1), and the device's accesses are translated whether or not the driver accepts it: a driver that does not is one
/// that uses guest-physical addresses, which the IOMMU lets through or not, as for any other device.
class VirtioPci final : public PciFunction, public VirtioTransport {
 public:
  VirtioPci(std::string name, VirtioDevice& device, const machine::DmaSpace& memory);

  // VirtioTransport
  VirtQueue& queue(unsigned index) override { return queues_[index]; }
  void queue_used(unsigned index) override;
  void config_changed() override;

  std::uint32_t read_config(unsigned offset, unsigned size_bytes) override;
  void write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  /// BAR 0.
  std::uint64_t read_registers(std::uint64_t offset, unsigned size_bytes);
  void write_registers(std::uint64_t offset, unsigned size_bytes, std::uint64_t value);
  void add_capabilities();
  std::uint64_t read_common(unsigned offset) const;
  void write_common(unsigned offset, unsigned size_bytes, std::uint64_t value);
  void write_status(std::uint8_t value);
  bool features_acceptable() const;
  void write_queue(unsigned offset, unsigned size_bytes, std::uint64_t value);
  std::uint16_t valid_vector(std::uint64_t value) const;
  void notify(std::uint64_t index);
  void check_broken(const VirtQueue& queue);
  void interrupt(std::uint16_t vector, std::uint8_t isr_bit);
  std::uint8_t take_isr();
  std::uint64_t offered_features() const;
  void reset_device();

  VirtioDevice& device_;
  const bool translated_;  // an IOMMU stands before the device
  machine::RegisterWindow<VirtioPci> registers_{*this, &VirtioPci::read_registers, &VirtioPci::write_registers};
  std::vector<VirtQueue> queues_;
  std::vector<std::uint16_t> queue_vectors_;
  unsigned window_capability_ = 0;  // VIRTIO_PCI_CAP_PCI_CFG

  std::uint64_t driver_features_ = 0;
  std::uint32_t device_feature_select_ = 0, driver_feature_select_ = 0;
  std::uint16_t config_vector_ = 0xffff;
  std::uint16_t queue_select_ = 0;
  std::uint8_t status_ = 0;
  std::uint8_t config_generation_ = 0;
  std::uint8_t isr_ = 0;
};

}  // namespace veneer::devices
