// Power management of a hardware-reduced ACPI machine: sleep control, reset and a power button event.
//
// State: sleep type, sleep status, pending event.
// Missing: sleep states other than S5. Differs from the spec: nothing known.
// Spec: ACPI 6.4 4.1.1 (hardware-reduced), 4.8.3.7 (sleep control and status), 4.8.3.6 (reset register), 5.6.9
//   (interrupt-signalled events: the DSDT's GED device reads the event register).
#pragma once

#include <cstdint>

#include "machine/byte_device.h"
#include "machine/irq_line.h"
#include "machine/power.h"

namespace veneer::devices {

/// 4 ports: 0 sleep control, 1 sleep status, 2 event (a read takes it), 3 reset.
class AcpiSleep final : public machine::ByteDevice {
 public:
  static constexpr unsigned sleep_type_s5 = 5;
  static constexpr std::uint8_t reset_value = 0x01;
  static constexpr std::uint8_t event_power_button = 0x01;

  /// `event` is a level-triggered line to the interrupt that the GED names.
  AcpiSleep(machine::IrqLine& event, machine::PowerControl& power) : event_(event), power_(power) {}

  /// Board lock held.
  void press_power_button();

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 protected:
  std::uint8_t read_byte(unsigned offset) override;
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  enum Offset : unsigned { SLEEP_CONTROL = 0, SLEEP_STATUS = 1, EVENT = 2, RESET = 3 };

  machine::IrqLine& event_;
  machine::PowerControl& power_;
  std::uint8_t control_ = 0;
  std::uint8_t status_ = 0;
  std::uint8_t pending_ = 0;
};

}  // namespace veneer::devices
