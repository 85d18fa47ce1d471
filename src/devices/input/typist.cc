// The typist: one event at each step, if the keyboard is idle.
#include "devices/input/typist.h"

#include <utility>

namespace veneer::devices {

Typist::Typist(TimerService& timers, Ps2Keyboard& keyboard, std::function<bool()> keyboard_idle)
    : clock_(timers.clock()),
      keyboard_(keyboard),
      keyboard_idle_(std::move(keyboard_idle)),
      timer_(timers.make_timer([this] { step(); })) {}

Result<void> Typist::type(std::span<const KeyEvent> events) {
  if (events.size() > most_events - events_.size()) return Error("too much to type at once; wait a little");
  const bool was_busy = busy();
  events_.insert(events_.end(), events.begin(), events.end());
  if (!was_busy && busy()) step();
  return {};
}

void Typist::step() {
  if (events_.empty()) return;
  if (keyboard_idle_()) {
    keyboard_.key(events_.front().key, events_.front().down);
    events_.pop_front();
    waited_ = 0;
  } else if (++waited_ > patience) {
    // Nobody listens. What is down goes up, or it would repeat when somebody does.
    for (const KeyEvent& event : events_)
      if (!event.down) keyboard_.key(event.key, false);
    events_.clear();
    waited_ = 0;
  }
  if (!events_.empty()) timer_->arm(clock_.now_ns() + pause_ns);
}

void Typist::reset() {
  events_.clear();
  waited_ = 0;
  timer_->cancel();
}

void Typist::save(machine::SnapshotWriter& out) const {
  out.section("typist");
  out.put(static_cast<std::uint32_t>(events_.size()));
  for (const KeyEvent& event : events_) {
    out.put(event.key);
    out.put(static_cast<std::uint8_t>(event.down));
  }
}

void Typist::restore(machine::SnapshotReader& in) {
  reset();
  in.section("typist");
  const auto count = in.get<std::uint32_t>();
  if (count > most_events) return in.fail();
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    const auto key = in.get<Key>();
    events_.push_back({key, in.get<std::uint8_t>() != 0});
  }
  if (busy()) timer_->arm(clock_.now_ns() + pause_ns);
}

}  // namespace veneer::devices
