// The local APIC's timer.
#include "devices/irq/lapic_timer.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t ns_per_s = 1'000'000'000;
using Wide = unsigned __int128;

/// a * b / c, rounded up, saturated.
std::uint64_t scale_up(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  const Wide result = (Wide{a} * b + (c - 1)) / c;
  return result > ~std::uint64_t{0} ? ~std::uint64_t{0} : static_cast<std::uint64_t>(result);
}

std::uint64_t add_saturated(std::uint64_t a, std::uint64_t b) { return a + b < a ? ~std::uint64_t{0} : a + b; }

}  // namespace

LapicTimer::LapicTimer(TimerService& timers, const LapicConfig& config, std::function<void()> expired)
    : clock_(timers.clock()),
      config_(config),
      expired_(std::move(expired)),
      timer_(timers.make_timer([this] { fire(); })) {}

std::uint64_t LapicTimer::guest_tsc() const { return config_.guest_tsc ? config_.guest_tsc() : clock_.now_ns(); }

std::uint64_t LapicTimer::count_ns(std::uint64_t count) const {
  // Figure 11-10: 0 is divide by 2, ... 6 is divide by 128, 7 is divide by 1.
  const std::uint64_t code = (divide_ & 3) | ((divide_ & 8) >> 1);
  const std::uint64_t divisor = code == 7 ? 1 : std::uint64_t{2} << code;
  return scale_up(count, ns_per_s * divisor, config_.bus_hz);
}

std::uint64_t LapicTimer::period_ns() const { return std::max(count_ns(initial_count_), minimum_period_ns); }

void LapicTimer::set_mode(Mode mode) {
  if (mode == mode_) return;
  const bool deadline_changes = (mode == Mode::TscDeadline) != (mode_ == Mode::TscDeadline);
  mode_ = mode;
  if (!deadline_changes) {
    if (running_) start(count_ns(initial_count_ - current_count()));
    return;
  }
  timer_->cancel();
  running_ = false;
  tsc_deadline_ = 0;
  initial_count_ = 0;
}

void LapicTimer::set_initial_count(std::uint32_t count) {
  if (mode_ == Mode::TscDeadline) return;
  initial_count_ = count;
  running_ = false;
  timer_->cancel();
  if (count != 0) start(0);
}

void LapicTimer::start(std::uint64_t elapsed_ns) {
  const std::uint64_t now = clock_.now_ns();
  const std::uint64_t total = mode_ == Mode::Periodic ? period_ns() : count_ns(initial_count_);
  started_ns_ = now - elapsed_ns;  // may wrap below zero; only differences are used
  running_ = true;
  timer_->arm(add_saturated(now, total > elapsed_ns ? total - elapsed_ns : 0));
}

std::uint32_t LapicTimer::current_count() const {
  if (!running_) return 0;
  const std::uint64_t elapsed = clock_.now_ns() - started_ns_;
  const std::uint64_t total = count_ns(initial_count_);
  if (total == 0) return 0;
  if (elapsed >= total && mode_ == Mode::OneShot) return 0;
  const std::uint64_t left = total - elapsed % total;
  return static_cast<std::uint32_t>(static_cast<Wide>(left) * initial_count_ / total);
}

void LapicTimer::set_divide(std::uint32_t value) {
  const std::uint32_t left = current_count();
  divide_ = value & 0xb;
  // The count goes on from where it is, at the new rate.
  if (running_) start(count_ns(initial_count_ - left));
}

void LapicTimer::set_tsc_deadline(std::uint64_t tsc) {
  if (mode_ != Mode::TscDeadline) return;
  tsc_deadline_ = tsc;
  // A deadline that is over interrupts now, not when the event loop comes to it.
  if (tsc != 0 && guest_tsc() >= tsc) {
    timer_->cancel();
    fire();
    return;
  }
  arm_tsc_deadline();
}

void LapicTimer::tsc_changed() {
  if (mode_ == Mode::TscDeadline) arm_tsc_deadline();
}

void LapicTimer::arm_tsc_deadline() {
  if (tsc_deadline_ == 0) {
    timer_->cancel();
    return;
  }
  const std::uint64_t now_ns = clock_.now_ns();
  const std::uint64_t now_tsc = guest_tsc();
  const std::uint64_t hz = config_.guest_tsc ? config_.tsc_hz : ns_per_s;
  const std::uint64_t wait = tsc_deadline_ > now_tsc ? scale_up(tsc_deadline_ - now_tsc, ns_per_s, hz) : 0;
  timer_->arm(add_saturated(now_ns, wait));
}

void LapicTimer::fire() {
  if (mode_ == Mode::TscDeadline) {
    if (tsc_deadline_ == 0) return;
    if (guest_tsc() < tsc_deadline_) {  // the two clocks drift a little: never early
      arm_tsc_deadline();
      return;
    }
    tsc_deadline_ = 0;
  } else if (mode_ == Mode::Periodic && running_) {
    // Periods that were missed are skipped, as they would merge in IRR.
    start((clock_.now_ns() - started_ns_) % period_ns());
  } else {
    running_ = false;
  }
  expired_();
}

void LapicTimer::reset() {
  timer_->cancel();
  mode_ = Mode::OneShot;
  initial_count_ = 0;
  divide_ = 0;
  started_ns_ = 0;
  running_ = false;
  tsc_deadline_ = 0;
}

void LapicTimer::save(machine::SnapshotWriter& out) const {
  out.put(mode_);
  out.put(initial_count_);
  out.put(divide_);
  out.put(static_cast<std::uint8_t>(running_));
  out.put(running_ ? clock_.now_ns() - started_ns_ : std::uint64_t{0});
  out.put(tsc_deadline_);
}

void LapicTimer::restore(machine::SnapshotReader& in) {
  reset();
  const auto mode = in.get<std::uint8_t>();
  if (mode > 2) in.fail();
  in.get(initial_count_);
  in.get(divide_);
  const bool running = in.get<std::uint8_t>() != 0;
  const auto elapsed = in.get<std::uint64_t>();
  in.get(tsc_deadline_);
  if (!in.ok()) return reset();
  mode_ = static_cast<Mode>(mode);
  if (running) start(elapsed);
  if (mode_ == Mode::TscDeadline) arm_tsc_deadline();
}

}  // namespace veneer::devices
