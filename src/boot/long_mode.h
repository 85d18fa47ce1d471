// A processor in 64-bit mode with flat segments and the low 4 GiB mapped one to one, as boot protocols ask for.
#pragma once

#include "base/units.h"
#include "cpu/state.h"
#include "machine/guest_memory.h"

namespace veneer::boot {

/// Writes GDT and page tables to their places (boot/low_memory.h) and sets `state` to run at `entry` with RSI =
/// `boot_params`. False when there is no RAM in these places.
bool enter_long_mode(machine::GuestMemory& memory, GuestPhys entry, GuestPhys boot_params, cpu::ArchState& state);

}  // namespace veneer::boot
