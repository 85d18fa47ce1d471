// The 8254 interval timer: its ports, and the interrupt of counter 0.
#include "devices/legacy/pit8254.h"

#include "base/bits.h"

namespace veneer::devices {
namespace {

constexpr unsigned control_port = 3;
constexpr std::uint8_t read_back_select = 3;  // control word bits 7-6

// Port 61h
constexpr std::uint8_t gate2 = 0x01;
constexpr std::uint8_t port61_writable = 0x0f;
constexpr std::uint8_t refresh_toggle = 0x10;
constexpr std::uint8_t out2 = 0x20;
constexpr std::uint64_t refresh_period_ns = 15'085;

}  // namespace

Pit8254::Pit8254(machine::IrqLine& irq0, TimerService& timers)
    : irq0_(irq0), clock_(timers.clock()), timer_(timers.make_timer([this] { tick(); })), port61_(*this) {
  reset();
}

std::uint8_t Pit8254::read_byte(unsigned offset) {
  if (offset >= control_port) return 0xff;  // the control word can't be read
  return counters_[offset].read_count(clock_.now_ns());
}

void Pit8254::write_byte(unsigned offset, std::uint8_t value) {
  const std::uint64_t now = clock_.now_ns();
  if (offset < control_port) {
    counters_[offset].write_count(value, now);
    if (offset == 0) counter0_changed();
    return;
  }
  const auto select = static_cast<std::uint8_t>(value >> 6);
  if (select == read_back_select) {
    for (unsigned i = 0; i < 3; ++i) {
      if (!(value & bit(i + 1))) continue;
      if (!(value & bit(5))) counters_[i].latch_count(now);
      if (!(value & bit(4))) counters_[i].latch_status(now);
    }
    return;
  }
  if (Bits<5, 4>::get(value) == 0) {
    counters_[select].latch_count(now);
    return;
  }
  counters_[select].write_control(value, now);
  if (select == 0) counter0_changed();
}

void Pit8254::counter0_changed() {
  const std::uint64_t now = clock_.now_ns();
  irq0_.set(counters_[0].out(now));
  schedule(now);
}

void Pit8254::schedule(std::uint64_t after_ns) {
  const std::uint64_t rise = counters_[0].next_rise_ns(after_ns);
  if (rise == PitCounter::never)
    timer_->cancel();
  else
    timer_->arm(rise);
}

void Pit8254::tick() {
  irq0_.set(false);
  irq0_.set(true);
  const std::uint64_t now = clock_.now_ns();
  // Stays in phase: ticks that come too soon after this one, or were missed, are left out.
  schedule(counters_[0].periodic() ? now + minimum_period_ns - 1'000 : now);
}

void Pit8254::reset() {
  counters_ = {};
  port61_.control = 0;
  counters_[2].set_gate(false, clock_.now_ns());
  counter0_changed();
}

void Pit8254::save(machine::SnapshotWriter& out) const {
  out.section("pit8254");
  for (const PitCounter& counter : counters_) counter.save(out, clock_.now_ns());
}

void Pit8254::restore(machine::SnapshotReader& in) {
  in.section("pit8254");
  for (PitCounter& counter : counters_) counter.restore(in, clock_.now_ns());
  counter0_changed();
}

// --- port 61h ---

std::uint8_t Pit8254::Port61::read_byte(unsigned) {
  const std::uint64_t now = pit.clock_.now_ns();
  std::uint8_t value = control;
  if ((now / refresh_period_ns) & 1) value |= refresh_toggle;
  if (pit.counters_[2].out(now)) value |= out2;
  return value;
}

void Pit8254::Port61::write_byte(unsigned, std::uint8_t value) {
  control = value & port61_writable;
  pit.counters_[2].set_gate((value & gate2) != 0, pit.clock_.now_ns());
}

void Pit8254::Port61::save(machine::SnapshotWriter& out) const {
  out.section("port61");
  out.put(control);
}

void Pit8254::Port61::restore(machine::SnapshotReader& in) {
  in.section("port61");
  control = in.get<std::uint8_t>() & port61_writable;  // counter 2 restores its gate itself
}

void Pit8254::Port61::reset() { write_byte(0, 0); }

}  // namespace veneer::devices
