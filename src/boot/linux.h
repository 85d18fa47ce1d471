// Direct boot of a Linux kernel: bzImage, initrd and command line into guest memory, and the CPU at its 64-bit entry,
// or at the 32-bit one of a kernel that has no other.
//
// Spec: Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol" and "32-bit Boot Protocol", and zero-page.rst.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "boot/e820.h"
#include "boot/input_file.h"
#include "cpu/state.h"
#include "machine/guest_memory.h"

namespace veneer::boot {

/// A file that a kernel finds in memory, with words for it (PVH, multiboot).
struct BootModule {
  std::string path;
  std::string words;
};

/// What to boot and what to tell it.
struct LinuxBoot {
  std::string kernel;  ///< path of a bzImage, a PVH ELF file or a multiboot 1 kernel
  std::string initrd;  ///< path, or empty
  std::string cmdline;
  GuestPhys acpi_rsdp;    ///< where the RSDP stands; 0: let the kernel look for it
  E820Map e820;           ///< all of the guest's memory, in ascending order
  bool long_mode = true;  ///< the processor has it; else kernels are entered in protected mode, which they all can
  std::vector<BootModule> modules = {};  ///< for kernels that take any; the initrd comes before them
  /// The random numbers that the kernel gets come from this seed; without it they are the host's.
  std::optional<std::uint64_t> random_seed = {};
};

/// The files of a LinuxBoot, open: a reset loads them again, when the sandbox opens no files any more.
struct LinuxFiles {
  InputFile kernel;
  std::optional<InputFile> initrd;
  std::vector<InputFile> modules;

  /// Errors name the file.
  static Result<LinuxFiles> open(const LinuxBoot& boot);
};

/// Where things were put.
struct BootEntry {
  GuestPhys entry;   ///< startup_64 or startup_32
  GuestPhys kernel;  ///< load address
  std::uint64_t kernel_bytes = 0;
  GuestPhys initrd;
  std::uint64_t initrd_bytes = 0;
};

/// Loads everything and puts `state` (of the boot processor) into the state the 64-bit boot protocol asks for:
/// long mode, the low 4 GiB mapped one to one, flat segments, interrupts off, RSI at boot_params; for a 32-bit kernel
/// protected mode without paging. Every error names the file or the limit. Needs RAM at 0 to 0x9fc00 and at 1 MiB.
/// Called before vCPUs run, or with all of them parked.
Result<BootEntry> load_linux(machine::GuestMemory& memory, const LinuxBoot& boot, const LinuxFiles& files,
                             cpu::ArchState& state);
/// The same, with the files opened for this once.
Result<BootEntry> load_linux(machine::GuestMemory& memory, const LinuxBoot& boot, cpu::ArchState& state);

}  // namespace veneer::boot
