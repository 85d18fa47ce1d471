// GuestInput: typed bytes on their way to the guest's serial receiver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

namespace veneer::cli {

/// A bounded queue between a reader on the host and the UART, so that the reader never waits for the board lock.
/// Reader side: offer(). Machine side: deliver(), under the board lock. Thread-safe.
class GuestInput {
 public:
  /// `request` asks the machine to call deliver() soon, without waiting. It is called on the reader's thread.
  void set_request(std::function<void()> request) { request_ = std::move(request); }
  /// Called (on the machine's thread) when room appears after offer() could not take everything. Before the machine
  /// runs.
  void add_room_listener(std::function<void()> listener) { room_listeners_.push_back(std::move(listener)); }

  /// Takes as many of the bytes as there is room for, and says how many.
  std::size_t offer(std::span<const std::uint8_t> bytes);

  /// Hands at most `room` bytes to `receive`.
  void deliver(std::size_t room, const std::function<void(std::span<const std::uint8_t>)>& receive);

  static constexpr std::size_t capacity_bytes = 64 * 1024;

 private:
  std::function<void()> request_;
  std::vector<std::function<void()>> room_listeners_;
  std::mutex mutex_;  // a leaf lock
  std::deque<std::uint8_t> bytes_;
  bool was_full_ = false;
};

}  // namespace veneer::cli
