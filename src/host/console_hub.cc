// ConsoleHub: history, taps, and waiting for slow ones.
#include "host/console_hub.h"

#include <algorithm>

namespace veneer::host {

void ConsoleHub::write(std::span<const std::uint8_t> bytes) {
  next_.write(bytes);
  {
    std::unique_lock lock(mutex_);
    history_.insert(history_.end(), bytes.begin(), bytes.end());
    if (history_.size() > history_bytes)
      history_.erase(history_.begin(), history_.end() - static_cast<std::ptrdiff_t>(history_bytes));
    if (taps_.empty()) return;
    const auto taps = taps_;
    for (const auto& tap : taps) {
      const auto room = [&] { return abandoned_ || tap->cut_off_ || tap->bytes_.size() < tap_bytes; };
      while (!room()) {
        const std::uint64_t before = tap->taken_;
        if (!changed_.wait_for(lock, patience_, [&] { return room() || tap->taken_ != before; })) tap->cut_off_ = true;
      }
      if (tap->cut_off_ || tap->bytes_.size() >= tap_bytes) continue;
      tap->bytes_.insert(tap->bytes_.end(), bytes.begin(), bytes.end());
    }
  }
  if (listener_) listener_();
}

std::shared_ptr<ConsoleHub::Tap> ConsoleHub::attach() {
  auto tap = std::make_shared<Tap>();
  const std::lock_guard lock(mutex_);
  tap->bytes_ = history_;
  taps_.push_back(tap);
  return tap;
}

void ConsoleHub::detach(const std::shared_ptr<Tap>& tap) {
  const std::lock_guard lock(mutex_);
  tap->cut_off_ = true;
  taps_.erase(std::remove(taps_.begin(), taps_.end(), tap), taps_.end());
  changed_.notify_all();
}

bool ConsoleHub::take(Tap& tap, std::size_t limit, std::vector<std::uint8_t>& out) {
  const std::lock_guard lock(mutex_);
  const auto count = static_cast<std::ptrdiff_t>(std::min(limit, tap.bytes_.size()));
  out.assign(tap.bytes_.begin(), tap.bytes_.begin() + count);
  tap.bytes_.erase(tap.bytes_.begin(), tap.bytes_.begin() + count);
  tap.taken_ += static_cast<std::uint64_t>(count);
  if (count != 0) changed_.notify_all();
  return !tap.cut_off_;
}

bool ConsoleHub::ready(const Tap& tap) const {
  const std::lock_guard lock(mutex_);
  return tap.cut_off_ || !tap.bytes_.empty();
}

void ConsoleHub::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  changed_.notify_all();
}

}  // namespace veneer::host
