// The host bridge of the 440FX chipset, as far as software looks at it.
//
// State: configuration space.
// Missing: the SMRAM register is stored without effect; DRAM row boundaries.
// Differs from the spec: no AGP, no error reporting. Spec: Intel 82441FX (PMC) data sheet 290549-001, chapter 3.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "devices/pci/pci_function.h"

namespace veneer::devices {

class HostBridge final : public PciFunction {
 public:
  /// `shadow` is told what RAM at [base, base + bytes) below 1 MiB answers to; empty: PAM has no effect.
  using ShadowListener = std::function<void(std::uint32_t base, std::uint32_t bytes, bool reads, bool writes)>;
  explicit HostBridge(ShadowListener shadow = {});

  void write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  enum Register : unsigned { PAM0 = 0x59, PAM_COUNT = 7, SMRAM = 0x72 };
  void apply_shadow();
  ShadowListener shadow_;
};

}  // namespace veneer::devices
