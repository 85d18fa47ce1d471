// ACPI fixed hardware: PM1 event and control registers, PM timer, power button, soft-off.
//
// State: PM1_STS, PM1_EN, PM1_CNT.
// Missing: GPE blocks, SMI command port (SCI_EN is always set: there is no legacy mode to leave), S1 to S4, wake
//   events, RTC alarm status, processor C-state ports.
// Differs from the PIIX4: the PM timer has 32 bits, as the FADT says (TMR_VAL_EXT), not 24.
// Spec: ACPI 6.4 chapter 4.8 (fixed hardware); layout of the register block: 82371AB (PIIX4) data sheet 7.2.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "machine/device.h"
#include "machine/irq_line.h"
#include "machine/power.h"

namespace veneer::devices {

/// 16 ports: PM1_STS 0, PM1_EN 2, PM1_CNT 4, PM_TMR 8.
class AcpiPm final : public machine::Device {
 public:
  static constexpr std::uint64_t pm_timer_hz = 3'579'545;
  /// Soft off, as the PIIX4 has it (82371AB data sheet 7.1.3) and OVMF knows without asking; the DSDT's \_S5 names it.
  static constexpr unsigned sleep_type_s5 = 0;

  AcpiPm(machine::IrqLine& sci, TimerService& timers, machine::PowerControl& power);

  /// PWRBTN_STS rises; the guest gets an SCI if it asked for it. Board lock held.
  void press_power_button();
  /// The guest has asked to be told of the button.
  bool power_button_heard() const;

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  enum Offset : std::uint64_t { PM1_STS = 0, PM1_EN = 2, PM1_CNT = 4, PM_TMR = 8 };

  std::uint8_t read_byte(std::uint64_t offset) const;
  void write_byte(std::uint64_t offset, std::uint8_t value);
  void write_control(std::uint16_t value);
  std::uint64_t timer_ticks() const;
  void catch_timer_status();
  void update();

  machine::IrqLine& sci_;
  const Clock& clock_;
  machine::PowerControl& power_;
  std::unique_ptr<Timer> overflow_;
  std::uint16_t status_ = 0;
  std::uint16_t enable_ = 0;
  std::uint16_t control_ = 0;
  std::uint64_t seen_half_periods_ = 0;  // toggles of the timer's high bit that TMR_STS already shows
};

}  // namespace veneer::devices
