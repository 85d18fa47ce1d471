// StormBrake: keeps a level-triggered interrupt that nobody answers from stopping the guest for ever.
//
// A line that stays up asks again at every EOI. On hardware the new interrupt takes long enough to arrive for the
// program that was interrupted to get on by an instruction or more; here it is there before the handler's IRET, and the
// program stands still for ever. So after many in a row the input is quiet for a while, in which the guest can do what
// ends the storm.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace veneer::devices {

/// One for the inputs of one chip. Called with the board lock held. Not part of a saved state: restoring ends a storm.
class StormBrake {
 public:
  /// A storm: this many interrupts in a row that were ended with their line still up.
  static constexpr std::uint32_t length = 10'000;
  /// How long an input is quiet then.
  static constexpr std::uint64_t pause_ns = 10'000'000;

  /// `ask_again`, called when a pause is over, looks at all inputs; under the board lock.
  StormBrake(unsigned inputs, TimerService& timers, std::function<void()> ask_again)
      : clock_(timers.clock()), pause_(timers.make_timer(std::move(ask_again))), ends_with_line_up_(inputs) {}

  /// This input's interrupt was ended. Whether its line, if it is up, may ask again now; else ask_again will be called.
  bool ended(unsigned input, bool line_is_up) {
    std::uint32_t& ends = ends_with_line_up_[input];
    ends = line_is_up ? ends + 1 : 0;
    if (ends < length) return true;
    ends = 0;
    try_later();
    return false;
  }

  /// What an input has asked for was not taken: ask_again will be called.
  void try_later() { pause_->arm(clock_.now_ns() + pause_ns); }

  void reset() {
    ends_with_line_up_.assign(ends_with_line_up_.size(), 0);
    pause_->cancel();
  }

  /// For an input that was quiet when its state was saved.
  void restored() {
    reset();
    pause_->arm(clock_.now_ns());
  }

 private:
  const Clock& clock_;
  std::unique_ptr<Timer> pause_;
  std::vector<std::uint32_t> ends_with_line_up_;
};

}  // namespace veneer::devices
