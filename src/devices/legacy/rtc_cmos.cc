// The MC146818 real-time clock and its CMOS memory.
#include "devices/legacy/rtc_cmos.h"

#include <algorithm>
#include <chrono>

#include "base/bits.h"

namespace veneer::devices {
namespace {

constexpr std::int64_t ns_per_s = 1'000'000'000;
constexpr std::int64_t seconds_per_day = 86'400;
// Nanoseconds in 64 bits hold 1970 to 2262; the clock stops short of the end.
constexpr std::int64_t last_second = 9'000'000'000;
constexpr std::int64_t latest_ns = 9'200'000'000 * ns_per_s;  // years after the last second that a guest can set
constexpr std::int64_t widest_offset_ns = last_second * ns_per_s;  // of a host whose clock says 1970

enum Index : std::uint8_t {
  SECONDS = 0,
  SECONDS_ALARM = 1,
  MINUTES = 2,
  MINUTES_ALARM = 3,
  HOURS = 4,
  HOURS_ALARM = 5,
  DAY_OF_WEEK = 6,
  DAY_OF_MONTH = 7,
  MONTH = 8,
  YEAR = 9,
  REGISTER_A = 0xa,
  REGISTER_B = 0xb,
  REGISTER_C = 0xc,
  REGISTER_D = 0xd,
  CENTURY = 0x32,
};

constexpr std::uint8_t A_UIP = 0x80;
constexpr std::uint8_t B_SET = 0x80, B_UIE = 0x10, B_DM_BINARY = 0x04, B_24_HOURS = 0x02;
constexpr std::uint8_t C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10;
constexpr std::uint8_t interrupt_bits = C_PF | C_AF | C_UF;  // the enable bits of B stand in the same places
constexpr std::uint8_t D_VRT = 0x80;
constexpr std::uint8_t pm_flag = 0x80;
constexpr std::uint8_t alarm_any = 0xc0;

// UIP rises tBUC before the update and falls with its end (MC146818A table 5, 32.768 kHz time base).
constexpr std::int64_t update_ns = 1'984'000 + 244'000;

bool is_time(std::uint8_t index) {
  return index == SECONDS || index == MINUTES || index == HOURS || (index >= DAY_OF_WEEK && index <= YEAR) ||
         index == CENTURY;
}

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

}  // namespace

RtcCmos::RtcCmos(machine::IrqLine& irq8, TimerService& timers)
    : irq8_(irq8), clock_(timers.clock()), timer_(timers.make_timer([this] { update(); })) {
  cmos_[REGISTER_A] = 0x26;  // 32.768 kHz, 1024 Hz
  cmos_[REGISTER_B] = B_24_HOURS;
  cmos_[REGISTER_D] = D_VRT;
  seen_second_ = guest_second();
  periodic_start_ns_ = clock_.now_ns();
}

void RtcCmos::set_cmos(std::uint8_t index, std::uint8_t value) {
  if (index > REGISTER_D && index < cmos_.size()) cmos_[index] = value;
}

void RtcCmos::reset() {
  // The battery keeps time and memory; RESET clears interrupt enables and flags (MC146818A, "RESET").
  cmos_[REGISTER_B] &= static_cast<std::uint8_t>(~(interrupt_bits | 0x08));
  index_ = 0;
  collect_flags();
  flags_ = 0;
  update();
}

// --- ports ---

std::uint8_t RtcCmos::read_byte(unsigned offset) {
  if ((offset & 1) == 0) return 0xff;  // the index port is write-only
  return read_register(index_ & 0x7f);
}

void RtcCmos::write_byte(unsigned offset, std::uint8_t value) {
  if ((offset & 1) == 0)
    index_ = value;
  else
    write_register(index_ & 0x7f, value);
}

std::uint8_t RtcCmos::read_register(std::uint8_t index) {
  if (is_time(index) && !frozen()) load_time_registers();
  if (index == REGISTER_A) return static_cast<std::uint8_t>(cmos_[index] | (update_in_progress() ? A_UIP : 0));
  if (index == REGISTER_C) return read_flags();
  return cmos_[index];
}

void RtcCmos::write_register(std::uint8_t index, std::uint8_t value) {
  switch (index) {
    case REGISTER_A:
      collect_flags();
      if ((value ^ cmos_[index]) & 0x0f) {  // a new rate starts a new period
        cmos_[index] = static_cast<std::uint8_t>(value & ~A_UIP);
        periodic_start_ns_ = clock_.now_ns();
        seen_period_ = 0;
      }
      cmos_[index] = static_cast<std::uint8_t>(value & ~A_UIP);
      update();
      return;
    case REGISTER_B:
      write_b(value);
      return;
    case REGISTER_C:
    case REGISTER_D:
      return;
    default:
      break;
  }
  if (is_time(index) && !frozen()) {
    load_time_registers();
    cmos_[index] = value;
    store_time_registers();
  } else {
    cmos_[index] = value;
  }
  update();
}

void RtcCmos::write_b(std::uint8_t value) {
  collect_flags();
  const bool was_frozen = frozen();
  if (value & B_SET) value = static_cast<std::uint8_t>(value & ~B_UIE);  // SET clears UIE (MC146818A register B)
  if ((value & B_SET) && !was_frozen) load_time_registers();
  cmos_[REGISTER_B] = value;
  if (!(value & B_SET) && was_frozen) store_time_registers();
  update();
}

// --- time of day ---

std::int64_t RtcCmos::guest_time_ns() const { return clock_.wall_ns() + offset_ns_; }
std::int64_t RtcCmos::guest_second() const { return floor_div(guest_time_ns(), ns_per_s); }
bool RtcCmos::frozen() const { return (cmos_[REGISTER_B] & B_SET) != 0; }

bool RtcCmos::update_in_progress() const {
  if (frozen()) return false;
  const std::int64_t into_second = guest_time_ns() - guest_second() * ns_per_s;
  return into_second >= ns_per_s - update_ns;
}

std::uint8_t RtcCmos::encode(unsigned value) const {
  if (cmos_[REGISTER_B] & B_DM_BINARY) return static_cast<std::uint8_t>(value);
  return static_cast<std::uint8_t>((value / 10 % 10) << 4 | value % 10);
}

unsigned RtcCmos::decode(std::uint8_t value) const {
  if (cmos_[REGISTER_B] & B_DM_BINARY) return value;
  return (value >> 4) * 10u + (value & 0xfu);
}

std::uint8_t RtcCmos::encode_hour(unsigned hour) const {
  if (cmos_[REGISTER_B] & B_24_HOURS) return encode(hour);
  const unsigned twelve = hour % 12 == 0 ? 12 : hour % 12;
  return static_cast<std::uint8_t>(encode(twelve) | (hour >= 12 ? pm_flag : 0));
}

unsigned RtcCmos::decode_hour(std::uint8_t value) const {
  if (cmos_[REGISTER_B] & B_24_HOURS) return decode(value) % 24;
  return decode(value & 0x7f) % 12 + ((value & pm_flag) ? 12 : 0);
}

void RtcCmos::load_time_registers() {
  using namespace std::chrono;
  const sys_seconds now{seconds(guest_second())};
  const auto day = floor<days>(now);
  const year_month_day date(day);
  const hh_mm_ss time(now - day);
  const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
  cmos_[SECONDS] = encode(static_cast<unsigned>(time.seconds().count()));
  cmos_[MINUTES] = encode(static_cast<unsigned>(time.minutes().count()));
  cmos_[HOURS] = encode_hour(static_cast<unsigned>(time.hours().count()));
  cmos_[DAY_OF_WEEK] = encode(weekday(day).c_encoding() + 1);  // Sunday is 1
  cmos_[DAY_OF_MONTH] = encode(static_cast<unsigned>(date.day()));
  cmos_[MONTH] = encode(static_cast<unsigned>(date.month()));
  cmos_[YEAR] = encode(year % 100);
  cmos_[CENTURY] = encode(year / 100 % 100);
}

void RtcCmos::store_time_registers() {
  using namespace std::chrono;
  // Whatever a guest writes becomes some date: fields out of range are carried or clamped.
  const int year_number = static_cast<int>(decode(cmos_[CENTURY]) % 100 * 100 + decode(cmos_[YEAR]) % 100);
  const month month_number(std::clamp(decode(cmos_[MONTH]), 1u, 12u));
  const day day_number(std::clamp(decode(cmos_[DAY_OF_MONTH]), 1u, 31u));
  const sys_days date(year(year_number) / month_number / day_number);
  const std::int64_t second = duration_cast<seconds>(date.time_since_epoch()).count() +
                              decode_hour(cmos_[HOURS]) * 3600 + decode(cmos_[MINUTES]) % 60 * 60 +
                              decode(cmos_[SECONDS]) % 60;
  offset_ns_ += (std::clamp(second, std::int64_t{0}, last_second) - guest_second()) * ns_per_s;
  seen_second_ = guest_second();
}

bool RtcCmos::alarm_matches(std::int64_t second) const {
  const std::int64_t of_day = second - floor_div(second, seconds_per_day) * seconds_per_day;
  const auto matches = [](std::uint8_t alarm, unsigned wanted, unsigned actual) {
    return (alarm & alarm_any) == alarm_any || wanted == actual;
  };
  return matches(cmos_[SECONDS_ALARM], decode(cmos_[SECONDS_ALARM]), static_cast<unsigned>(of_day % 60)) &&
         matches(cmos_[MINUTES_ALARM], decode(cmos_[MINUTES_ALARM]), static_cast<unsigned>(of_day / 60 % 60)) &&
         matches(cmos_[HOURS_ALARM], decode_hour(cmos_[HOURS_ALARM]), static_cast<unsigned>(of_day / 3600));
}

// --- flags and interrupts ---

std::uint64_t RtcCmos::periodic_ns() const {
  const unsigned rate = cmos_[REGISTER_A] & 0x0fu;
  if (rate == 0) return 0;
  // MC146818A table 7, 32.768 kHz: rates 1 and 2 are those of 8 and 9.
  const unsigned shift = rate <= 2 ? rate + 6 : rate - 1;
  return static_cast<std::uint64_t>(ns_per_s) * (std::uint64_t{1} << shift) / 32'768;
}

/// Flags that came up since collect_flags() looked last.
std::uint8_t RtcCmos::new_flags() const {
  std::uint8_t flags = 0;
  if (const std::uint64_t period = periodic_ns(); period != 0)
    if ((clock_.now_ns() - periodic_start_ns_) / period > seen_period_) flags |= C_PF;
  const std::int64_t now = guest_second();
  if (frozen() || now <= seen_second_) return flags;
  flags |= C_UF;
  for (std::int64_t second = std::max(seen_second_ + 1, now - seconds_per_day); second <= now; ++second) {
    if (!alarm_matches(second)) continue;
    flags |= C_AF;
    break;
  }
  return flags;
}

void RtcCmos::collect_flags() {
  flags_ |= new_flags();
  seen_second_ = guest_second();
  if (const std::uint64_t period = periodic_ns(); period != 0)
    seen_period_ = (clock_.now_ns() - periodic_start_ns_) / period;
}

std::uint8_t RtcCmos::read_flags() {
  collect_flags();
  std::uint8_t value = flags_;
  if (flags_ & cmos_[REGISTER_B] & interrupt_bits) value |= C_IRQF;
  flags_ = 0;
  update();
  return value;
}

void RtcCmos::update() {
  collect_flags();
  const std::uint8_t enabled = cmos_[REGISTER_B] & interrupt_bits;
  irq8_.set((flags_ & enabled) != 0);

  // The timer runs only for enabled flags that are not up yet: until C is read, nothing more can happen.
  const auto wanted = static_cast<std::uint8_t>(enabled & ~flags_);
  const std::uint64_t now = clock_.now_ns();
  std::uint64_t next = ~std::uint64_t{0};
  if (const std::uint64_t period = periodic_ns(); (wanted & C_PF) && period != 0)
    next = periodic_start_ns_ + (seen_period_ + 1) * period;
  if ((wanted & (C_AF | C_UF)) && !frozen())
    next = std::min(next, now + static_cast<std::uint64_t>((guest_second() + 1) * ns_per_s - guest_time_ns()));
  if (next == ~std::uint64_t{0})
    timer_->cancel();
  else
    timer_->arm(next);
}

// --- snapshots ---

void RtcCmos::save(machine::SnapshotWriter& out) const {
  out.section("rtc_cmos");
  std::array<std::uint8_t, 128> bytes = cmos_;
  // The time registers are a view of the clock, unless SET holds them.
  if (!frozen())
    for (std::uint8_t index = 0; index < bytes.size(); ++index)
      if (is_time(index)) bytes[index] = 0;
  out.put(bytes);
  out.put(index_);
  out.put(offset_ns_);
  out.put(static_cast<std::uint8_t>(flags_ | new_flags()));
  const std::uint64_t period = periodic_ns();
  out.put(period ? (clock_.now_ns() - periodic_start_ns_) % period : std::uint64_t{0});
}

void RtcCmos::restore(machine::SnapshotReader& in) {
  in.section("rtc_cmos");
  in.get(cmos_);
  in.get(index_);
  in.get(offset_ns_);
  if (offset_ns_ > widest_offset_ns || offset_ns_ < -widest_offset_ns) {
    in.fail();
    offset_ns_ = 0;
  }
  offset_ns_ = std::min(offset_ns_, latest_ns - clock_.wall_ns());  // another host's clock may be later
  flags_ = in.get<std::uint8_t>() & interrupt_bits;
  periodic_start_ns_ = clock_.now_ns() - in.get<std::uint64_t>();
  seen_period_ = 0;
  seen_second_ = guest_second();
  update();
}

}  // namespace veneer::devices
