// The HPET: registers, and when comparators match.
#include "devices/legacy/hpet.h"

#include <algorithm>

#include "base/bits.h"

namespace veneer::devices {
namespace {

enum Register : std::uint64_t {
  CAPABILITIES = 0x000,
  CONFIGURATION = 0x010,
  STATUS = 0x020,
  COUNTER = 0x0f0,
  TIMERS = 0x100,
};
constexpr std::uint64_t timer_stride = 0x20;
constexpr std::uint64_t period_fs = Hpet::tick_ns * 1'000'000;

// Timer configuration and capabilities (2.3.8)
constexpr std::uint64_t INT_TYPE_LEVEL = 1u << 1, INT_ENB = 1u << 2, TYPE_PERIODIC = 1u << 3, PER_INT_CAP = 1u << 4,
                        SIZE_CAP = 1u << 5, VAL_SET = 1u << 6, MODE_32 = 1u << 8, FSB_EN = 1u << 14, FSB_CAP = 1u << 15,
                        INT_ROUTE = 0x1fu << 9;
constexpr std::uint64_t TIMER_WRITABLE =
    INT_TYPE_LEVEL | INT_ENB | TYPE_PERIODIC | VAL_SET | MODE_32 | INT_ROUTE | FSB_EN;
constexpr std::uint64_t TIMER_CAPABLE = PER_INT_CAP | SIZE_CAP | FSB_CAP;
constexpr std::uint64_t never = ~std::uint64_t{0};

}  // namespace

void ReplaceableIrq::choose(bool replacement) {
  if (chosen_ == replacement) return;
  chosen_ = replacement;
  replacement_.level = false;
  to_.set(replacement ? replacement_.level : legacy_.level);
}

/// An 8259A forgets an edge whose line falls before it is acknowledged (pic8259.cc): so this one falls just before the
/// next.
void ReplaceableIrq::edge() {
  replacement_.set(false);
  replacement_.set(true);
}

Hpet::Hpet(const Wiring& wiring, TimerService& timers)
    : wiring_(wiring), clock_(timers.clock()), timer_(timers.make_timer([this] {
        catch_up();
        schedule();
      })) {
  for (unsigned pin = 0; pin < wiring_.pins.size(); ++pin)
    if (wiring_.pins[pin] != nullptr) pin_mask_ |= std::uint64_t{1} << pin;
  reset();
}

void Hpet::reset() {
  for (unsigned n = 0; n < timer_count; ++n) set_status(n, false);
  config_ = status_ = 0;
  base_ = start_ns_ = seen_ = last_match_ns_ = 0;
  timers_ = {};
  for (Comparator& timer : timers_) timer.value = never;
  wiring_.irq0.choose(false);
  wiring_.irq8.choose(false);
  timer_->cancel();
}

// --- time ---

std::uint64_t Hpet::counter() const { return enabled() ? base_ + (clock_.now_ns() - start_ns_) / tick_ns : base_; }

std::uint64_t Hpet::Comparator::mask() const { return (config & MODE_32) ? 0xffff'ffff : never; }

std::uint64_t Hpet::Comparator::distance(std::uint64_t from) const {
  const std::uint64_t ticks = (value - from) & mask();
  if (ticks != 0) return ticks;
  return mask() == never ? never : mask() + 1;
}

/// Acts upon all matches up to now.
void Hpet::catch_up() {
  if (!enabled()) return;
  const std::uint64_t now = counter();
  const std::uint64_t elapsed = now - seen_;
  for (unsigned n = 0; n < timer_count; ++n) {
    Comparator& timer = timers_[n];
    const std::uint64_t ticks = timer.distance(seen_);
    if (ticks > elapsed) continue;
    if ((timer.config & TYPE_PERIODIC) && timer.period != 0) {
      const std::uint64_t times = 1 + (elapsed - ticks) / timer.period;
      timer.value = (timer.value + times * timer.period) & timer.mask();
    }
    match(n);
  }
  seen_ = now;
}

/// For the next match that anybody would notice.
void Hpet::schedule() {
  std::uint64_t nearest = never;
  for (const Comparator& timer : timers_)
    if (timer.config & (INT_ENB | INT_TYPE_LEVEL)) nearest = std::min(nearest, timer.distance(seen_));
  constexpr std::uint64_t farthest = std::uint64_t{1} << 58;  // beyond it nanoseconds overflow: decades
  if (!enabled() || nearest > farthest) return timer_->cancel();
  const std::uint64_t due_ns = start_ns_ + (seen_ - base_ + nearest) * tick_ns;
  timer_->arm(std::max(due_ns, last_match_ns_ == 0 ? 0 : last_match_ns_ + minimum_gap_ns));
}

// --- interrupts ---

/// The ISA interrupt that timer `n` has taken over, or null.
ReplaceableIrq* Hpet::replaced(unsigned n) const {
  if (!replaces_legacy() || n > 1) return nullptr;
  return n == 0 ? &wiring_.irq0 : &wiring_.irq8;
}

/// Where timer `n` interrupts, or null.
machine::IrqLine* Hpet::line(unsigned n) const {
  if (ReplaceableIrq* const isa = replaced(n)) return &isa->replacement();
  return wiring_.pins[(timers_[n].config & INT_ROUTE) >> 9];
}

void Hpet::match(unsigned n) {
  last_match_ns_ = clock_.now_ns();
  const Comparator& timer = timers_[n];
  if (timer.config & INT_TYPE_LEVEL) return set_status(n, true);
  if (!(timer.config & INT_ENB)) return;
  if (timer.config & FSB_EN) {
    if (wiring_.message) wiring_.message(timer.fsb_route >> 32, static_cast<std::uint32_t>(timer.fsb_route));
  } else if (ReplaceableIrq* const isa = replaced(n)) {
    isa->edge();
  } else if (machine::IrqLine* const to = line(n)) {
    to->pulse();
  }
}

void Hpet::set_status(unsigned n, bool active) {
  status_ = active ? status_ | (1ull << n) : status_ & ~(1ull << n);
  const Comparator& timer = timers_[n];
  if (!(timer.config & INT_TYPE_LEVEL)) return;
  if (machine::IrqLine* const to = line(n)) to->set(active && (timer.config & INT_ENB) && !(timer.config & FSB_EN));
}

// --- registers ---

std::uint64_t Hpet::read(std::uint64_t offset, unsigned size_bytes) {
  if (offset % 8 + size_bytes > 8) return 0;  // 2.3.2: accesses are aligned
  return read_register(offset & ~std::uint64_t{7}) >> (offset % 8 * 8) & byte_mask(size_bytes);
}

void Hpet::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset % 8 + size_bytes > 8) return;
  const std::uint64_t shift = offset % 8 * 8;
  const std::uint64_t written = byte_mask(size_bytes) << shift;
  const std::uint64_t at = offset & ~std::uint64_t{7};
  catch_up();
  // What is written with ones is not merged with what is there.
  const std::uint64_t old = at == STATUS ? 0 : read_register(at);
  write_register(at, (old & ~written) | (value << shift & written), written);
  schedule();
}

std::uint64_t Hpet::read_register(std::uint64_t offset) {
  catch_up();
  switch (offset) {
    case CAPABILITIES:
      return period_fs << 32 | block_id;
    case CONFIGURATION:
      return config_;
    case STATUS:
      return status_;
    case COUNTER:
      return counter();
    default:
      break;
  }
  const std::uint64_t n = (offset - TIMERS) / timer_stride;
  if (offset < TIMERS || n >= timer_count) return 0;
  const Comparator& timer = timers_[n];
  switch (offset % timer_stride) {
    case 0x00:
      return timer.config | TIMER_CAPABLE | pin_mask_ << 32;
    case 0x08:
      return timer.value & timer.mask();
    case 0x10:
      return timer.fsb_route;
    default:
      return 0;
  }
}

void Hpet::write_register(std::uint64_t offset, std::uint64_t value, std::uint64_t written) {
  switch (offset) {
    case CONFIGURATION:
      return write_config(value);
    case STATUS:
      for (unsigned n = 0; n < timer_count; ++n)
        if (value >> n & 1) set_status(n, false);
      return;
    case COUNTER:
      if (enabled()) return;  // 2.3.7: only while it is halted
      base_ = seen_ = value;
      return;
    default:
      break;
  }
  const std::uint64_t n = (offset - TIMERS) / timer_stride;
  if (offset < TIMERS || n >= timer_count) return;
  Comparator& timer = timers_[n];
  switch (offset % timer_stride) {
    case 0x00:
      return write_timer_config(static_cast<unsigned>(n), value);
    case 0x08:
      return write_comparator(timer, value, written);
    case 0x10:
      timer.fsb_route = value;
      return;
    default:
      return;
  }
}

void Hpet::write_config(std::uint64_t value) {
  const bool enable = (value & 1) != 0, replace = (value & 2) != 0;
  if (enabled() && !enable) base_ = counter();
  if (!enabled() && enable) {
    start_ns_ = clock_.now_ns();
    seen_ = base_;
  }
  if (replace != replaces_legacy()) {
    wiring_.irq0.choose(replace);
    wiring_.irq8.choose(replace);
  }
  config_ = value & 3;
}

void Hpet::write_timer_config(unsigned n, std::uint64_t value) {
  Comparator& timer = timers_[n];
  const bool active = (status_ >> n & 1) != 0;
  if (active) set_status(n, false);  // the line it holds now falls
  timer.config = value & TIMER_WRITABLE;
  if (timer.config & MODE_32) {
    timer.value &= timer.mask();
    timer.period &= timer.mask();
  }
  if (active && (timer.config & INT_TYPE_LEVEL)) set_status(n, true);
}

/// A periodic timer takes its first match behind VAL_SET (2.3.9.2.2), then the period.
void Hpet::write_comparator(Comparator& timer, std::uint64_t value, std::uint64_t written) {
  if (!(timer.config & TYPE_PERIODIC) || (timer.config & VAL_SET)) timer.value = value & timer.mask();
  if (timer.config & TYPE_PERIODIC) {
    // Half of a period: the other half stays.
    const bool whole = (timer.config & MODE_32) || written == never;
    timer.period = (whole ? value : (timer.period & ~written) | (value & written)) & timer.mask();
  }
  timer.config &= ~VAL_SET;
}

// --- snapshots ---

void Hpet::save(machine::SnapshotWriter& out) const {
  out.section("hpet");
  const std::uint64_t now = counter();
  out.put(config_);
  out.put(status_);
  out.put(now);
  out.put(now - seen_);
  for (const Comparator& timer : timers_)
    for (const std::uint64_t value : {timer.config, timer.value, timer.period, timer.fsb_route}) out.put(value);
}

void Hpet::restore(machine::SnapshotReader& in) {
  in.section("hpet");
  config_ = in.get<std::uint64_t>() & 3;
  status_ = in.get<std::uint64_t>() & ((1u << timer_count) - 1);
  in.get(base_);
  seen_ = base_ - in.get<std::uint64_t>();
  start_ns_ = clock_.now_ns();
  for (Comparator& timer : timers_) {
    timer.config = in.get<std::uint64_t>() & TIMER_WRITABLE;
    timer.value = in.get<std::uint64_t>() & timer.mask();
    timer.period = in.get<std::uint64_t>() & timer.mask();
    in.get(timer.fsb_route);
  }
  wiring_.irq0.restore(replaces_legacy());
  wiring_.irq8.restore(replaces_legacy());
  schedule();
}

}  // namespace veneer::devices
