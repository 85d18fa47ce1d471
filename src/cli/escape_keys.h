// The escape keys of a console: Ctrl-A and a letter, picked out of what the user types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace veneer::cli {

/// A state machine over typed bytes. Ctrl-A x ends, p presses the power button, c opens or leaves the monitor, h (or ?) lists the keys, Ctrl-A
/// sends one Ctrl-A. Ctrl-A and anything else goes to the guest as it is, both bytes: nothing typed is lost.
class EscapeKeys {
 public:
  enum class Action : std::uint8_t { None, Quit, Power, Monitor, Help, Detach };
  /// Running: at the terminal that runs the machine. Attached: at another one, where d detaches.
  enum class Set : std::uint8_t { Running, Attached };
  struct Step {
    std::size_t consumed = 0;  ///< bytes of the input used up; the rest has to be fed again
    Action action = Action::None;
  };

  static constexpr std::uint8_t escape = 0x01;

  explicit EscapeKeys(Set set = Set::Running) : set_(set) {}

  /// Appends the bytes meant for the reader to `plain` and stops behind the first action.
  Step feed(std::span<const std::uint8_t> input, std::vector<std::uint8_t>& plain);

  /// True between Ctrl-A and the key that follows it.
  bool armed() const { return armed_; }

 private:
  Set set_;
  bool armed_ = false;
};

/// The list that Ctrl-A h prints.
const char* escape_key_help(EscapeKeys::Set set = EscapeKeys::Set::Running);

}  // namespace veneer::cli
