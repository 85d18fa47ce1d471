// Opening disks and plugging them in.
#include "vm/disk_bay.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "devices/nvme/nvme.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_pci.h"
#include "vm/disk_snapshot.h"
#include "vm/layout.h"

namespace veneer::vm {
namespace {

constexpr unsigned queues_default_max = 16;
static_assert(layout::DISK_SLOT_COUNT == max_disks);

std::string size_text(std::uint64_t bytes) {
  if (bytes >= GiB) return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / static_cast<double>(GiB));
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / static_cast<double>(MiB));
}

const char* cache_name(disk::CacheMode mode) {
  switch (mode) {
    case disk::CacheMode::Writeback:
      return "writeback";
    case disk::CacheMode::None:
      return "none";
    case disk::CacheMode::Writethrough:
      return "writethrough";
  }
  return "";
}

}  // namespace

/// One disk. The controller goes before what it uses.
struct DiskBay::Bay {
  DiskConfig config;
  std::unique_ptr<disk::Disk> disk;
  std::unique_ptr<devices::VirtioBlk> virtio;
  std::unique_ptr<devices::PciFunction> function;
};

DiskBay::DiskBay() = default;
DiskBay::~DiskBay() = default;

Result<void> DiskBay::fill(const MachineConfig& config, devices::PciBus& bus, const DiskBaySupply& supply) {
  if (config.disks.size() > max_disks)
    return Error(fmt::format("a machine has at most {} disks, not {}", max_disks, config.disks.size()));
  unsigned slot = layout::FIRST_DISK_SLOT;
  for (const DiskConfig& disk : config.disks) TRY_VOID(add(config, disk, slot++, bus, supply));
  return {};
}

/// The name that Linux will give it, when there are no other disks of that kind.
std::string DiskBay::next_label(DiskInterface interface) const {
  const auto same =
      std::count_if(bays_.begin(), bays_.end(), [&](const auto& bay) { return bay->config.interface == interface; });
  if (interface == DiskInterface::Nvme) return fmt::format("nvme{}n1", same);
  return fmt::format("vd{}", static_cast<char>('a' + same));
}

Result<void> DiskBay::add(const MachineConfig& config, const DiskConfig& wanted, unsigned slot, devices::PciBus& bus,
                          const DiskBaySupply& supply) {
  auto bay = std::make_unique<Bay>();
  bay->config = wanted;
  const std::string label = next_label(wanted.interface);
  auto image = wanted.snapshot ? open_snapshot(wanted.path, wanted.open) : disk::open_image(wanted.path, wanted.open);
  if (!image) return std::move(image).error().context(fmt::format("disk {}", label));
  if (image.value()->size() < disk::Backend::sector_bytes)
    return Error(fmt::format("disk {}: {} is smaller than one sector of {} bytes", label, wanted.path,
                             disk::Backend::sector_bytes));
  if (const std::uint64_t size = image.value()->size(); size % disk::Backend::sector_bytes != 0)
    return Error(
        fmt::format("disk {}: {} has {} bytes, which is no multiple of {}: its end would be lost. Let its "
                    "server round it up (nbdkit --filter=truncate ... round-up={})",
                    label, wanted.path, size, disk::Backend::sector_bytes, disk::Backend::sector_bytes));

  disk::DiskOptions options;
  options.label = label;
  options.serial = wanted.serial.empty() ? fmt::format("veneer-{}", label) : wanted.serial;
  options.write_cache = wanted.open.cache != disk::CacheMode::Writethrough;
  options.write_errors = wanted.write_errors;
  options.read_errors = wanted.read_errors;
  options.iops = wanted.iops;
  options.bytes_per_second = wanted.bytes_per_second;
  options.engine = wanted.engine;
  TRY(bay->disk, disk::Disk::create(std::move(image).value(), std::move(options), supply.events, supply.lock,
                                    supply.pause_machine));

  const unsigned queues = wanted.queues != 0 ? wanted.queues : std::min(config.cpus, queues_default_max);
  if (wanted.interface == DiskInterface::Nvme) {
    bay->function =
        std::make_unique<devices::NvmeController>(fmt::format("nvme-{}", label), supply.memory, *bay->disk, queues);
  } else {
    bay->virtio = std::make_unique<devices::VirtioBlk>(supply.memory, *bay->disk, queues);
    bay->function =
        std::make_unique<devices::VirtioPci>(fmt::format("virtio-blk-{}", label), *bay->virtio, supply.memory);
  }
  bus.plug(slot, *bay->function);
  bays_.push_back(std::move(bay));
  return {};
}

void DiskBay::resume() {
  for (const auto& bay : bays_) bay->disk->resume();
}

Result<void> DiskBay::close() {
  Result<void> first;
  for (const auto& bay : bays_) {
    Result<void> closed = bay->disk->close();
    if (closed.ok()) continue;
    if (first.ok())
      first = std::move(closed);
    else
      log_error("{}", closed.error().message());
  }
  return first;
}

disk::Disk* DiskBay::find(const std::string& label) {
  for (const auto& bay : bays_)
    if (bay->disk->options().label == label) return bay->disk.get();
  return nullptr;
}

std::string DiskBay::describe() const {
  if (bays_.empty()) return "no disks\n";
  std::string out;
  for (const auto& bay : bays_) {
    const disk::Disk& disk = *bay->disk;
    const disk::DiskCounters& done = disk.counters();
    const DiskConfig& config = bay->config;
    out += fmt::format("{}: {}, {}, {}{}\n", disk.options().label, size_text(disk.size_bytes()),
                       disk::format_name(disk.image().format()), config.path, disk.read_only() ? ", read-only" : "");
    out += fmt::format("  {}, cache {}, {}, serial {}\n", config.interface == DiskInterface::Nvme ? "NVMe" : "virtio",
                       cache_name(config.open.cache),
                       disk.uses_uring() ? "io_uring and worker threads" : "worker threads", disk.serial());
    out += fmt::format("  {} reads ({}), {} writes ({}), {} flushes, {} discards, {} errors\n", done.reads,
                       size_text(done.read_bytes), done.writes, size_text(done.written_bytes), done.flushes,
                       done.discards, done.errors);
    out +=
        fmt::format("  {} running, {} waiting for their rate, {} stopped by an error; {} by io_uring, {} by workers\n",
                    disk.running(), disk.waiting(), disk.stopped(), done.by_uring, done.by_workers);
  }
  return out;
}

}  // namespace veneer::vm
