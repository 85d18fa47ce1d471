// Kernels that start in 32-bit protected mode with modules beside them: PVH ELF files and multiboot 1.
#pragma once

#include "boot/linux.h"

namespace veneer::boot {

/// What kind of kernel a file is.
enum class KernelKind : std::uint8_t {
  BzImage,  ///< Linux's boot protocol, or nothing that is known: its parser says what is wrong
  Elf32,    ///< an ELF file with a PVH note, or a file with a multiboot 1 header
};
KernelKind kernel_kind(const InputFile& kernel);

/// Loads segments, modules (the initrd is the first) and information, and puts `state` at the entry: 32-bit protected
/// mode, flat segments, no paging, interrupts off; EBX at the start info (PVH, Xen's docs/misc/pvh.pandoc), or EAX
/// 2BADB002h and EBX at the multiboot information. A kernel that has both starts by PVH, which needs no BIOS.
Result<BootEntry> load_kernel32(machine::GuestMemory& memory, const LinuxBoot& boot, const LinuxFiles& files,
                                cpu::ArchState& state);

}  // namespace veneer::boot
