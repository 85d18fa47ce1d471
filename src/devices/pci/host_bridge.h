// The host bridge of the 440FX chipset, as far as software looks at it.
//
// State: configuration space.
// Missing: PAM and SMRAM registers are stored without effect; DRAM row boundaries.
// Differs from the spec: no AGP, no error reporting. Spec: Intel 82441FX (PMC) data sheet 290549-001, chapter 3.
#pragma once

#include "devices/pci/pci_function.h"

namespace veneer::devices {

class HostBridge final : public PciFunction {
 public:
  HostBridge() : PciFunction("host-bridge", {0x8086, 0x1237, 0x02, 0x060000, 0, 0, 0}) {
    make_writable(PAM0, 4, 0xffff'ffff);
    make_writable(PAM0 + 4, 3, 0x00ff'ffff);
    make_writable(SMRAM, 1, 0x7f);
  }

 private:
  enum Register : unsigned { PAM0 = 0x59, SMRAM = 0x72 };
};

}  // namespace veneer::devices
