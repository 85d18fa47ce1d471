// GuestInput: the queue between the keyboard and the UART.
#include "cli/guest_input.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace veneer::cli {

std::size_t GuestInput::offer(std::span<const std::uint8_t> bytes) {
  std::size_t taken = 0;
  {
    const std::lock_guard lock(mutex_);
    taken = std::min(bytes.size(), capacity_bytes - bytes_.size());
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    was_full_ = was_full_ || taken < bytes.size();
  }
  if (taken != 0 && request_) request_();
  return taken;
}

void GuestInput::deliver(std::size_t room, const std::function<void(std::span<const std::uint8_t>)>& receive) {
  std::vector<std::uint8_t> chunk;
  bool tell = false;
  {
    const std::lock_guard lock(mutex_);
    const auto count = static_cast<std::ptrdiff_t>(std::min(room, bytes_.size()));
    chunk.assign(bytes_.begin(), bytes_.begin() + count);
    bytes_.erase(bytes_.begin(), bytes_.begin() + count);
    tell = count != 0 && std::exchange(was_full_, false);
  }
  if (!chunk.empty()) receive(chunk);
  if (tell)
    for (const auto& listener : room_listeners_) listener();
}

}  // namespace veneer::cli
