// The few bytes of firmware that a machine without firmware needs: what runs at F000:FFF0.
#pragma once

#include "machine/guest_memory.h"

namespace veneer::boot {

/// Below here the firmware area is free for tables.
inline constexpr GuestPhys RESET_STUB{0xf'ffe0};

/// Real-mode code at F000:FFF0 that resets the machine by port CF9h. Guests jump there to restart: Linux with
/// reboot=bios, and by itself on hardware-reduced ACPI. False when there is no RAM.
bool write_reset_vector(machine::GuestMemory& memory);

}  // namespace veneer::boot
