// Packets of the gdb remote protocol: the byte level (gdb manual, appendix E.1).
#include "debug/gdb/packet.h"

#include <charconv>
#include <system_error>

namespace veneer::debug::gdb {
namespace {

constexpr char interrupt_byte = 0x03;
constexpr char escape_mask = 0x20;

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void PacketReader::add(char byte) {
  if (text_.size() < packet_bytes)
    text_ += byte;
  else
    too_long_ = true;
}

PacketReader::Kind PacketReader::next(std::string_view& input) {
  while (!input.empty()) {
    const char byte = input.front();
    input.remove_prefix(1);
    switch (state_) {
      case State::Idle:
        if (byte == interrupt_byte) return Kind::Interrupt;
        if (byte == '-') return Kind::Resend;
        if (byte != '$') break;  // '+', or noise between packets
        text_.clear();
        too_long_ = false;
        sum_ = 0;
        state_ = State::Text;
        break;
      case State::Text:
      case State::Escaped:
        if (byte == '#' && state_ == State::Text) {
          state_ = State::FirstDigit;
          break;
        }
        sum_ = static_cast<std::uint8_t>(sum_ + static_cast<std::uint8_t>(byte));
        if (state_ == State::Escaped) {
          add(static_cast<char>(byte ^ escape_mask));
          state_ = State::Text;
        } else if (byte == '}') {
          state_ = State::Escaped;
        } else {
          add(byte);
        }
        break;
      case State::FirstDigit:
        first_digit_ = byte;
        state_ = State::SecondDigit;
        break;
      case State::SecondDigit: {
        state_ = State::Idle;
        const int high = digit_value(first_digit_);
        const int low = digit_value(byte);
        if (high < 0 || low < 0 || high * 16 + low != sum_) return Kind::Damaged;
        if (too_long_) text_.clear();  // an unknown command: gets the empty reply
        return Kind::Packet;
      }
    }
  }
  return Kind::None;
}

std::string frame(std::string_view text) {
  std::string out = "$";
  for (const char c : text) {
    if (c == '#' || c == '$' || c == '}' || c == '*') {
      out += '}';
      out += static_cast<char>(c ^ escape_mask);
    } else {
      out += c;
    }
  }
  std::uint8_t sum = 0;
  for (std::size_t i = 1; i < out.size(); ++i) sum = static_cast<std::uint8_t>(sum + static_cast<std::uint8_t>(out[i]));
  out += '#';
  return out + to_hex(std::span(&sum, 1));
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

std::string to_hex(std::string_view text) {
  return to_hex(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

std::optional<std::string> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string out;
  out.reserve(hex.size() / 2);
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const int high = digit_value(hex[i]);
    const int low = digit_value(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
  }
  return out;
}

std::optional<std::uint64_t> take_hex(std::string_view& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

}  // namespace veneer::debug::gdb
