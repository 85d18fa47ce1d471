// Opening disks and plugging them in.
#include "vm/disk_bay.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"
#include "devices/nvme/nvme.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_pci.h"
#include "vm/disk_snapshot.h"
#include "vm/layout.h"
#include "vm/seed_disk.h"

namespace veneer::vm {
namespace {

constexpr unsigned queues_default_max = 16;
// UEFI's driver (edk2's NvmExpressDxe) takes two queues without asking how many there are.
constexpr unsigned nvme_queues_least = 2;
static_assert(layout::DISK_SLOT_COUNT == max_disks);
static_assert(devices::AhciController::port_count == max_ahci_drives);

std::string size_text(std::uint64_t bytes) {
  if (bytes >= GiB) return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / static_cast<double>(GiB));
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / static_cast<double>(MiB));
}

/// A disc that is no whole image is refused before a guest meets it.
Result<void> check_disc(disk::Image& image, const std::string& path) {
  constexpr std::uint64_t sector = 2048;
  if (image.size() < sector)
    return Error(fmt::format("{} has {} bytes, and a CD-ROM's sector has {}", path, image.size(), sector));
  // The primary volume descriptor (ECMA-119 8.4) says how long the volume is. Tools may leave out the 150 sectors of
  // padding at its end.
  constexpr std::uint64_t descriptor = 16 * sector, padding = 150 * sector;
  std::array<std::uint8_t, 84> bytes{};
  if (image.size() < descriptor + sector) return {};
  const iovec buffer{bytes.data(), bytes.size()};
  TRY_VOID(image.read(descriptor, {&buffer, 1}));
  if (bytes[0] != 1 || std::memcmp(&bytes[1], "CD001", 5) != 0) return {};
  std::uint32_t sectors = 0;
  std::memcpy(&sectors, &bytes[80], sizeof sectors);
  if (sectors * sector > image.size() + padding)
    return Error(fmt::format("{} is cut off: it has {} bytes, and its volume {}. Was it downloaded to the end?", path,
                             image.size(), sectors * sector));
  return {};
}

const char* interface_name(const DiskConfig& config) {
  if (config.cdrom) return config.interface == DiskInterface::Ahci ? "AHCI CD-ROM" : "CD-ROM";
  switch (config.interface) {
    case DiskInterface::Virtio:
      return "virtio";
    case DiskInterface::Nvme:
      return "NVMe";
    case DiskInterface::Ide:
      return "IDE";
    case DiskInterface::Floppy:
      return "floppy";
    case DiskInterface::Ahci:
      return "AHCI";
  }
  return "";
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
  unsigned slot = 0;  // on the PCI bus; of an IDE drive its place: 0 and 1 on the first channel; of AHCI its port
  std::unique_ptr<disk::Disk> disk;
  std::unique_ptr<devices::VirtioBlk> virtio;
  std::unique_ptr<devices::PciFunction> function;
  std::string absolute_path;  // or an address
  Fd place;                   // of the file, to ask when it was written last; the sandbox lets nobody open it later

  /// When the file was last written, in ns; nothing for what is no plain file.
  std::optional<std::int64_t> last_written() const {
    struct stat info {};
    if (!place.valid() || ::fstat(place.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
    return std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  }
};

DiskBay::DiskBay() = default;
DiskBay::~DiskBay() = default;

Result<void> DiskBay::fill(const MachineConfig& config, devices::PciBus& bus, const DiskBaySupply& supply) {
  if (config.disks.size() > max_disks)
    return Error(fmt::format("a machine has at most {} disks, not {}", max_disks, config.disks.size()));
  unsigned index = 0;
  for (const DiskConfig& disk : config.disks)
    TRY_VOID(add(config, disk, layout::disk_slot(index++, config.iommu != IommuKind::None), bus, supply));
  return {};
}

/// The name that Linux will give it, when there are no other disks of that kind; old names for IDE drives.
std::string DiskBay::next_label(const DiskConfig& disk) const {
  const auto same = std::count_if(bays_.begin(), bays_.end(), [&](const auto& bay) {
    return bay->config.cdrom == disk.cdrom && (disk.cdrom || bay->config.interface == disk.interface);
  });
  const char letter = static_cast<char>('a' + same);
  if (disk.cdrom) return fmt::format("cd{}", same);
  if (disk.interface == DiskInterface::Floppy) return fmt::format("fd{}", same);
  if (disk.interface == DiskInterface::Nvme) return fmt::format("nvme{}n1", same);
  if (disk.interface == DiskInterface::Ahci) return fmt::format("sd{}", letter);
  return disk.interface == DiskInterface::Ide ? fmt::format("hd{}", letter) : fmt::format("vd{}", letter);
}

Result<void> DiskBay::add_floppy(Bay& bay, devices::FloppyController* controller) {
  if (!controller) return Error("floppy drives need a pc (--machine pc)");
  const std::string& label = bay.disk->options().label;
  if (!devices::floppy_format(bay.disk->size_bytes())) {
    return Error(fmt::format("floppy {}: {} has {} bytes, more than any floppy disk (2.88M: {})", label,
                             bay.config.path, bay.disk->size_bytes(), devices::floppy_formats[1].bytes));
  }
  const auto before = std::count_if(bays_.begin(), bays_.end(),
                                    [](const auto& other) { return other->config.interface == DiskInterface::Floppy; });
  if (before >= max_floppies) return Error(fmt::format("a machine has at most {} floppy drives", max_floppies));
  bay.slot = static_cast<unsigned>(before);
  controller->attach(bay.slot, *bay.disk);
  return {};
}

std::array<std::uint8_t, max_floppies> DiskBay::floppy_types() const {
  std::array<std::uint8_t, max_floppies> types{};
  for (const auto& bay : bays_)
    if (bay->config.interface == DiskInterface::Floppy)
      types[bay->slot] = devices::floppy_format(bay->disk->size_bytes())->drive_type;
  return types;
}

/// Disks from the first channel's master on, CD-ROMs from the second one's.
Result<void> DiskBay::add_ide(Bay& bay, devices::IdeController* controller) {
  if (!controller) return Error("IDE drives need a pc (--machine pc)");
  constexpr std::array<unsigned, max_ide_drives> for_disks = {0, 1, 2, 3}, for_discs = {2, 3, 1, 0};
  for (const unsigned place : bay.config.cdrom ? for_discs : for_disks) {
    const bool taken = std::any_of(bays_.begin(), bays_.end(), [&](const auto& other) {
      return other->config.interface == DiskInterface::Ide && other->slot == place;
    });
    if (taken) continue;
    bay.slot = place;
    controller->channel(place / 2).attach(
        place % 2, bay.config.cdrom ? devices::AtaDriveKind::Cdrom : devices::AtaDriveKind::Disk, *bay.disk);
    return {};
  }
  return Error(fmt::format("a machine has at most {} IDE drives", max_ide_drives));
}

Result<void> DiskBay::add_ahci(Bay& bay, devices::PciBus& bus, const DiskBaySupply& supply) {
  const auto before = std::count_if(bays_.begin(), bays_.end(),
                                    [](const auto& other) { return other->config.interface == DiskInterface::Ahci; });
  if (before >= max_ahci_drives) return Error(fmt::format("a machine has at most {} AHCI drives", max_ahci_drives));
  if (!ahci_) {
    ahci_ = std::make_unique<devices::AhciController>("ahci", supply.dma(layout::AHCI_SLOT));
    bus.plug(layout::AHCI_SLOT, *ahci_);
  }
  bay.slot = static_cast<unsigned>(before);
  ahci_->attach(bay.slot, bay.config.cdrom ? devices::AtaDriveKind::Cdrom : devices::AtaDriveKind::Disk, *bay.disk);
  return {};
}

Result<void> DiskBay::add(const MachineConfig& config, const DiskConfig& wanted, unsigned slot, devices::PciBus& bus,
                          const DiskBaySupply& supply) {
  auto bay = std::make_unique<Bay>();
  bay->config = wanted;
  bay->slot = slot;
  const std::string label = next_label(wanted);
  bay->absolute_path = wanted.path;
  bay->place = Fd(::open(wanted.path.c_str(), O_PATH | O_CLOEXEC));
  std::error_code no_path;
  if (bay->place.valid()) bay->absolute_path = std::filesystem::absolute(wanted.path, no_path).string();
  auto image = is_seed(wanted.path) ? make_seed_disk(wanted.path)
               : wanted.snapshot    ? open_snapshot(wanted.path, wanted.open)
                                    : disk::open_image(wanted.path, wanted.open);
  if (!image) return std::move(image).error().context(fmt::format("disk {}", label));
  if (image.value()->size() < disk::Backend::sector_bytes)
    return Error(fmt::format("disk {}: {} is smaller than one sector of {} bytes", label, wanted.path,
                             disk::Backend::sector_bytes));
  if (const std::uint64_t size = image.value()->size(); size % disk::Backend::sector_bytes != 0)
    return Error(
        fmt::format("disk {}: {} has {} bytes, which is no multiple of {}: its end would be lost. Let its "
                    "server round it up (nbdkit --filter=truncate ... round-up={})",
                    label, wanted.path, size, disk::Backend::sector_bytes, disk::Backend::sector_bytes));

  if (wanted.cdrom)
    if (auto whole = check_disc(*image.value(), wanted.path); !whole)
      return std::move(whole).error().context(fmt::format("disk {}", label));

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

  const unsigned least = wanted.interface == DiskInterface::Nvme ? nvme_queues_least : 1;
  const unsigned queues = wanted.queues != 0 ? wanted.queues : std::clamp(config.cpus, least, queues_default_max);
  if (wanted.interface == DiskInterface::Ide) {
    TRY_VOID(add_ide(*bay, supply.ide));
    bays_.push_back(std::move(bay));
    return {};
  }
  if (wanted.interface == DiskInterface::Ahci) {
    TRY_VOID(add_ahci(*bay, bus, supply));
    bays_.push_back(std::move(bay));
    return {};
  }
  if (wanted.interface == DiskInterface::Floppy) {
    TRY_VOID(add_floppy(*bay, supply.floppy));
    bays_.push_back(std::move(bay));
    return {};
  }
  if (wanted.interface == DiskInterface::Nvme) {
    bay->function =
        std::make_unique<devices::NvmeController>(fmt::format("nvme-{}", label), supply.dma(slot), *bay->disk, queues);
  } else {
    bay->virtio = std::make_unique<devices::VirtioBlk>(supply.dma(slot), *bay->disk, queues);
    bay->function =
        std::make_unique<devices::VirtioPci>(fmt::format("virtio-blk-{}", label), *bay->virtio, supply.dma(slot));
  }
  bus.plug(slot, *bay->function);
  bays_.push_back(std::move(bay));
  return {};
}

Result<void> DiskBay::prepare_save() {
  for (const auto& bay : bays_) {
    disk::Disk& disk = *bay->disk;
    const std::string& label = disk.options().label;
    if (bay->config.snapshot)
      return Error(fmt::format(
          "disk {} was opened with snapshot=on: what the guest has written goes away with this process, so a "
          "restored machine would not find it",
          label));
    disk.settle();
    // Twice, as closing does: the first makes the last changes durable, the second what they freed.
    for (int pass = 0; pass < 2 && !disk.read_only(); ++pass) {
      disk::IoStatus status = disk::IoStatus::Ok;
      disk.submit({.kind = disk::IoKind::Flush, .done = [&status](disk::IoStatus s) { status = s; }});
      disk.settle();
      if (status != disk::IoStatus::Ok || disk.stopped() != 0)
        return Error(fmt::format("disk {}: the host cannot write to {} now, so the disk is not complete", label,
                                 bay->config.path));
    }
  }
  return {};
}

std::vector<SavedDisk> DiskBay::saved() const {
  std::vector<SavedDisk> disks;
  for (const auto& bay : bays_) {
    SavedDisk& disk = disks.emplace_back();
    disk.config = bay->config;
    disk.config.path = bay->absolute_path;
    disk.size_bytes = bay->disk->size_bytes();
    const auto written = bay->last_written();
    disk.stamped = written.has_value();
    disk.changed_ns = written.value_or(0);
  }
  return disks;
}

Result<void> DiskBay::check_saved(const std::vector<SavedDisk>& disks, bool replaced) const {
  VENEER_ASSERT(disks.size() == bays_.size());
  for (std::size_t i = 0; i < bays_.size(); ++i) {
    const Bay& bay = *bays_[i];
    const SavedDisk& was = disks[i];
    const std::string& label = bay.disk->options().label;
    if (bay.disk->size_bytes() != was.size_bytes)
      return Error(fmt::format("disk {}: {} has {} bytes, and the saved machine's had {}", label, bay.absolute_path,
                               bay.disk->size_bytes(), was.size_bytes));
    const auto written = bay.last_written();
    if (!replaced && was.stamped && written != was.changed_ns)
      return Error(
          fmt::format("disk {}: {} has been written since the machine was saved, and the guest would mix old memory "
                      "with new files. Save with veneer save --stop, or name copies made while it stood still, with "
                      "--disk for each disk",
                      label, bay.absolute_path));
  }
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

std::vector<std::string> DiskBay::boot_paths(BootOrder order) const {
  std::vector<std::string> paths;
  enum class Kind { Disk, Cdrom, Floppy };
  const auto add = [&](Kind kind) {
    for (const auto& bay : bays_) {
      const bool floppy = bay->config.interface == DiskInterface::Floppy;
      if ((bay->config.cdrom ? Kind::Cdrom : floppy ? Kind::Floppy : Kind::Disk) != kind || is_seed(bay->config.path))
        continue;
      switch (bay->config.interface) {
        case DiskInterface::Virtio:
          paths.push_back(fmt::format("/pci@i0cf8/scsi@{:x}/disk@0,0", bay->slot));
          break;
        case DiskInterface::Nvme:
          paths.push_back(fmt::format("/pci@i0cf8/*@{:x}/namespace@1,0", bay->slot));
          break;
        case DiskInterface::Ide:
          paths.push_back(fmt::format("/pci@i0cf8/ide@{:x},1/drive@{:x}/disk@{:x}", layout::PIIX_SLOT, bay->slot / 2,
                                      bay->slot % 2));
          break;
        case DiskInterface::Ahci:
          paths.push_back(fmt::format("/pci@i0cf8/pci8086,2922@{:x}/drive@{:x}/disk@0", layout::AHCI_SLOT, bay->slot));
          break;
        case DiskInterface::Floppy:
          paths.push_back(fmt::format("/pci@i0cf8/isa@{:x}/fdc@{:04x}/floppy@{:x}", layout::PIIX_SLOT,
                                      layout::FLOPPY_PORT, bay->slot));
          break;
      }
    }
  };
  if (order == BootOrder::Floppy) add(Kind::Floppy);
  if (order == BootOrder::Cdrom) add(Kind::Cdrom);
  add(Kind::Disk);
  if (order != BootOrder::Cdrom) add(Kind::Cdrom);
  if (order != BootOrder::Floppy) add(Kind::Floppy);
  return paths;
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
    out += fmt::format("  {}, cache {}, {}, serial {}\n", interface_name(config), cache_name(config.open.cache),
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
