// The chip's shift registers: everything happens at rising edges of the clock while the chip is selected.
#include "devices/e1000/microwire_eeprom.h"

namespace veneer::devices {
namespace {

constexpr unsigned operation_read = 0b110;  // start bit, 10

}  // namespace

void MicrowireEeprom::drive(bool select, bool clock, bool data_in) {
  const bool rising = clock && !clock_;
  clock_ = clock;
  if (!select) {
    command_ = 0;
    bits_ = bits_out_ = 0;
    data_out_ = true;
    return;
  }
  if (!rising) return;
  if (bits_ < command_bits) {
    if (bits_ == 0 && !data_in) return;  // before the start bit
    command_ = static_cast<std::uint16_t>((command_ << 1) | (data_in ? 1 : 0));
    if (++bits_ == command_bits && command_ >> 6 == operation_read) data_out_ = false;  // a zero before the data
    return;
  }
  if (command_ >> 6 != operation_read) return;  // writing is not wired
  data_out_ = ((word(command_ & 63) >> (15 - bits_out_)) & 1) != 0;
  if (++bits_out_ == 16) {  // the next word follows
    bits_out_ = 0;
    command_ = static_cast<std::uint16_t>((command_ & ~63u) | ((command_ + 1u) & 63u));
  }
}

void MicrowireEeprom::save(machine::SnapshotWriter& out) const {
  out.put(static_cast<std::uint8_t>(clock_));
  out.put(static_cast<std::uint8_t>(data_out_));
  out.put(command_);
  out.put(bits_);
  out.put(bits_out_);
}

void MicrowireEeprom::restore(machine::SnapshotReader& in) {
  clock_ = in.get<std::uint8_t>() != 0;
  data_out_ = in.get<std::uint8_t>() != 0;
  in.get(command_);
  in.get(bits_);
  in.get(bits_out_);
  if (command_ > 0x1ff || bits_ > command_bits || bits_out_ > 15) {
    in.fail();
    drive(false, false, false);
  }
}

}  // namespace veneer::devices
