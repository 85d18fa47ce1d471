// Option ROMs: images that firmware finds on a card, and the PCI ids in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace veneer::devices {

/// An error, a sentence for the user, when the bytes are no chain of expansion ROM images (PCI Firmware 3.0 5.1).
Result<void> check_option_rom(std::span<const std::byte> rom);

/// Firmware runs only images that name the card they are on. Those for `vendor` get this device id, with their
/// checksums right: a driver for a family of cards names one of them. The ROM has passed check_option_rom().
void set_rom_device(std::span<std::byte> rom, std::uint16_t vendor, std::uint16_t device);

}  // namespace veneer::devices
