// VirtioDevice: what a device type is, without how a driver finds it (that is the transport's part).
//
// Spec: Virtio 1.2, chapters 2 and 5.
#pragma once

#include <cstdint>

#include "devices/virtio/virtqueue.h"
#include "machine/snapshot.h"

namespace veneer::devices {

// Feature bits of every device (Virtio 1.2 chapter 6)
inline constexpr unsigned VIRTIO_F_INDIRECT_DESC = 28;
inline constexpr unsigned VIRTIO_F_EVENT_IDX = 29;
inline constexpr unsigned VIRTIO_F_VERSION_1 = 32;
inline constexpr unsigned VIRTIO_F_ACCESS_PLATFORM = 33;

/// Device types (chapter 5)
inline constexpr std::uint16_t VIRTIO_TYPE_NETWORK = 1;
inline constexpr std::uint16_t VIRTIO_TYPE_BLOCK = 2;
inline constexpr std::uint16_t VIRTIO_TYPE_CONSOLE = 3;
inline constexpr std::uint16_t VIRTIO_TYPE_ENTROPY = 4;
inline constexpr std::uint16_t VIRTIO_TYPE_BALLOON = 5;

/// What a transport does for its device. All calls with the board lock held.
class VirtioTransport {
 public:
  virtual ~VirtioTransport() = default;
  virtual VirtQueue& queue(unsigned index) = 0;
  /// For devices that finish work later (off the notify() path): raises the queue's interrupt if the driver wants it,
  /// and looks whether the queue broke.
  virtual void queue_used(unsigned index) = 0;
  /// The device-specific configuration changed: new generation, configuration interrupt.
  virtual void config_changed() = 0;
};

/// All calls with the board lock held.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  /// Given once by the transport, which outlives the device's use.
  void plug_into(VirtioTransport& transport) { transport_ = &transport; }

  virtual std::uint16_t type() const = 0;
  /// PCI class code (base class, subclass, interface) that fits.
  virtual std::uint32_t pci_class() const = 0;
  /// Feature bits 0 to 23 and 50 up that this type offers; the transport adds its own.
  virtual std::uint64_t features() const { return 0; }
  virtual unsigned queue_count() const = 0;
  virtual std::uint16_t queue_size_max(unsigned queue) const = 0;

  /// The device-specific configuration: bytes beyond its end read as zero.
  virtual std::uint8_t read_config(unsigned /*offset*/) { return 0; }
  virtual void write_config(unsigned /*offset*/, std::uint8_t /*value*/) {}

  /// DRIVER_OK: these features were agreed.
  virtual void start(std::uint64_t /*features*/) {}
  /// The driver put something into `queue`. Takes chains and pushes them back; the transport then interrupts if the
  /// driver wants it, and looks whether the queue broke.
  virtual void notify(unsigned index, VirtQueue& queue) = 0;
  virtual void reset() {}
  /// Before save(): finishes what it has begun, as far as that can be finished.
  virtual void settle() {}

  virtual void save(machine::SnapshotWriter&) const {}
  virtual void restore(machine::SnapshotReader&) {}

 protected:
  VirtioTransport& transport() { return *transport_; }

 private:
  VirtioTransport* transport_ = nullptr;
};

}  // namespace veneer::devices
