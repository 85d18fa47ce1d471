// ConsoleHub: the guest's serial output on its way to its backend, with taps for those who attach.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "machine/char_sink.h"

namespace veneer::host {

/// Passes all output on to another sink, keeps the newest of it, and copies it to taps. The guest waits for a tap that
/// is full, as behind a slow terminal, for as long as it takes something out at least every `patience`; a tap that
/// stands still for longer is cut off. Thread-safe.
class ConsoleHub final : public machine::CharSink {
 public:
  static constexpr std::size_t history_bytes = 16 * 1024;
  static constexpr std::size_t tap_bytes = 256 * 1024;

  /// One reader's queue. Its fields belong to the hub's mutex.
  class Tap {
    friend class ConsoleHub;
    std::deque<std::uint8_t> bytes_;
    std::uint64_t taken_ = 0;
    bool cut_off_ = false;
  };

  explicit ConsoleHub(machine::CharSink& next, std::chrono::milliseconds patience = std::chrono::seconds(10))
      : next_(next), patience_(patience) {}

  void write(std::span<const std::uint8_t> bytes) override;

  /// A new reader; it begins with the history.
  std::shared_ptr<Tap> attach();
  void detach(const std::shared_ptr<Tap>& tap);
  /// Takes at most `limit` bytes. False when the tap was cut off.
  bool take(Tap& tap, std::size_t limit, std::vector<std::uint8_t>& out);
  /// Something to take, or cut off.
  bool ready(const Tap& tap) const;
  /// Called without the mutex when there is something new for taps. Set before the machine runs.
  void set_listener(std::function<void()> listener) { listener_ = std::move(listener); }
  /// From now on the guest waits for nobody here.
  void abandon();

 private:
  machine::CharSink& next_;
  const std::chrono::milliseconds patience_;
  std::function<void()> listener_;
  mutable std::mutex mutex_;  // a leaf lock
  std::condition_variable changed_;
  std::deque<std::uint8_t> history_;  // guarded by mutex_, as all below
  std::vector<std::shared_ptr<Tap>> taps_;
  bool abandoned_ = false;
};

}  // namespace veneer::host
