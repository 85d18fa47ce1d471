// The PS/2 mouse: commands, and movement to packets.
#include "devices/input/ps2_mouse.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace veneer::devices {
namespace {

enum Command : std::uint8_t {
  SCALING_1_1 = 0xe6,
  SCALING_2_1 = 0xe7,
  SET_RESOLUTION = 0xe8,
  STATUS_REQUEST = 0xe9,
  STREAM_MODE = 0xea,
  READ_DATA = 0xeb,
  RESET_WRAP_MODE = 0xec,
  WRAP_MODE = 0xee,
  REMOTE_MODE = 0xf0,
  IDENTIFY = 0xf2,
  SET_RATE = 0xf3,
  ENABLE = 0xf4,
  DISABLE = 0xf5,
  SET_DEFAULTS = 0xf6,
  RESEND_LAST = 0xfe,
  RESET_MOUSE = 0xff,
};

constexpr std::uint8_t WHEEL_ID = 3, FIVE_BUTTON_ID = 4;
constexpr std::int32_t farthest = 1 << 20;  // what is not reported adds up to this at most

/// Movement under 2:1 scaling (stream mode only).
std::int32_t double_scaled(std::int32_t value) {
  constexpr std::array<std::int32_t, 6> small = {0, 1, 1, 3, 6, 9};
  const std::int32_t size = std::abs(value);
  const std::int32_t scaled = size < 6 ? small[static_cast<std::size_t>(size)] : size * 2;
  return value < 0 ? -scaled : scaled;
}

}  // namespace

void Ps2Mouse::reset() {
  Ps2Device::reset();
  buttons_ = reported_buttons_ = 0;
  command_ = last_reply_ = 0;
  last_rates_ = {};
  id_ = 0;
  set_defaults();
}

void Ps2Mouse::set_defaults() {
  mode_ = mode_before_wrap_ = Mode::Stream;
  reporting_ = scaled_ = false;
  resolution_ = 2;
  rate_ = 100;
  dx_ = dy_ = wheel_ = 0;
}

void Ps2Mouse::reply(std::initializer_list<std::uint8_t> bytes) {
  last_reply_ = *(bytes.end() - 1);
  send(bytes);
}

// --- commands ---

void Ps2Mouse::receive(std::uint8_t byte) {
  if (mode_ == Mode::Wrap && byte != RESET_WRAP_MODE && byte != RESET_MOUSE) {
    send({byte});
    return;
  }
  const std::uint8_t command = std::exchange(command_, std::uint8_t{0});
  if (command == SET_RESOLUTION && byte <= 3) {
    resolution_ = byte;
    return reply({ACK});
  }
  if (command == SET_RATE && byte <= 200) {
    set_rate(byte);
    return reply({ACK});
  }
  clear_output();  // a command ends a packet on its way
  switch (byte) {
    case SCALING_1_1:
    case SCALING_2_1:
      scaled_ = byte == SCALING_2_1;
      return reply({ACK});
    case SET_RESOLUTION:
    case SET_RATE:
      command_ = byte;
      return reply({ACK});
    case STATUS_REQUEST:
      return send_status();
    case STREAM_MODE:
    case REMOTE_MODE:
      mode_ = byte == STREAM_MODE ? Mode::Stream : Mode::Remote;
      return reply({ACK});
    case READ_DATA:
      reply({ACK});
      return send_packet(false);
    case WRAP_MODE:
      mode_before_wrap_ = mode_;
      mode_ = Mode::Wrap;
      return reply({ACK});
    case RESET_WRAP_MODE:
      if (mode_ == Mode::Wrap) mode_ = mode_before_wrap_;
      return reply({ACK});
    case IDENTIFY:
      return reply({ACK, id_});
    case ENABLE:
      reporting_ = true;
      dx_ = dy_ = wheel_ = 0;
      return reply({ACK});
    case DISABLE:
      reporting_ = false;
      return reply({ACK});
    case SET_DEFAULTS:
      set_defaults();
      return reply({ACK});
    case RESEND_LAST:
      send({last_reply_});
      return;
    case RESET_MOUSE:
      reset();
      return reply({ACK, SELF_TEST_PASSED, id_});
    default:
      send({RESEND});
      return;
  }
}

/// Three rates in a row are how drivers ask for the wheel.
void Ps2Mouse::set_rate(std::uint8_t rate) {
  if (rate == 80 && last_rates_[1] == 200) {
    if (last_rates_[0] == 100) id_ = WHEEL_ID;
    if (last_rates_[0] == 200 && id_ == WHEEL_ID) id_ = FIVE_BUTTON_ID;
  }
  last_rates_ = {rate, last_rates_[0]};
  rate_ = rate;
}

void Ps2Mouse::send_status() {
  const auto flags = static_cast<std::uint8_t>((mode_ == Mode::Remote ? 0x40 : 0) | (reporting_ ? 0x20 : 0) |
                                               (scaled_ ? 0x10 : 0) | ((buttons_ & LEFT) ? 4 : 0) |
                                               ((buttons_ & MIDDLE) ? 2 : 0) | ((buttons_ & RIGHT) ? 1 : 0));
  reply({ACK, flags, resolution_, rate_});
}

// --- movement ---

void Ps2Mouse::move(int dx, int dy, int wheel) {
  const auto add = [](std::int32_t& to, int more) {
    to = std::clamp(to + std::clamp(more, -farthest, farthest), -farthest, farthest);
  };
  add(dx_, dx);
  add(dy_, -dy);
  add(wheel_, wheel);
  report_if_streaming();
}

void Ps2Mouse::set_buttons(std::uint8_t buttons) {
  buttons_ = buttons & 0x1f;
  report_if_streaming();
}

void Ps2Mouse::report_if_streaming() {
  if (mode_ != Mode::Stream || !reporting_ || has_output()) return;
  const bool news = dx_ != 0 || dy_ != 0 || buttons_ != reported_buttons_ || (id_ != 0 && wheel_ != 0);
  if (news) send_packet(scaled_);
}

/// As much of the movement as one packet holds; the rest stays.
void Ps2Mouse::send_packet(bool scaled) {
  const std::int32_t x = std::clamp(dx_, -127, 127), y = std::clamp(dy_, -127, 127), z = std::clamp(wheel_, -7, 7);
  dx_ -= x;
  dy_ -= y;
  wheel_ -= z;
  reported_buttons_ = buttons_;
  const std::int32_t sx = scaled ? double_scaled(x) : x, sy = scaled ? double_scaled(y) : y;
  std::vector<std::uint8_t> packet = {
      static_cast<std::uint8_t>(8 | (buttons_ & 7) | (sx < 0 ? 0x10 : 0) | (sy < 0 ? 0x20 : 0)),
      static_cast<std::uint8_t>(sx), static_cast<std::uint8_t>(sy)};
  if (id_ == WHEEL_ID) packet.push_back(static_cast<std::uint8_t>(z));
  if (id_ == FIVE_BUTTON_ID)
    packet.push_back(
        static_cast<std::uint8_t>((z & 0xf) | ((buttons_ & FOURTH) ? 0x10 : 0) | ((buttons_ & FIFTH) ? 0x20 : 0)));
  last_reply_ = packet.back();
  send(packet);
}

// --- snapshots ---

void Ps2Mouse::save(machine::SnapshotWriter& out) const {
  out.section("ps2-mouse");
  Ps2Device::save(out);
  out.put(mode_);
  out.put(mode_before_wrap_);
  for (const bool flag : {reporting_, scaled_}) out.put(static_cast<std::uint8_t>(flag));
  for (const std::uint8_t value :
       {resolution_, rate_, id_, command_, last_reply_, last_rates_[0], last_rates_[1], buttons_, reported_buttons_})
    out.put(value);
  for (const std::int32_t value : {dx_, dy_, wheel_}) out.put(value);
}

void Ps2Mouse::restore(machine::SnapshotReader& in) {
  in.section("ps2-mouse");
  Ps2Device::restore(in);
  for (Mode* mode : {&mode_, &mode_before_wrap_}) {
    in.get(*mode);
    if (*mode > Mode::Wrap) {
      in.fail();
      *mode = Mode::Stream;
    }
  }
  for (bool* flag : {&reporting_, &scaled_}) *flag = in.get<std::uint8_t>() != 0;
  for (std::uint8_t* value : {&resolution_, &rate_, &id_, &command_, &last_reply_, &last_rates_[0], &last_rates_[1],
                              &buttons_, &reported_buttons_})
    in.get(*value);
  for (std::int32_t* value : {&dx_, &dy_, &wheel_}) {
    in.get(*value);
    *value = std::clamp(*value, -farthest, farthest);
  }
}

}  // namespace veneer::devices
