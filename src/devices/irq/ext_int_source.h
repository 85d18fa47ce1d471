// ExtIntSource: the 8259 pair as a local APIC sees it behind a pin in ExtINT mode.
#pragma once

#include <cstdint>

namespace veneer::devices {

/// Called with the board lock held.
class ExtIntSource {
 public:
  virtual ~ExtIntSource() = default;
  /// The INTR output is asserted.
  virtual bool pending() const = 0;
  /// The INTA cycle: the vector; a spurious one (IRQ 7) when nothing is pending any more.
  virtual std::uint8_t acknowledge() = 0;
};

}  // namespace veneer::devices
