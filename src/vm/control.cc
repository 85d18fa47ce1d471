// Requests to a machine, collected under one leaf mutex.
#include "vm/control.h"

#include <utility>

#include "base/assert.h"

namespace veneer::vm {

void Control::reset() {
  if (no_reboot_) return end({MachineExit::Reason::Reset, 0, {}});
  if (end_listener_) end_listener_();
  const std::lock_guard hold(mutex_);
  reset_wanted_ = true;
  changed_.notify_all();
}

void Control::crashed(const std::string& message) {
  if (no_reboot_) return end({MachineExit::Reason::Crashed, 3, message});
  reset();
}

void Control::end(MachineExit how) {
  if (end_listener_) end_listener_();
  const std::lock_guard hold(mutex_);
  if (!end_) end_ = std::move(how);
  changed_.notify_all();
}

void Control::set_pause_wanted(bool wanted) {
  const std::lock_guard hold(mutex_);
  pause_wanted_ = wanted;
  changed_.notify_all();
}

Control::Work Control::wait() {
  std::unique_lock hold(mutex_);
  changed_.wait(hold, [this] { return end_ || reset_wanted_ || pause_wanted_ != paused_; });
  if (end_) return Work::End;
  if (std::exchange(reset_wanted_, false)) return Work::Reset;
  return pause_wanted_ ? Work::Pause : Work::Resume;
}

void Control::set_paused(bool paused) {
  const std::lock_guard hold(mutex_);
  paused_ = paused;
  changed_.notify_all();
}

bool Control::paused() const {
  const std::lock_guard hold(mutex_);
  return paused_;
}

bool Control::pause_wanted() const {
  const std::lock_guard hold(mutex_);
  return pause_wanted_;
}

bool Control::wait_paused(bool wanted, std::chrono::milliseconds limit) {
  std::unique_lock hold(mutex_);
  changed_.wait_for(hold, limit, [&] { return end_ || paused_ == wanted; });
  return !end_ && paused_ == wanted;
}

MachineExit Control::result() const {
  const std::lock_guard hold(mutex_);
  VENEER_ASSERT(end_.has_value());
  return *end_;
}

}  // namespace veneer::vm
