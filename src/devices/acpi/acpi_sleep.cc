// The sleep, event and reset registers of a hardware-reduced machine.
#include "devices/acpi/acpi_sleep.h"

#include <utility>

#include "base/bits.h"

namespace veneer::devices {
namespace {

// SLEEP_CONTROL_REG (ACPI 6.4 table 4.19); SLEEP_STATUS_REG has WAK_STS in bit 7.
using SLP_TYPx = Bits<4, 2>;
constexpr std::uint8_t SLP_EN = 1u << 5;
constexpr std::uint8_t WAK_STS = 1u << 7;

}  // namespace

void AcpiSleep::press_power_button() {
  pending_ |= event_power_button;
  event_.set(true);
}

std::uint8_t AcpiSleep::read_byte(unsigned offset) {
  switch (offset) {
    case SLEEP_CONTROL:
      return control_;
    case SLEEP_STATUS:
      return status_;
    case EVENT:
      event_.set(false);
      return std::exchange(pending_, std::uint8_t{0});
    default:
      return 0;
  }
}

void AcpiSleep::write_byte(unsigned offset, std::uint8_t value) {
  switch (offset) {
    case SLEEP_CONTROL:
      control_ = static_cast<std::uint8_t>(value & SLP_TYPx::mask);  // SLP_EN reads as zero
      if ((value & SLP_EN) && SLP_TYPx::get(value) == sleep_type_s5) power_.power_off();
      break;
    case SLEEP_STATUS:
      status_ = static_cast<std::uint8_t>(status_ & ~(value & WAK_STS));
      break;
    case RESET:
      if (value == reset_value) power_.reset();
      break;
    default:
      break;
  }
}

void AcpiSleep::save(machine::SnapshotWriter& out) const {
  out.section("acpi-sleep");
  out.put(control_);
  out.put(status_);
  out.put(pending_);
}

void AcpiSleep::restore(machine::SnapshotReader& in) {
  in.section("acpi-sleep");
  control_ = static_cast<std::uint8_t>(in.get<std::uint8_t>() & SLP_TYPx::mask);
  status_ = in.get<std::uint8_t>() & WAK_STS;
  pending_ = in.get<std::uint8_t>() & event_power_button;
  event_.set(pending_ != 0);
}

void AcpiSleep::reset() {
  control_ = status_ = pending_ = 0;
  event_.set(false);
}

}  // namespace veneer::devices
