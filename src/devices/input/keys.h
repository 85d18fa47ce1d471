// The keys of a PC keyboard: their names for people, their scan codes for guests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace veneer::devices {

/// A key: its make code in scan code set 1, with bit 7 for those that come behind E0h.
enum class Key : std::uint8_t {
  Enter = 0x1c,
  LeftShift = 0x2a,
  LeftAlt = 0x38,
  LeftCtrl = 0x1d,
  RightShift = 0x36,
  RightCtrl = 0x9d,
  RightAlt = 0xb8,
  PrintScreen = 0xb7,
  Pause = 0xc6,  ///< by the code of Ctrl+Pause (E0h 46h); on its own it sends a sequence of its own
};

/// How a key is coded in each set (IBM PS/2 Hardware Interface Technical Reference, "Keyboard", scan code sets 1 to 3).
struct KeyCodes {
  bool extended;  ///< behind E0h in sets 1 and 2
  std::uint8_t set1, set2, set3;
};

/// Nothing for a number that is no key's.
std::optional<KeyCodes> codes_of(Key key);

/// A key that goes down or up.
struct KeyEvent {
  Key key;
  bool down;
  bool operator==(const KeyEvent&) const = default;
};

/// "ctrl-alt-delete", "ret", "a", "shift-f1": all of them down in this order, then up in the reverse one.
Result<std::vector<KeyEvent>> parse_chord(std::string_view text);

/// What a US keyboard's user presses for this text: printable ASCII, newline (Enter) and tab.
Result<std::vector<KeyEvent>> keys_for_text(std::string_view text);

/// All names that parse_chord() knows, for help.
std::string key_names();

}  // namespace veneer::devices
