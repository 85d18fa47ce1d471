// The 8042 keyboard controller.
#include "devices/legacy/i8042.h"

#include <span>
#include <utility>

#include "base/bits.h"

namespace veneer::devices {
namespace {

// Status
constexpr std::uint8_t OBF = 0x01, SYS = 0x04, COMMAND = 0x08, NOT_INHIBITED = 0x10, AUX_OBF = 0x20;
// Configuration byte
constexpr std::uint8_t CONFIG_IRQ1 = 0x01, CONFIG_IRQ12 = 0x02, CONFIG_SYS = 0x04, CONFIG_KEYBOARD_OFF = 0x10,
                       CONFIG_AUX_OFF = 0x20, CONFIG_TRANSLATE = 0x40;
// Output port
constexpr std::uint8_t OUTPUT_NOT_RESET = 0x01, OUTPUT_A20 = 0x02;

enum Command : std::uint8_t {
  READ_RAM = 0x20,
  WRITE_RAM = 0x60,
  TEST_PASSWORD = 0xa4,
  DISABLE_AUX = 0xa7,
  ENABLE_AUX = 0xa8,
  TEST_AUX = 0xa9,
  SELF_TEST = 0xaa,
  TEST_KEYBOARD = 0xab,
  DISABLE_KEYBOARD = 0xad,
  ENABLE_KEYBOARD = 0xae,
  READ_INPUT_PORT = 0xc0,
  READ_OUTPUT_PORT = 0xd0,
  WRITE_OUTPUT_PORT = 0xd1,
  WRITE_KEYBOARD_BUFFER = 0xd2,
  WRITE_AUX_BUFFER = 0xd3,
  WRITE_AUX = 0xd4,
  DISABLE_A20 = 0xdd,
  ENABLE_A20 = 0xdf,
  READ_TEST_INPUTS = 0xe0,
  PULSE_OUTPUT = 0xf0,
};

// Scan code set 2 to set 1 (Keyboard and Auxiliary Device Controller, "scan code translation"). From 85h on unchanged.
constexpr std::array<std::uint8_t, 0x85> translation = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,  // 00
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,  // 10
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,  // 20
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,  // 30
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,  // 40
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,  // 50
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,  // 60
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,  // 70
    0x80, 0x81, 0x82, 0x41, 0x54,                                                                    // 80
};
constexpr std::uint8_t break_code = 0xf0;

}  // namespace

Ps2Controller8042::Ps2Controller8042(machine::IrqLine& irq1, machine::IrqLine& irq12, Ps2Device& keyboard,
                                     Ps2Device& mouse, std::function<void()> on_reset)
    : irq1_(irq1),
      irq12_(irq12),
      keyboard_(keyboard),
      mouse_(mouse),
      on_reset_(std::move(on_reset)),
      data_port_(*this),
      command_port_(*this) {
  keyboard_.set_listener([this] { refill(); });
  mouse_.set_listener([this] { refill(); });
  reset();
}

void Ps2Controller8042::reset() {
  keyboard_.reset();
  mouse_.reset();
  output_ = output_raw_ = 0;
  output_full_ = output_released_ = false;
  source_ = Source::Controller;
  ram_ = {};
  ram_[0] = CONFIG_IRQ1 | CONFIG_AUX_OFF | CONFIG_TRANSLATE;
  output_port_ = OUTPUT_NOT_RESET | OUTPUT_A20;
  command_ = 0;
  last_write_was_command_ = false;
  self_test_done_ = false;
  break_prefix_ = false;
  update();
}

bool Ps2Controller8042::keyboard_disabled() const { return (ram_[0] & CONFIG_KEYBOARD_OFF) != 0; }
bool Ps2Controller8042::aux_disabled() const { return (ram_[0] & CONFIG_AUX_OFF) != 0; }

bool Ps2Controller8042::keyboard_idle() const {
  return !keyboard_disabled() && !keyboard_.has_output() && !(output_full_ && source_ == Source::Keyboard);
}

// --- the output buffer ---

std::uint8_t Ps2Controller8042::status() const {
  return static_cast<std::uint8_t>((output_full_ ? OBF : 0) | (output_full_ && source_ == Source::Aux ? AUX_OBF : 0) |
                                   (self_test_done_ || (ram_[0] & CONFIG_SYS) ? SYS : 0) |
                                   (last_write_was_command_ ? COMMAND : 0) | NOT_INHIBITED);
}

std::uint8_t Ps2Controller8042::read_data() {
  const std::uint8_t value = output_;
  output_full_ = false;
  update();  // the interrupt line falls before the next byte raises it
  refill();
  return value;
}

void Ps2Controller8042::update() {
  const bool aux = source_ == Source::Aux;
  irq1_.set(output_full_ && !aux && (ram_[0] & CONFIG_IRQ1));
  irq12_.set(output_full_ && aux && (ram_[0] & CONFIG_IRQ12));
}

void Ps2Controller8042::refill() {
  if (!output_full_ && !keyboard_disabled()) fill_from(keyboard_, Source::Keyboard);
  if (!output_full_ && !aux_disabled()) fill_from(mouse_, Source::Aux);
  update();
}

/// True when the output buffer is full now.
bool Ps2Controller8042::fill_from(Ps2Device& device, Source source) {
  while (!output_full_ && device.has_output()) {
    // Full before the byte is taken: a device that sends more when it has nothing left comes back to refill().
    output_full_ = true;
    output_raw_ = device.take();
    source_ = source;
    output_ = output_raw_;
    output_released_ = false;
    if (source != Source::Keyboard || !(ram_[0] & CONFIG_TRANSLATE)) continue;
    if (output_raw_ == break_code) {
      break_prefix_ = true;
      output_full_ = false;
      continue;
    }
    output_ = translate(output_raw_);
  }
  return output_full_;
}

std::uint8_t Ps2Controller8042::translate(std::uint8_t value) {
  const std::uint8_t make = value < translation.size() ? translation[value] : value;
  output_released_ = std::exchange(break_prefix_, false);
  return static_cast<std::uint8_t>(make | (output_released_ ? 0x80 : 0));
}

void Ps2Controller8042::controller_reply(std::uint8_t value, Source source) {
  // A reply goes first: the device's byte that stood in the buffer is taken back.
  if (output_full_ && source_ != Source::Controller) {
    const std::array<std::uint8_t, 2> taken = {break_code, output_raw_};
    (source_ == Source::Aux ? mouse_ : keyboard_).give_back(std::span(taken).subspan(output_released_ ? 0 : 1));
    output_full_ = false;
    update();
  }
  output_ = value;
  output_full_ = true;
  output_released_ = false;
  source_ = source;
  update();
}

// --- port 64h ---

void Ps2Controller8042::write_command(std::uint8_t command) {
  last_write_was_command_ = true;
  command_ = 0;
  if (command >= PULSE_OUTPUT) {
    if (!(command & 1) && on_reset_) on_reset_();  // bit 0 clear: pulse the reset line
    return;
  }
  if (command >= READ_RAM && command < READ_RAM + 0x20) return controller_reply(ram_[command & 0x1f]);
  if (command >= WRITE_RAM && command < WRITE_RAM + 0x20) {
    command_ = command;
    return;
  }
  switch (command) {
    case TEST_PASSWORD:
      controller_reply(0xf1);
      break;  // none is set
    case DISABLE_AUX:
      ram_[0] |= CONFIG_AUX_OFF;
      break;
    case ENABLE_AUX:
      ram_[0] = static_cast<std::uint8_t>(ram_[0] & ~CONFIG_AUX_OFF);
      refill();
      break;
    case TEST_AUX:
      controller_reply(0x00);
      break;
    case SELF_TEST:
      self_test_done_ = true;
      controller_reply(0x55);
      break;
    case TEST_KEYBOARD:
      controller_reply(0x00);
      break;
    case DISABLE_KEYBOARD:
      ram_[0] |= CONFIG_KEYBOARD_OFF;
      break;
    case ENABLE_KEYBOARD:
      ram_[0] = static_cast<std::uint8_t>(ram_[0] & ~CONFIG_KEYBOARD_OFF);
      refill();
      break;
    case READ_INPUT_PORT:
      controller_reply(0x80);
      break;  // keyboard lock open
    case READ_OUTPUT_PORT:
      controller_reply(static_cast<std::uint8_t>(output_port_ | (output_full_ ? 0x10 : 0)));
      break;
    case READ_TEST_INPUTS:
      controller_reply(0x00);
      break;
    case DISABLE_A20:
      output_port_ = static_cast<std::uint8_t>(output_port_ & ~OUTPUT_A20);
      break;
    case ENABLE_A20:
      output_port_ |= OUTPUT_A20;
      break;
    case WRITE_OUTPUT_PORT:
    case WRITE_KEYBOARD_BUFFER:
    case WRITE_AUX_BUFFER:
    case WRITE_AUX:
      command_ = command;
      break;
    default:
      break;
  }
}

// --- port 60h ---

void Ps2Controller8042::write_data(std::uint8_t value) {
  last_write_was_command_ = false;
  const std::uint8_t command = std::exchange(command_, std::uint8_t{0});
  if (command >= WRITE_RAM && command < WRITE_RAM + 0x20) {
    ram_[command & 0x1f] = value;
    refill();
    return;
  }
  switch (command) {
    case WRITE_OUTPUT_PORT:
      write_output_port(value);
      break;
    case WRITE_KEYBOARD_BUFFER:
      controller_reply(value);
      break;
    case WRITE_AUX_BUFFER:
      controller_reply(value, Source::Aux);
      break;
    case WRITE_AUX:
      mouse_.receive(value);
      break;
    default:
      // Talking to the keyboard switches its interface on again.
      ram_[0] = static_cast<std::uint8_t>(ram_[0] & ~CONFIG_KEYBOARD_OFF);
      keyboard_.receive(value);
      break;
  }
}

void Ps2Controller8042::write_output_port(std::uint8_t value) {
  output_port_ = value | OUTPUT_NOT_RESET;
  if (!(value & OUTPUT_NOT_RESET) && on_reset_) on_reset_();
}

// --- ports and snapshots ---

std::uint8_t Ps2Controller8042::DataPort::read_byte(unsigned) { return controller.read_data(); }
void Ps2Controller8042::DataPort::write_byte(unsigned, std::uint8_t value) { controller.write_data(value); }
void Ps2Controller8042::DataPort::reset() { controller.reset(); }
std::uint8_t Ps2Controller8042::CommandPort::read_byte(unsigned) { return controller.status(); }
void Ps2Controller8042::CommandPort::write_byte(unsigned, std::uint8_t value) { controller.write_command(value); }

void Ps2Controller8042::DataPort::save(machine::SnapshotWriter& out) const {
  const Ps2Controller8042& c = controller;
  out.section("i8042");
  out.put(c.ram_);
  for (const std::uint8_t value : {c.output_, c.output_raw_, c.output_port_, c.command_}) out.put(value);
  out.put(c.source_);
  for (const bool flag :
       {c.output_full_, c.output_released_, c.last_write_was_command_, c.self_test_done_, c.break_prefix_})
    out.put(static_cast<std::uint8_t>(flag));
  c.keyboard_.save(out);
  c.mouse_.save(out);
}

void Ps2Controller8042::DataPort::restore(machine::SnapshotReader& in) {
  Ps2Controller8042& c = controller;
  in.section("i8042");
  in.get(c.ram_);
  for (std::uint8_t* value : {&c.output_, &c.output_raw_, &c.output_port_, &c.command_}) in.get(*value);
  in.get(c.source_);
  if (c.source_ > Source::Aux) {
    in.fail();
    c.source_ = Source::Controller;
  }
  for (bool* flag :
       {&c.output_full_, &c.output_released_, &c.last_write_was_command_, &c.self_test_done_, &c.break_prefix_})
    *flag = in.get<std::uint8_t>() != 0;
  c.keyboard_.restore(in);
  c.mouse_.restore(in);
  c.update();
}

}  // namespace veneer::devices
