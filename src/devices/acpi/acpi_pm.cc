// The PM register block.
#include "devices/acpi/acpi_pm.h"

#include "base/bits.h"

namespace veneer::devices {
namespace {

// PM1_STS and PM1_EN (ACPI 6.4 tables 4.11 and 4.12)
constexpr std::uint16_t TMR = 1u << 0;
constexpr std::uint16_t GBL = 1u << 5;
constexpr std::uint16_t PWRBTN = 1u << 8;
constexpr std::uint16_t SLPBTN = 1u << 9;
constexpr std::uint16_t RTC = 1u << 10;
constexpr std::uint16_t WAK = 1u << 15;
constexpr std::uint16_t STATUS_BITS = TMR | (1u << 4) | GBL | PWRBTN | SLPBTN | RTC | WAK;
constexpr std::uint16_t ENABLE_BITS = TMR | GBL | PWRBTN | SLPBTN | RTC;

// PM1_CNT (table 4.13)
constexpr std::uint16_t SCI_EN = 1u << 0;
constexpr std::uint16_t BM_RLD = 1u << 1;
using SLP_TYP = Bits<12, 10>;
constexpr std::uint16_t SLP_EN = 1u << 13;

constexpr unsigned timer_bits =
    32;  // FADT: TMR_VAL_EXT; 20 minutes, where 24 bits are over before a busy host looks again
constexpr std::uint64_t ns_per_s = 1'000'000'000;
__extension__ using Wide = unsigned __int128;

}  // namespace

AcpiPm::AcpiPm(machine::IrqLine& sci, TimerService& timers, machine::PowerControl& power)
    : sci_(sci), clock_(timers.clock()), power_(power), overflow_(timers.make_timer([this] { update(); })) {
  AcpiPm::reset();
}

void AcpiPm::press_power_button() {
  status_ |= PWRBTN;
  update();
}

bool AcpiPm::power_button_heard() const { return (enable_ & PWRBTN) != 0; }

std::uint64_t AcpiPm::timer_ticks() const {
  return static_cast<std::uint64_t>(Wide{clock_.now_ns()} * pm_timer_hz / ns_per_s);
}

/// TMR_STS rises whenever the counter's high bit changes (ACPI 6.4 4.8.2.1).
void AcpiPm::catch_timer_status() {
  const std::uint64_t half_periods = timer_ticks() >> (timer_bits - 1);
  if (half_periods != seen_half_periods_) status_ |= TMR;
  seen_half_periods_ = half_periods;
}

void AcpiPm::update() {
  catch_timer_status();
  sci_.set((status_ & enable_) != 0);
  if ((enable_ & TMR) && !(status_ & TMR)) {
    const std::uint64_t next_toggle = (seen_half_periods_ + 1) << (timer_bits - 1);
    overflow_->arm(static_cast<std::uint64_t>(Wide{next_toggle} * ns_per_s / pm_timer_hz) + 1);
  } else {
    overflow_->cancel();
  }
}

std::uint64_t AcpiPm::read(std::uint64_t offset, unsigned size_bytes) {
  catch_timer_status();
  if (offset == PM_TMR && size_bytes >= 4) return timer_ticks() & byte_mask(timer_bits / 8);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i) value |= std::uint64_t{read_byte(offset + i)} << (8 * i);
  return value;
}

std::uint8_t AcpiPm::read_byte(std::uint64_t offset) const {
  const unsigned shift = static_cast<unsigned>(offset & 1) * 8;
  switch (offset & ~std::uint64_t{1}) {
    case PM1_STS:
      return static_cast<std::uint8_t>(status_ >> shift);
    case PM1_EN:
      return static_cast<std::uint8_t>(enable_ >> shift);
    case PM1_CNT:
      return static_cast<std::uint8_t>(control_ >> shift);
    default:
      break;
  }
  if (offset >= PM_TMR && offset < PM_TMR + timer_bits / 8)
    return static_cast<std::uint8_t>(timer_ticks() >> (8 * (offset - PM_TMR)));
  return 0;
}

void AcpiPm::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  // PM1_CNT as a whole, so that SLP_TYP and SLP_EN of one write count together.
  if (offset == PM1_CNT && size_bytes >= 2) return write_control(static_cast<std::uint16_t>(value));
  for (unsigned i = 0; i < size_bytes; ++i) write_byte(offset + i, static_cast<std::uint8_t>(value >> (8 * i)));
  update();
}

void AcpiPm::write_byte(std::uint64_t offset, std::uint8_t value) {
  const unsigned shift = static_cast<unsigned>(offset & 1) * 8;
  const auto bits = static_cast<std::uint16_t>(value << shift);
  const auto keep = static_cast<std::uint16_t>(0xff00 >> shift);
  switch (offset & ~std::uint64_t{1}) {
    case PM1_STS:  // write one to clear
      catch_timer_status();
      status_ = static_cast<std::uint16_t>(status_ & ~bits);
      break;
    case PM1_EN:
      enable_ = static_cast<std::uint16_t>(((enable_ & keep) | bits) & ENABLE_BITS);
      break;
    case PM1_CNT:
      write_control(static_cast<std::uint16_t>((control_ & keep) | bits));
      break;
    default:
      break;
  }
}

void AcpiPm::write_control(std::uint16_t value) {
  control_ = static_cast<std::uint16_t>((value & (BM_RLD | SLP_TYP::mask)) | SCI_EN);
  if ((value & SLP_EN) && SLP_TYP::get(value) == sleep_type_s5) power_.power_off();
}

void AcpiPm::save(machine::SnapshotWriter& out) const {
  out.section("acpi-pm");
  out.put(status_);
  out.put(enable_);
  out.put(control_);
  out.put(seen_half_periods_);
}

void AcpiPm::restore(machine::SnapshotReader& in) {
  in.section("acpi-pm");
  status_ = in.get<std::uint16_t>() & STATUS_BITS;
  enable_ = in.get<std::uint16_t>() & ENABLE_BITS;
  control_ = in.get<std::uint16_t>() & (BM_RLD | SLP_TYP::mask | SCI_EN);
  in.get(seen_half_periods_);
  sci_.set((status_ & enable_) != 0);
  update();
}

void AcpiPm::reset() {
  status_ = 0;
  enable_ = 0;
  control_ = SCI_EN;
  seen_half_periods_ = timer_ticks() >> (timer_bits - 1);
  overflow_->cancel();
  sci_.set(false);
}

}  // namespace veneer::devices
