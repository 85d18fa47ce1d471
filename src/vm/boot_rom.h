// Boot ROMs of network cards: iPXE's, from Debian's package ipxe-qemu.
#pragma once

#include <cstddef>
#include <vector>

#include "base/result.h"
#include "vm/config.h"

namespace veneer::vm {

/// What the card `net` has in its ROM; empty: none. Firmware that drives the card itself needs none, and neither does a
/// machine without firmware. An error, a sentence for the user, when the file that was named is no ROM, or when the
/// machine is to boot from the network and cannot.
Result<std::vector<std::byte>> read_boot_rom(const MachineConfig& config, const NetConfig& net);

/// May firmware boot from that card?
bool boots_from(const MachineConfig& config, const NetConfig& net, bool has_rom);

}  // namespace veneer::vm
