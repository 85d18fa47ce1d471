// A serial EEPROM of 64 words behind four wires (Microwire, as the 93C46): reading only.
#pragma once

#include <array>
#include <cstdint>

#include "machine/snapshot.h"

namespace veneer::devices {

class MicrowireEeprom {
 public:
  static constexpr unsigned words = 64;

  std::uint16_t word(unsigned index) const { return contents_[index % words]; }
  void set_word(unsigned index, std::uint16_t value) { contents_[index % words] = value; }

  /// The levels of chip select, clock and data in.
  void drive(bool select, bool clock, bool data_in);
  /// The level of data out.
  bool data_out() const { return data_out_; }

  /// Contents are not saved: they follow from the card's address.
  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);

 private:
  static constexpr unsigned command_bits = 9;  // a start bit, two of operation code, six of address

  std::array<std::uint16_t, words> contents_{};
  bool clock_ = false, data_out_ = true;
  std::uint16_t command_ = 0;
  std::uint8_t bits_ = 0;      // of the command, so far
  std::uint8_t bits_out_ = 0;  // of the word that is read
};

}  // namespace veneer::devices
