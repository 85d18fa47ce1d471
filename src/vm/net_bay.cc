// Opening networks and plugging cards in.
#include "vm/net_bay.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "devices/e1000/e1000.h"
#include "devices/pci/option_rom.h"
#include "devices/virtio/virtio_net.h"
#include "devices/virtio/virtio_pci.h"
#include "net/link.h"
#include "net/passt.h"
#include "net/tap.h"
#include "net/user.h"
#include "vm/boot_rom.h"
#include "vm/layout.h"

namespace veneer::vm {
namespace {

constexpr unsigned pairs_default_max = 4;
static_assert(layout::NET_SLOT_COUNT == max_nets);

unsigned slot_of(std::size_t index) { return layout::FIRST_NET_SLOT + static_cast<unsigned>(index); }

Result<std::unique_ptr<net::HostEnd>> make_end(const MachineConfig& config, const NetConfig& wanted,
                                               const net::MacAddress& mac) {
  switch (wanted.kind) {
    case NetKind::User:
      return net::make_user_end(wanted.user, config.name, mac);
    case NetKind::Tap:
      return net::make_tap_end(wanted.interface);
    case NetKind::Passt:
      return net::make_passt_end(
          {.socket = wanted.passt_socket, .forwards = wanted.user.forwards, .ipv6 = wanted.user.ipv6});
  }
  return Error("no such network");
}

}  // namespace

/// One card. Its link goes last: the card's destructor does not use it, the link's thread uses the card until stop().
struct NetBay::Bay {
  std::string label;
  NetConfig config;
  net::MacAddress mac{};
  std::unique_ptr<net::Link> link;
  std::unique_ptr<devices::VirtioNet> virtio;  // or e1000
  std::unique_ptr<devices::VirtioPci> virtio_function;
  std::unique_ptr<devices::E1000> e1000;
  bool bootable = false;

  devices::PciFunction& function() const {
    return e1000 ? static_cast<devices::PciFunction&>(*e1000) : *virtio_function;
  }

  bool link_up() const { return virtio ? virtio->link_up() : e1000->link_up(); }
  void set_link(bool up) const { virtio ? virtio->set_link(up) : e1000->set_link(up); }
  const char* model() const { return virtio ? "virtio" : "e1000"; }
};

NetBay::NetBay() = default;
NetBay::~NetBay() { stop(); }

Result<void> NetBay::fill(const MachineConfig& config, devices::PciBus& bus,
                          const std::function<machine::DmaSpace(unsigned slot)>& dma, machine::BoardLock& lock) {
  if (config.nets.size() > max_nets)
    return Error(fmt::format("a machine has at most {} network cards, not {}", max_nets, config.nets.size()));
  unsigned index = 0;
  for (const NetConfig& wanted : config.nets) {
    TRY_VOID(add(config, wanted, index, bus, dma(slot_of(index)), lock));
    ++index;
  }
  return {};
}

Result<void> NetBay::add(const MachineConfig& config, const NetConfig& wanted, unsigned index, devices::PciBus& bus,
                         const machine::DmaSpace& memory, machine::BoardLock& lock) {
  auto bay = std::make_unique<Bay>();
  bay->label = fmt::format("net{}", index);
  bay->config = wanted;
  bay->mac = wanted.mac ? *wanted.mac : net::mac_for(config.name, index);
  auto end = make_end(config, wanted, bay->mac);
  if (!end) return std::move(end).error().context(fmt::format("network {}", bay->label));
  bay->link = std::make_unique<net::Link>(std::move(end).value(), lock);
  if (wanted.model == CardModel::E1000) {
    bay->e1000 = std::make_unique<devices::E1000>(fmt::format("e1000-{}", bay->label), memory, *bay->link, bay->mac);
    bay->link->plug(*bay->e1000);
    return plug(config, std::move(bay), bus);
  }
  const unsigned pairs = wanted.queues != 0 ? wanted.queues : std::min(config.cpus, pairs_default_max);
  bay->virtio = std::make_unique<devices::VirtioNet>(memory, *bay->link, bay->mac, pairs);
  bay->virtio_function =
      std::make_unique<devices::VirtioPci>(fmt::format("virtio-{}", bay->label), *bay->virtio, memory);
  bay->link->plug(*bay->virtio);
  return plug(config, std::move(bay), bus);
}

Result<void> NetBay::plug(const MachineConfig& config, std::unique_ptr<Bay> bay, devices::PciBus& bus) {
  devices::PciFunction& function = bay->function();
  auto rom = read_boot_rom(config, bay->config);
  if (!rom) return std::move(rom).error().context(fmt::format("network {}", bay->label));
  bay->bootable = boots_from(config, bay->config, !rom.value().empty());
  if (!rom.value().empty()) {
    devices::set_rom_device(rom.value(), function.vendor_id(), function.device_id());
    function.add_rom(std::move(rom).value());
  }
  bus.plug(slot_of(bays_.size()), function);
  bays_.push_back(std::move(bay));
  return {};
}

std::vector<std::string> NetBay::boot_paths() const {
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < bays_.size(); ++i)
    if (bays_[i]->bootable) paths.push_back(fmt::format("/pci@i0cf8/ethernet@{:x}/ethernet-phy@0", slot_of(i)));
  return paths;
}

Result<void> NetBay::start() {
  for (unsigned i = 0; i < bays_.size(); ++i) TRY_VOID(bays_[i]->link->start(i));
  return {};
}

void NetBay::stop() {
  for (const auto& bay : bays_) bay->link->stop();
}

void NetBay::pause() {
  for (const auto& bay : bays_) bay->link->pause();
}

void NetBay::resume() {
  for (const auto& bay : bays_) bay->link->resume();
}

std::vector<net::Card*> NetBay::cards() const {
  std::vector<net::Card*> out;
  for (const auto& bay : bays_)
    out.push_back(bay->virtio ? static_cast<net::Card*>(bay->virtio.get()) : static_cast<net::Card*>(bay->e1000.get()));
  return out;
}

bool NetBay::set_link(const std::string& label, bool up) {
  for (const auto& bay : bays_) {
    if (bay->label != label) continue;
    bay->set_link(up);
    return true;
  }
  return false;
}

std::string NetBay::parts() const {
  std::string out;
  for (const auto& bay : bays_) {
    if (!out.empty()) out += ", ";
    if (bay->e1000) {
      out += "an e1000 card";
      continue;
    }
    const unsigned pairs = (bay->virtio->queue_count() - 1) / 2;
    out += fmt::format("a virtio card with {} queue pair{}", pairs, pairs == 1 ? "" : "s");
  }
  return out.empty() ? "no network card" : out;
}

std::string NetBay::describe() const {
  if (bays_.empty()) return "no network (veneer run --net user gives one)\n";
  std::string out;
  for (const auto& bay : bays_) {
    const net::LinkCounters done = bay->link->counters();
    out += fmt::format("{}: {}, {}, cable {}; {}\n", bay->label, bay->model(), net::format_mac(bay->mac),
                       bay->link_up() ? "in" : "out", bay->link->describe());
    out += fmt::format("  sent {} frames ({} bytes), received {} ({} bytes), dropped {}\n", done.sent_frames,
                       done.sent_bytes, done.received_frames, done.received_bytes, done.dropped_frames);
  }
  return out;
}

}  // namespace veneer::vm
