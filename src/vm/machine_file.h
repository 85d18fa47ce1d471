// The file of a saved machine: a page of header, the state of processors and devices, then RAM, page-aligned and
// sparse.
//
// docs/state.md has the format. RAM stands in the file as it stands in the guest's slots, so that a clone can map it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "machine/guest_memory.h"
#include "vm/config.h"

namespace veneer::vm {

/// What a machine must be made of for a state to fit into it.
struct SavedConfig {
  MachineKind machine = MachineKind::Pc;
  unsigned cpus = 1;
  std::uint64_t memory_bytes = 0;
  std::uint64_t tsc_hz = 0;  ///< what the guest believes
  bool debug_exit = false;
  std::string kernel, initrd, cmdline;  ///< for a reset
  std::string nets;                     ///< NetBay::parts()
  std::vector<SavedDisk> disks;
  std::string cpu = "host";  ///< --cpu
  Firmware firmware;         ///< with absolute paths
  BootOrder boot_order = BootOrder::Default;
  bool boot_menu = false;
  std::vector<boot::BootModule> modules;  ///< beside the kernel, for a reset
  bool balloon = true;
  bool console = false;
  IommuKind iommu = IommuKind::None;
};

/// A file that has been looked at: header and state are whole and right, RAM is read and checked by read_ram().
struct MachineFile {
  Fd file;
  SavedConfig config;
  std::vector<std::byte> state;
  std::uint64_t ram_offset = 0;
  std::uint64_t ram_bytes = 0;
  std::uint64_t ram_checksum = 0;
};

/// Errors name the file: not there, no saved machine, another version, cut, damaged.
Result<MachineFile> open_machine_file(const std::string& path);

/// Writes everything to an empty file and syncs it. vCPUs parked, no DMA.
Result<void> write_machine_file(const Fd& file, const SavedConfig& config, std::span<const std::byte> state,
                                const machine::GuestMemory& memory);

/// Fills RAM that is still untouched. An error when the file does not hold what was saved.
Result<void> read_ram(const MachineFile& saved, machine::GuestMemory& memory);

}  // namespace veneer::vm
