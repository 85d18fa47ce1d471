// A line editor for the monitor prompt: what each key does.
#include "cli/line_editor.h"

#include <utility>

namespace veneer::cli {

LineEditor::Result LineEditor::key(std::uint8_t byte) {
  const bool after_cr = std::exchange(after_cr_, byte == '\r');
  if (sequence_ == Sequence::Escape) {
    sequence_ = byte == '[' || byte == 'O' ? Sequence::Bracket : Sequence::None;
    return {};
  }
  if (sequence_ == Sequence::Bracket) {
    if (byte >= 0x40 && byte <= 0x7e) sequence_ = Sequence::None;  // the final byte (ECMA-48 5.4)
    return {};
  }
  Result result;
  switch (byte) {
    case '\n':
      if (after_cr) return {};
      [[fallthrough]];
    case '\r':
      result.echo = "\n";
      result.line = std::exchange(text_, {});
      return result;
    case 0x08:
    case 0x7f:
      if (text_.empty()) return {};
      text_.pop_back();
      result.echo = "\b \b";
      return result;
    case 0x15:  // Ctrl-U
      for (std::size_t i = 0; i < text_.size(); ++i) result.echo += "\b \b";
      text_.clear();
      return result;
    case 0x03:  // Ctrl-C: a fresh line
      text_.clear();
      result.echo = "^C\n";
      result.line = std::string();
      return result;
    case 0x04:  // Ctrl-D
      result.leave = text_.empty();
      return result;
    case 0x1b:
      sequence_ = Sequence::Escape;
      return {};
    default:
      if (byte < 0x20 || byte > 0x7e || text_.size() >= longest_line) return {};
      text_ += static_cast<char>(byte);
      result.echo = static_cast<char>(byte);
      return result;
  }
}

}  // namespace veneer::cli
