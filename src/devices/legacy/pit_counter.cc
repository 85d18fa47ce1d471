// One counter of the 8254: its output and count as functions of time.
#include "base/bits.h"
#include "devices/legacy/pit8254.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t ns_per_s = 1'000'000'000;
using Wide = unsigned __int128;

std::uint64_t ticks_in(std::uint64_t ns) {
  return static_cast<std::uint64_t>(Wide{ns} * PitCounter::input_hz / ns_per_s);
}

/// The first nanosecond at which `ticks` have passed.
std::uint64_t ns_until(std::uint64_t ticks) {
  return static_cast<std::uint64_t>((Wide{ticks} * ns_per_s + (PitCounter::input_hz - 1)) / PitCounter::input_hz);
}

unsigned from_bcd(std::uint16_t bcd) {
  unsigned value = 0;
  for (int shift = 12; shift >= 0; shift -= 4) value = value * 10 + ((bcd >> shift) & 0xfu);
  return value;
}

std::uint16_t to_bcd(std::uint64_t value) {
  unsigned bcd = 0;
  for (unsigned shift = 0; shift < 16; shift += 4, value /= 10) bcd |= static_cast<unsigned>(value % 10) << shift;
  return static_cast<std::uint16_t>(bcd);
}

}  // namespace

void PitCounter::write_control(std::uint8_t control, std::uint64_t now_ns) {
  access_ = static_cast<Access>(Bits<5, 4>::get(control));
  mode_ = static_cast<std::uint8_t>(Bits<3, 1>::get(control));
  if (mode_ > 5) mode_ = static_cast<std::uint8_t>(mode_ - 4);  // 6 and 7 are 2 and 3 (don't-care bit)
  bcd_ = (control & 1) != 0;
  loaded_ = triggered_ = false;
  read_high_next_ = write_high_next_ = false;
  count_latched_ = status_latched_ = false;
  stopped_ticks_ = 0;
  started_ns_ = now_ns;
  changes_ns_ = never;
}

void PitCounter::write_count(std::uint8_t value, std::uint64_t now_ns) {
  switch (access_) {
    case Access::Low:
      load(value, now_ns);
      return;
    case Access::High:
      load(static_cast<std::uint16_t>(value << 8), now_ns);
      return;
    case Access::LowThenHigh:
    case Access::Latch:
      break;  // Latch: no control word was ever written
  }
  if (!write_high_next_) {
    write_low_ = value;
    if (mode_ == 0) loaded_ = false;  // "writing the first byte disables counting"
  } else {
    load(static_cast<std::uint16_t>((value << 8) | write_low_), now_ns);
  }
  write_high_next_ = !write_high_next_;
}

void PitCounter::load(std::uint16_t count, std::uint64_t now_ns) {
  if (change_is_due(now_ns)) change_over();
  const bool runs = periodic() && loaded_ && gate_;
  count_register_ = count;
  loaded_ = true;
  // Modes 1 and 5 take the count with the next trigger.
  if (one_shot_by_gate()) return;
  if (!runs) return start(now_ns);
  // Modes 2 and 3 finish the period or the half of it ("Writing a new count while counting").
  const std::uint64_t period = initial_count(), elapsed = elapsed_ticks(now_ns), phase = elapsed % period;
  const std::uint64_t high_half = (period + 1) / 2;
  const std::uint64_t left = mode_ == 3 && phase < high_half ? high_half - phase : period - phase;
  changes_ns_ = started_ns_ + ns_until(elapsed + left);
}

void PitCounter::start(std::uint64_t now_ns) {
  running_count_ = count_register_;
  started_ns_ = now_ns;
  stopped_ticks_ = 0;
  changes_ns_ = never;
}

void PitCounter::change_over() {
  const bool low_half = ticks_in(changes_ns_ - started_ns_) % initial_count() != 0;  // mode 3 only
  start(changes_ns_);
  if (low_half) started_ns_ -= ns_until((initial_count() + 1) / 2);  // may wrap below zero; only differences are used
}

PitCounter PitCounter::changed() const {
  PitCounter later = *this;
  later.change_over();
  return later;
}

void PitCounter::set_gate(bool gate, std::uint64_t now_ns) {
  if (gate == gate_) return;
  if (change_is_due(now_ns)) change_over();
  if (!gate) stopped_ticks_ = elapsed_ticks(now_ns);
  gate_ = gate;
  if (!gate || !loaded_) return;
  if (one_shot_by_gate()) {
    triggered_ = true;
    start(now_ns);
  } else if (periodic()) {
    start(now_ns);
  } else {
    started_ns_ = now_ns - ns_until(stopped_ticks_);  // may wrap below zero; only differences are used
  }
}

std::uint64_t PitCounter::initial_count() const {
  const std::uint64_t count = bcd_ ? from_bcd(running_count_) : running_count_;
  if (count == 0) return bcd_ ? 10'000 : 0x10000;
  return periodic() && count == 1 ? 2 : count;  // 1 is illegal in modes 2 and 3
}

bool PitCounter::counting() const { return one_shot_by_gate() ? triggered_ : loaded_; }

std::uint64_t PitCounter::elapsed_ticks(std::uint64_t now_ns) const {
  if (!gate_ && !one_shot_by_gate()) return stopped_ticks_;
  return ticks_in(now_ns - started_ns_);
}

bool PitCounter::out(std::uint64_t now_ns) const {
  if (change_is_due(now_ns)) return changed().out(now_ns);
  const bool idle = mode_ != 0;  // OUT after the control word
  if (!counting()) return idle;
  const std::uint64_t count = initial_count();
  const std::uint64_t elapsed = elapsed_ticks(now_ns);
  switch (mode_) {
    case 0:
    case 1:
      return elapsed >= count;
    case 2:
      return !gate_ || elapsed % count != count - 1;
    case 3:
      return !gate_ || elapsed % count < (count + 1) / 2;
    default:
      return elapsed != count;  // modes 4 and 5: low for one tick
  }
}

std::uint64_t PitCounter::next_rise_ns(std::uint64_t now_ns) const {
  if (change_is_due(now_ns)) return changed().next_rise_ns(now_ns);
  if (!counting() || (!gate_ && !one_shot_by_gate())) return never;
  const std::uint64_t count = initial_count();
  const std::uint64_t elapsed = elapsed_ticks(now_ns);
  std::uint64_t rise = count;
  if (periodic()) rise = (elapsed / count + 1) * count;
  if (mode_ >= 4) rise = count + 1;
  if (rise <= elapsed) return never;
  const std::uint64_t rise_ns = started_ns_ + ns_until(rise);
  return rise_ns > changes_ns_ ? changed().next_rise_ns(changes_ns_) : rise_ns;
}

std::uint16_t PitCounter::counting_element(std::uint64_t now_ns) const {
  if (change_is_due(now_ns)) return changed().counting_element(now_ns);
  const std::uint64_t count = initial_count();
  if (!counting()) return count_register_;
  const std::uint64_t elapsed = elapsed_ticks(now_ns);
  const std::uint64_t modulus = bcd_ ? 10'000 : 0x10000;
  std::uint64_t value = 0;
  if (mode_ == 2) {
    value = count - elapsed % count;
  } else if (mode_ == 3) {  // counts by two, twice in a period; an odd count starts one lower
    const std::uint64_t high_half = (count + 1) / 2;
    const std::uint64_t phase = elapsed % count;
    value = (count & ~std::uint64_t{1}) - 2 * (phase < high_half ? phase : phase - high_half);
  } else {
    value = count - elapsed % modulus;  // goes on past zero from all ones (or 9999)
  }
  value %= modulus;
  return bcd_ ? to_bcd(value) : static_cast<std::uint16_t>(value);
}

void PitCounter::latch_count(std::uint64_t now_ns) {
  if (count_latched_) return;
  count_latch_ = counting_element(now_ns);
  count_latched_ = true;
}

void PitCounter::latch_status(std::uint64_t now_ns) {
  if (status_latched_) return;
  const bool null_count = !loaded_ || (changes_ns_ != never && !change_is_due(now_ns));
  status_latch_ =
      static_cast<std::uint8_t>((out(now_ns) ? 0x80u : 0u) | (null_count ? 0x40u : 0u) |
                                (static_cast<unsigned>(access_) << 4) | (unsigned{mode_} << 1) | (bcd_ ? 1u : 0u));
  status_latched_ = true;
}

std::uint8_t PitCounter::read_count(std::uint64_t now_ns) {
  if (status_latched_) {
    status_latched_ = false;
    return status_latch_;
  }
  const std::uint16_t value = count_latched_ ? count_latch_ : counting_element(now_ns);
  const auto low = static_cast<std::uint8_t>(value);
  const auto high = static_cast<std::uint8_t>(value >> 8);
  if (access_ == Access::Low || access_ == Access::High) {
    count_latched_ = false;
    return access_ == Access::Low ? low : high;
  }
  read_high_next_ = !read_high_next_;
  if (read_high_next_) return low;
  count_latched_ = false;
  return high;
}

void PitCounter::save(machine::SnapshotWriter& out, std::uint64_t now_ns) const {
  if (change_is_due(now_ns)) return changed().save(out, now_ns);
  for (const std::uint8_t value : {mode_, static_cast<std::uint8_t>(access_), status_latch_, write_low_})
    out.put(value);
  for (const bool flag :
       {bcd_, gate_, loaded_, triggered_, read_high_next_, write_high_next_, count_latched_, status_latched_})
    out.put(static_cast<std::uint8_t>(flag));
  for (const std::uint16_t value : {count_latch_, count_register_, running_count_}) out.put(value);
  out.put(now_ns - started_ns_);
  out.put(changes_ns_ == never ? never : changes_ns_ - now_ns);
  out.put(stopped_ticks_);
}

void PitCounter::restore(machine::SnapshotReader& in, std::uint64_t now_ns) {
  std::uint8_t access = 0;
  for (std::uint8_t* value : {&mode_, &access, &status_latch_, &write_low_}) in.get(*value);
  for (bool* flag :
       {&bcd_, &gate_, &loaded_, &triggered_, &read_high_next_, &write_high_next_, &count_latched_, &status_latched_})
    *flag = in.get<std::uint8_t>() != 0;
  for (std::uint16_t* value : {&count_latch_, &count_register_, &running_count_}) in.get(*value);
  started_ns_ = now_ns - in.get<std::uint64_t>();
  const auto until_change_ns = in.get<std::uint64_t>();
  in.get(stopped_ticks_);
  if (mode_ > 5 || access > 3) {
    in.fail();
    mode_ = 0;
    access = 3;
  }
  changes_ns_ = periodic() && until_change_ns <= ns_until(0x10000) ? now_ns + until_change_ns : never;
  access_ = static_cast<Access>(access);
}

}  // namespace veneer::devices
