// The PCI function through which a guest finds its AMD IOMMU.
//
// State: that of a PCI function.
// Missing: nothing that a capability of one segment has. Differs from the spec: the base address is fixed and enabled,
// as firmware that has locked it leaves it; the function is always a bus master.
// Spec: 48882 3.2 (capability block); PCI Local Bus 3.0.
#pragma once

#include "devices/iommu/amd_iommu.h"
#include "devices/pci/pci_function.h"

namespace veneer::devices {

/// All calls with the board lock held.
class AmdIommuFunction final : public PciFunction {
 public:
  /// Where the capability block begins in configuration space.
  static constexpr unsigned capability_offset = 0x40;

  /// `base` is where the guest finds its registers, a multiple of 16 KiB. Gives it its interrupt.
  AmdIommuFunction(AmdIommu& iommu, std::uint64_t base);
};

}  // namespace veneer::devices
