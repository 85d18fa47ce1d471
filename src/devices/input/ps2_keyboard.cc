// The PS/2 keyboard: commands and replies, keys to scan codes, repetition.
#include "devices/input/ps2_keyboard.h"

#include <utility>
#include <vector>

namespace veneer::devices {
namespace {

enum Command : std::uint8_t {
  SET_LEDS = 0xed,
  ECHO_BACK = 0xee,
  SCAN_CODE_SET = 0xf0,
  IDENTIFY = 0xf2,
  SET_TYPEMATIC = 0xf3,
  ENABLE_SCANNING = 0xf4,
  DISABLE_SCANNING = 0xf5,
  SET_DEFAULTS = 0xf6,
  ALL_TYPEMATIC = 0xf7,  // F7h to FDh change keys of scan code set 3
  ALL_MAKE_BREAK = 0xf8,
  ALL_MAKE = 0xf9,
  ALL_TYPEMATIC_MAKE_BREAK = 0xfa,
  KEY_TYPEMATIC = 0xfb,
  KEY_MAKE_BREAK = 0xfc,
  KEY_MAKE = 0xfd,
  RESEND_LAST = 0xfe,
  RESET_KEYBOARD = 0xff,
};

constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint8_t default_typematic = 0x2b;  // 500 ms, then 10.9 characters a second

/// Bits 6-5 of the typematic byte.
std::uint64_t repeat_delay_ns(std::uint8_t typematic) { return (1 + (typematic >> 5 & 3u)) * 250 * ms; }

/// (8 + A) * 2^B * 4.17 ms with A in bits 2-0, B in bits 4-3.
std::uint64_t repeat_period_ns(std::uint8_t typematic) {
  return ((8 + (typematic & 7ull)) << (typematic >> 3 & 3)) * 4'170'000;
}

}  // namespace

Ps2Keyboard::Ps2Keyboard(TimerService& timers)
    : clock_(timers.clock()), repeat_timer_(timers.make_timer([this] { repeat(); })) {
  reset();
}

void Ps2Keyboard::reset() {
  Ps2Device::reset();
  command_ = last_reply_ = 0;
  down_.reset();
  set_defaults();
}

void Ps2Keyboard::set_defaults() {
  stop_repeating();
  scanning_ = true;
  typematic_ = default_typematic;
  scan_code_set_ = 2;
  leds_ = 0;
  set_all_modes(TYPEMATIC | BREAK);
}

void Ps2Keyboard::set_all_modes(std::uint8_t mode) { modes_.fill(mode); }

void Ps2Keyboard::reply(std::uint8_t byte) {
  if (byte != RESEND) last_reply_ = byte;
  send({byte});
}

// --- commands ---

void Ps2Keyboard::receive(std::uint8_t byte) {
  const std::uint8_t command = std::exchange(command_, std::uint8_t{0});
  if (command != 0 && byte < SET_LEDS) return argument(command, byte);  // else a command in its place starts over
  switch (byte) {
    case SET_LEDS:
    case SCAN_CODE_SET:
    case SET_TYPEMATIC:
    case KEY_TYPEMATIC:
    case KEY_MAKE_BREAK:
    case KEY_MAKE:
      command_ = byte;
      return reply(ACK);
    case ECHO_BACK:
      return reply(ECHO_BACK);
    case IDENTIFY:
      reply(ACK);
      reply(0xab);
      return reply(0x83);
    case ENABLE_SCANNING:
      scanning_ = true;
      return reply(ACK);
    case DISABLE_SCANNING:
      set_defaults();
      scanning_ = false;
      return reply(ACK);
    case SET_DEFAULTS:
      set_defaults();
      return reply(ACK);
    case ALL_TYPEMATIC:
      set_all_modes(TYPEMATIC);
      return reply(ACK);
    case ALL_MAKE_BREAK:
      set_all_modes(BREAK);
      return reply(ACK);
    case ALL_MAKE:
      set_all_modes(MAKE_ONLY);
      return reply(ACK);
    case ALL_TYPEMATIC_MAKE_BREAK:
      set_all_modes(TYPEMATIC | BREAK);
      return reply(ACK);
    case RESEND_LAST:
      return reply(last_reply_);
    case RESET_KEYBOARD:
      reset();
      reply(ACK);
      return reply(SELF_TEST_PASSED);
    default:
      return reply(RESEND);
  }
}

void Ps2Keyboard::argument(std::uint8_t command, std::uint8_t value) {
  reply(ACK);
  switch (command) {
    case SET_LEDS:
      leds_ = value & 7;
      return;
    case SET_TYPEMATIC:
      typematic_ = value & 0x7f;
      return;
    case SCAN_CODE_SET:
      if (value == 0) return reply(scan_code_set_);
      if (value <= 3) scan_code_set_ = value;
      return;
    default:  // keys of set 3, until the next command
      command_ = command;
      if (value < modes_.size())
        modes_[value] = command == KEY_TYPEMATIC ? TYPEMATIC : command == KEY_MAKE_BREAK ? BREAK : MAKE_ONLY;
      return;
  }
}

// --- keys ---

void Ps2Keyboard::key(Key key, bool down) {
  const auto number = static_cast<std::uint8_t>(key);
  if (down_.test(number) == down || !codes_of(key)) return;
  down_.set(number, down);
  if (!scanning_) return;
  report(key, down);
  if (!down && repeating_ == number) stop_repeating();
  if (!down || key == Key::Pause) return;
  repeating_ = number;
  next_repeat_ns_ = clock_.now_ns() + repeat_delay_ns(typematic_);
  repeat_timer_->arm(next_repeat_ns_);
}

void Ps2Keyboard::report(Key key, bool down) {
  const auto codes = codes_of(key);
  if (!codes) return;
  if (scan_code_set_ == 3) {
    if (down)
      send({codes->set3});
    else if (modes_[codes->set3] & BREAK)
      send({0xf0, codes->set3});
    return;
  }
  if (key == Key::PrintScreen || key == Key::Pause) return report_special(key, down);
  std::vector<std::uint8_t> bytes;
  if (codes->extended) bytes.push_back(0xe0);
  if (scan_code_set_ == 1) {
    bytes.push_back(static_cast<std::uint8_t>(codes->set1 | (down ? 0 : 0x80)));
  } else {
    if (!down) bytes.push_back(0xf0);
    bytes.push_back(codes->set2);
  }
  send(bytes);
}

/// Print Screen and Pause send other things, some with Alt or Ctrl down.
void Ps2Keyboard::report_special(Key key, bool down) {
  const auto held = [this](Key left, Key right) {
    return down_.test(static_cast<std::size_t>(left)) || down_.test(static_cast<std::size_t>(right));
  };
  const bool ctrl = held(Key::LeftCtrl, Key::RightCtrl);
  const bool set1 = scan_code_set_ == 1;
  if (key == Key::Pause) {
    if (!down) return;  // make and break come together
    if (ctrl)
      set1 ? send({0xe0, 0x46, 0xe0, 0xc6}) : send({0xe0, 0x7e, 0xe0, 0xf0, 0x7e});
    else
      set1 ? send({0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5}) : send({0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77});
    return;
  }
  if (held(Key::LeftAlt, Key::RightAlt)) {  // System Request
    if (set1)
      down ? send({0x54}) : send({0xd4});
    else
      down ? send({0x84}) : send({0xf0, 0x84});
  } else if (ctrl || held(Key::LeftShift, Key::RightShift)) {
    if (set1)
      down ? send({0xe0, 0x37}) : send({0xe0, 0xb7});
    else
      down ? send({0xe0, 0x7c}) : send({0xe0, 0xf0, 0x7c});
  } else if (set1) {
    down ? send({0xe0, 0x2a, 0xe0, 0x37}) : send({0xe0, 0xb7, 0xe0, 0xaa});
  } else {
    down ? send({0xe0, 0x12, 0xe0, 0x7c}) : send({0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12});
  }
}

void Ps2Keyboard::repeat() {
  if (repeating_ == 0 || !scanning_) return;
  const auto key = static_cast<Key>(repeating_);
  const auto codes = codes_of(key);
  const bool repeats = scan_code_set_ != 3 || (codes && (modes_[codes->set3] & TYPEMATIC));
  // A guest that does not keep up gets no queue of repetitions.
  if (repeats && !has_output()) report(key, true);
  next_repeat_ns_ = clock_.now_ns() + repeat_period_ns(typematic_);
  repeat_timer_->arm(next_repeat_ns_);
}

void Ps2Keyboard::stop_repeating() {
  repeating_ = 0;
  next_repeat_ns_ = 0;
  repeat_timer_->cancel();
}

// --- snapshots ---

void Ps2Keyboard::save(machine::SnapshotWriter& out) const {
  out.section("ps2-keyboard");
  Ps2Device::save(out);
  for (const std::uint8_t value : {command_, leds_, typematic_, scan_code_set_, last_reply_, repeating_})
    out.put(value);
  out.put(static_cast<std::uint8_t>(scanning_));
  out.put(modes_);
  for (unsigned i = 0; i < down_.size(); ++i) out.put(static_cast<std::uint8_t>(down_.test(i)));
  out.put(repeating_ ? next_repeat_ns_ - clock_.now_ns() : std::uint64_t{0});
}

void Ps2Keyboard::restore(machine::SnapshotReader& in) {
  in.section("ps2-keyboard");
  Ps2Device::restore(in);
  for (std::uint8_t* value : {&command_, &leds_, &typematic_, &scan_code_set_, &last_reply_, &repeating_})
    in.get(*value);
  scanning_ = in.get<std::uint8_t>() != 0;
  in.get(modes_);
  for (unsigned i = 0; i < down_.size(); ++i) down_.set(i, in.get<std::uint8_t>() != 0);
  const auto left_ns = in.get<std::uint64_t>();
  if (scan_code_set_ < 1 || scan_code_set_ > 3) {
    in.fail();
    scan_code_set_ = 2;
  }
  if (repeating_ == 0) return stop_repeating();
  next_repeat_ns_ = clock_.now_ns() + left_ns;
  repeat_timer_->arm(next_repeat_ns_);
}

}  // namespace veneer::devices
