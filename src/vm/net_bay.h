// NetBay: the network cards of a machine and the links that lead from them into the host.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "devices/pci/pci_bus.h"
#include "machine/bus.h"
#include "machine/dma_space.h"
#include "net/card.h"
#include "vm/config.h"

namespace veneer::vm {

/// Calls with the board lock held, but for start(), stop() and the destructor.
class NetBay {
 public:
  NetBay();
  ~NetBay();
  NetBay(const NetBay&) = delete;
  NetBay& operator=(const NetBay&) = delete;

  /// Opens the host's end of every network of the config and plugs its card into the bus. Errors are sentences for the
  /// user.
  /// `dma` is memory as function 0 of a slot reaches it.
  Result<void> fill(const MachineConfig& config, devices::PciBus& bus,
                    const std::function<machine::DmaSpace(unsigned slot)>& dma, machine::BoardLock& lock);

  /// Starts the links' threads, which carry nothing before resume(). Before the main thread is confined (net/link.h).
  Result<void> start();
  void stop();
  /// While the machine stands still no frame moves.
  void pause();
  void resume();

  /// The cards, for whoever carries their frames in place of the links' threads (tests/devices_fuzz). Not after
  /// start().
  std::vector<net::Card*> cards() const;

  /// The cards that firmware can boot from, as it names them (vm/firmware_items.h).
  std::vector<std::string> boot_paths() const;

  /// What of it a saved machine has: "no network card", "a virtio card with 1 queue pair".
  std::string parts() const;
  /// "net0: virtio, 52:56:..., user, ...": two lines for each card.
  std::string describe() const;
  /// Pulls or plugs the cable of "net0"; false when there is no such card.
  bool set_link(const std::string& label, bool up);

 private:
  struct Bay;
  Result<void> add(const MachineConfig& config, const NetConfig& wanted, unsigned index, devices::PciBus& bus,
                   const machine::DmaSpace& memory, machine::BoardLock& lock);
  Result<void> plug(const MachineConfig& config, std::unique_ptr<Bay> bay, devices::PciBus& bus);

  std::vector<std::unique_ptr<Bay>> bays_;
};

}  // namespace veneer::vm
