// Drivers that misbehave: each knows how its device is set up, and does that and everything else in any order.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench.h"
#include "choices.h"

namespace veneer::devices_fuzz {

class Driver {
 public:
  virtual ~Driver() = default;
  virtual const char* name() const = 0;
  /// A few accesses that belong together.
  virtual void step(Bench& bench, Choices& choices) = 0;
  /// The device was reset, or is in a state that nobody knows.
  virtual void forget() {}
};

/// Single accesses anywhere: ports, memory, configuration space; RAM filled with numbers.
std::unique_ptr<Driver> make_access_driver();
/// Interrupt controllers from the processor's side, timers, the passing of time.
std::unique_ptr<Driver> make_interrupt_driver();
/// On boards that have an IOMMU.
std::unique_ptr<Driver> make_iommu_driver();
std::unique_ptr<Driver> make_virtio_driver();
std::unique_ptr<Driver> make_nvme_driver();
std::unique_ptr<Driver> make_e1000_driver();
std::unique_ptr<Driver> make_ahci_driver();
std::unique_ptr<Driver> make_ide_driver();
std::unique_ptr<Driver> make_floppy_driver();
std::unique_ptr<Driver> make_hpet_driver();
std::unique_ptr<Driver> make_firmware_driver();
std::unique_ptr<Driver> make_display_driver();
/// Frames that come from the network, and frames of the guest that go there.
std::unique_ptr<Driver> make_network_driver();
/// What users do to balloon and console.
std::unique_ptr<Driver> make_host_driver();
/// Saving and restoring, also of damaged states; resets.
std::unique_ptr<Driver> make_state_driver();

/// An Ethernet frame that looks right at first, at `most` bytes.
std::vector<std::byte> make_frame(Choices& choices, std::size_t most);

}  // namespace veneer::devices_fuzz
