// What software finds of the BIOS on a machine where none has run: data area, interrupt vectors, reset vector.
#pragma once

#include "boot/e820.h"
#include "machine/guest_memory.h"

namespace veneer::boot {

/// From here on the firmware area is ours, below it is free for tables.
inline constexpr GuestPhys BIOS_STUBS{0xf'ff80};

/// Writes
/// - the BIOS data area's words about the end of conventional memory, from the first RAM in `map`: who looks for a
/// place
///   for real-mode code (Xen's trampoline, Linux' own) starts there, and takes zeros for an end at zero;
/// - 256 interrupt vectors. Services fail as unsupported ones do (carry set, AH 86h), INT 11h and 12h answer from the
///   data area, interrupts of devices are acknowledged: Xen asks the BIOS whether there is one or not;
/// - at F000:FFF0 code that resets the machine by port CF9h. Guests jump there to restart: Linux with reboot=bios, and
///   by itself on hardware-reduced ACPI.
/// False when there is no RAM.
bool write_absent_bios(machine::GuestMemory& memory, const E820Map& map);

}  // namespace veneer::boot
