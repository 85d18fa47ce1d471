// A line editor for the monitor prompt on a raw terminal: typing, backspace, Ctrl-U, Ctrl-C, Ctrl-D.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace veneer::cli {

/// Takes one byte at a time; says what to echo, and when a line is ready or the prompt is left.
class LineEditor {
 public:
  struct Result {
    std::string echo;
    std::optional<std::string> line;  ///< set by Enter
    bool leave = false;               ///< Ctrl-D on an empty line
  };

  Result key(std::uint8_t byte);
  void clear() { text_.clear(); }

  static constexpr std::size_t longest_line = 1024;

 private:
  enum class Sequence : std::uint8_t { None, Escape, Bracket };
  std::string text_;
  Sequence sequence_ = Sequence::None;  // cursor keys are swallowed whole
  bool after_cr_ = false;               // the LF of a CR LF pair is not a second line
};

}  // namespace veneer::cli
