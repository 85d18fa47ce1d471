// Firmware images: BIOS or UEFI code that the first processor starts in.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "machine/guest_memory.h"

namespace veneer::boot {

inline constexpr std::uint64_t firmware_min_bytes = 64 * KiB;
inline constexpr std::uint64_t firmware_max_bytes = 16 * MiB;

/// Where an image of this size goes: it ends at 4 GiB.
GuestPhys firmware_base(std::uint64_t size_bytes);

/// Makes ROM of the image, ending at 4 GiB, and copies its last 128 KiB to where a PC has its BIOS below 1 MiB: into
/// `low`, ROM at C0000h to FFFFFh. Errors do not name the file.
Result<void> load_firmware(machine::GuestMemory& memory, machine::MemorySlot& low, const std::string& path);

/// Makes a flash chip of the image, below firmware that begins at `above`: ROM that may be switched off. Errors do not
/// name the file.
Result<machine::MemorySlot*> load_flash(machine::GuestMemory& memory, GuestPhys above, const std::string& path);

/// An error for an image that cannot start on a machine like ours, by its name.
Result<void> check_firmware_name(const std::string& path);

}  // namespace veneer::boot
