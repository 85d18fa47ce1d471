// Packets of the gdb remote protocol: framing, checksums, escapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace veneer::debug::gdb {

/// The largest packet that is taken; gdb is told so. A longer one is thrown away.
inline constexpr std::size_t packet_bytes = 0x4000;

/// Takes packets out of a byte stream ("$text#checksum", Ctrl-C, acknowledgements).
class PacketReader {
 public:
  enum class Kind : std::uint8_t {
    None,       ///< all input is used up
    Packet,     ///< text() is a whole packet, unescaped
    Damaged,    ///< a packet with a wrong checksum: ask for it again
    Interrupt,  ///< Ctrl-C
    Resend,     ///< '-': the last reply did not arrive
  };

  /// Consumes bytes from the front of `input` up to the next event.
  Kind next(std::string_view& input);
  const std::string& text() const { return text_; }

 private:
  enum class State : std::uint8_t { Idle, Text, Escaped, FirstDigit, SecondDigit };
  void add(char byte);

  State state_ = State::Idle;
  std::string text_;
  bool too_long_ = false;
  std::uint8_t sum_ = 0;
  char first_digit_ = 0;
};

/// "$text#checksum", with '#', '$', '}' and '*' escaped.
std::string frame(std::string_view text);

/// Lower-case hex of bytes, and back. from_hex gives nothing for odd lengths or other characters.
std::string to_hex(std::span<const std::uint8_t> bytes);
std::string to_hex(std::string_view text);
std::optional<std::string> from_hex(std::string_view hex);

/// A number in hex without prefix, as addresses and lengths come; takes it off the front. Nothing when there is none.
std::optional<std::uint64_t> take_hex(std::string_view& text);

}  // namespace veneer::debug::gdb
