// DiskBay: the disks of a machine and the controllers they hang on.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "devices/ahci/ahci_controller.h"
#include "devices/floppy/floppy_controller.h"
#include "devices/ide/ide_controller.h"
#include "devices/pci/pci_bus.h"
#include "disk/io/disk.h"
#include "machine/bus.h"
#include "machine/dma_space.h"
#include "vm/config.h"

namespace veneer::vm {

/// All of it outlives the bay.
struct DiskBaySupply {
  /// Memory as the function 0 of a slot reaches it.
  std::function<machine::DmaSpace(unsigned slot)> dma;
  EventLoop& events;
  machine::BoardLock& lock;
  std::function<void()> pause_machine;
  devices::IdeController* ide = nullptr;        ///< null: no IDE drives
  devices::FloppyController* floppy = nullptr;  ///< null: no floppy drives
};

/// Calls with the board lock held, but for the destructor.
class DiskBay {
 public:
  DiskBay();
  ~DiskBay();
  DiskBay(const DiskBay&) = delete;
  DiskBay& operator=(const DiskBay&) = delete;

  /// Opens every disk of the config and plugs its controller into the bus. Errors are sentences for the user.
  Result<void> fill(const MachineConfig& config, devices::PciBus& bus, const DiskBaySupply& supply);

  /// Before a machine is saved: everything that can complete has, and is on stable storage. May take long, on the event
  /// loop. An error says which disk cannot be saved, and why.
  Result<void> prepare_save();
  /// What a saved machine has to say about its disks; after prepare_save().
  std::vector<SavedDisk> saved() const;
  /// The disks are those of the saved machine, and nobody has written to them since (`replaced`: that is the user's
  /// business).
  Result<void> check_saved(const std::vector<SavedDisk>& disks, bool replaced) const;

  /// Tries again what errors of the host had stopped.
  void resume();
  /// Flushes and closes all, the last call. The error is the first one; the others are logged.
  Result<void> close();

  /// The disks as firmware names them (vm/firmware_items.h), in the order in which it is to try them.
  std::vector<std::string> boot_paths(BootOrder order) const;

  /// Of drives A and B, as a PC's setup memory has them; 0: there is none.
  std::array<std::uint8_t, max_floppies> floppy_types() const;

  /// "vda: 2.0 GiB, qcow2, disk.qcow2, ...": one line or more for each disk.
  std::string describe() const;
  /// By the name that describe() shows ("vda"), or null.
  disk::Disk* find(const std::string& label);

 private:
  struct Bay;
  Result<void> add(const MachineConfig& config, const DiskConfig& disk, unsigned slot, devices::PciBus& bus,
                   const DiskBaySupply& supply);
  std::string next_label(const DiskConfig& disk) const;
  Result<void> add_floppy(Bay& bay, devices::FloppyController* controller);
  Result<void> add_ide(Bay& bay, devices::IdeController* controller);
  Result<void> add_ahci(Bay& bay, devices::PciBus& bus, const DiskBaySupply& supply);

  std::vector<std::unique_ptr<Bay>> bays_;
  std::unique_ptr<devices::AhciController> ahci_;  // with disks on it only
};

}  // namespace veneer::vm
