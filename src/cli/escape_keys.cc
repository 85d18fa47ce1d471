// The escape keys of a console: the state machine.
#include "cli/escape_keys.h"

namespace veneer::cli {

EscapeKeys::Step EscapeKeys::feed(std::span<const std::uint8_t> input, std::vector<std::uint8_t>& plain) {
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::uint8_t key = input[i];
    if (!armed_) {
      if (key == escape)
        armed_ = true;
      else
        plain.push_back(key);
      continue;
    }
    armed_ = false;
    switch (key) {
      case 'x':
      case 'X':
        return {i + 1, Action::Quit};
      case 'p':
      case 'P':
        return {i + 1, Action::Power};
      case 'c':
      case 'C':
        return {i + 1, Action::Monitor};
      case 'h':
      case 'H':
      case '?':
        return {i + 1, Action::Help};
      case 'd':
      case 'D':
        if (set_ == Set::Attached) return {i + 1, Action::Detach};
        plain.push_back(escape);
        plain.push_back(key);
        break;
      case escape:
        plain.push_back(escape);
        break;
      default:
        plain.push_back(escape);
        plain.push_back(key);
        break;
    }
  }
  return {input.size(), Action::None};
}

const char* escape_key_help(EscapeKeys::Set set) {
  if (set == EscapeKeys::Set::Attached)
    return "\n"
           "Ctrl-A d       detach; the machine goes on\n"
           "Ctrl-A p       press the power button: the guest ends itself\n"
           "Ctrl-A x       end the machine\n"
           "Ctrl-A c       open the monitor prompt, or leave it\n"
           "Ctrl-A h       this list\n"
           "Ctrl-A Ctrl-A  send Ctrl-A to the guest\n";
  return "\n"
         "Ctrl-A p       press the power button: the guest ends itself\n"
         "Ctrl-A x       end the machine\n"
         "Ctrl-A c       open the monitor prompt, or leave it\n"
         "Ctrl-A h       this list\n"
         "Ctrl-A Ctrl-A  send Ctrl-A to the guest\n";
}

}  // namespace veneer::cli
