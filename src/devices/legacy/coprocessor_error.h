// The AT's way to report x87 errors: FERR# is latched and raises IRQ 13, a write to port F0h takes it back.
//
// State: the latch. Missing: IGNNE#, which would let the processor ignore the error until it is cleared.
// Spec: SDM 1 D.2.1, "MS-DOS compatibility mode"; IBM AT Technical Reference, ports F0h and F1h.
#pragma once

#include <cstdint>

#include "machine/byte_device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Two write-only ports at offsets 0 (clear busy) and 1 (reset the coprocessor, which clears it too).
class CoprocessorError final : public machine::ByteDevice {
 public:
  explicit CoprocessorError(machine::IrqLine& irq) : irq_(irq) {}
  /// A processor with CR0.NE clear met an unmasked x87 exception. Board lock held.
  void raise();

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override { set(false); }

 protected:
  std::uint8_t read_byte(unsigned) override { return 0xff; }
  void write_byte(unsigned, std::uint8_t) override { set(false); }

 private:
  void set(bool raised);

  machine::IrqLine& irq_;
  bool raised_ = false;
};

}  // namespace veneer::devices
