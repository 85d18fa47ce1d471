// The PS/2 keyboard behind the 8042: its commands and replies.
#include <utility>

#include "devices/legacy/i8042.h"

namespace veneer::devices {
namespace {

constexpr std::uint8_t ACK = 0xfa, RESEND = 0xfe, SELF_TEST_PASSED = 0xaa;

enum Command : std::uint8_t {
  SET_LEDS = 0xed,
  ECHO_BACK = 0xee,
  SCAN_CODE_SET = 0xf0,
  IDENTIFY = 0xf2,
  SET_TYPEMATIC = 0xf3,
  ENABLE_SCANNING = 0xf4,
  DISABLE_SCANNING = 0xf5,
  SET_DEFAULTS = 0xf6,
  FIRST_SET3_COMMAND = 0xf7,  // F7h-FDh change keys of scan code set 3
  LAST_SET3_COMMAND = 0xfd,
  RESEND_LAST = 0xfe,
  RESET_KEYBOARD = 0xff,
};

}  // namespace

void Ps2Controller8042::keyboard_defaults() {
  scanning_ = true;
  typematic_ = 0x2b;
  scan_code_set_ = 2;
  leds_ = 0;
}

void Ps2Controller8042::key(std::span<const std::uint8_t> scan_codes) {
  // All or nothing, so that no half of a sequence is left.
  if (!scanning_ || scan_codes.size() > queue_bytes - queue_count_) return;
  for (const std::uint8_t value : scan_codes) push(value);
  refill();
}

void Ps2Controller8042::push(std::uint8_t value) {
  if (queue_count_ >= queue_bytes) return;
  queue_[(queue_head_ + queue_count_) % queue_bytes] = value;
  ++queue_count_;
}

void Ps2Controller8042::keyboard_reply(std::uint8_t value) {
  if (value != RESEND) last_reply_ = value;
  push(value);
  refill();
}

void Ps2Controller8042::keyboard_byte(std::uint8_t value) {
  const std::uint8_t command = std::exchange(keyboard_command_, std::uint8_t{0});
  if (command != 0 && value < SET_LEDS) {  // a command byte in place of an argument starts over
    keyboard_command_ = command;
    keyboard_argument(value);
    keyboard_command_ = 0;
    return;
  }
  switch (value) {
    case SET_LEDS:
    case SCAN_CODE_SET:
    case SET_TYPEMATIC:
      keyboard_command_ = value;
      keyboard_reply(ACK);
      return;
    case ECHO_BACK:
      keyboard_reply(ECHO_BACK);
      return;
    case IDENTIFY:
      keyboard_reply(ACK);
      keyboard_reply(0xab);
      keyboard_reply(0x83);
      return;
    case ENABLE_SCANNING:
      scanning_ = true;
      keyboard_reply(ACK);
      return;
    case DISABLE_SCANNING:
    case SET_DEFAULTS:
      keyboard_defaults();
      scanning_ = value == SET_DEFAULTS;
      keyboard_reply(ACK);
      return;
    case RESEND_LAST:
      keyboard_reply(last_reply_);
      return;
    case RESET_KEYBOARD:
      queue_count_ = 0;
      keyboard_defaults();
      keyboard_reply(ACK);
      keyboard_reply(SELF_TEST_PASSED);
      return;
    default:
      keyboard_reply(value >= FIRST_SET3_COMMAND && value <= LAST_SET3_COMMAND ? ACK : RESEND);
      return;
  }
}

void Ps2Controller8042::keyboard_argument(std::uint8_t value) {
  keyboard_reply(ACK);
  switch (keyboard_command_) {
    case SET_LEDS:
      leds_ = value & 7;
      return;
    case SET_TYPEMATIC:
      typematic_ = value & 0x7f;
      return;
    case SCAN_CODE_SET:
      if (value == 0)
        keyboard_reply(scan_code_set_);
      else if (value <= 3)
        scan_code_set_ = value;
      return;
    default:
      return;
  }
}

}  // namespace veneer::devices
