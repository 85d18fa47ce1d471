// A processor in 32-bit protected mode with flat segments and without paging, as boot protocols ask for.
#pragma once

#include "base/units.h"
#include "cpu/state.h"
#include "machine/guest_memory.h"

namespace veneer::boot {

/// Writes a GDT to its place (boot/low_memory.h) and sets `state` to run at `entry`, below 4 GiB, with ESI =
/// `boot_params` (Linux Documentation/arch/x86/boot.rst, "32-bit Boot Protocol"). False when there is no RAM there.
bool enter_protected_mode(machine::GuestMemory& memory, GuestPhys entry, GuestPhys boot_params, cpu::ArchState& state);

}  // namespace veneer::boot
