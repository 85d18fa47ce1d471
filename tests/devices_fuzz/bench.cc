// Putting the board together, and the accesses of its guest.
#include "bench.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/fd.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

/// Large enough for a single command that moves it all to be work, and sparse. Bench::settle() waits for that command:
/// a disc of 512 MiB that was not in the page cache cost the host alone the 5 s that a step has (one_case.cc).
constexpr std::uint64_t disc_bytes = 128 * MiB, disk_bytes = 64 * MiB;
constexpr std::uint64_t floppy_bytes = 1'474'560, large_floppy_bytes = 2 * floppy_bytes;

constexpr std::uint16_t CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc;
constexpr unsigned COMMAND = 4, BAR_0 = 0x10;

template <typename T>
T must(Result<T> result, const char* what) {
  if (!result) broken(fmt::format("the bench: {}: {}", what, result.error().message()));
  return std::move(result).value();
}

}  // namespace

void broken(const std::string& what) {
  std::fprintf(stderr, "broken promise: %s\n", what.c_str());
  std::abort();
}

DriveFiles::DriveFiles() {
  std::string pattern = (std::filesystem::temp_directory_path() / "veneer-fuzz-XXXXXX").string();
  if (!::mkdtemp(pattern.data())) broken("no temporary folder");
  folder_ = pattern;
  for (const auto& [name, bytes] : {std::pair{"disk", disk_bytes}, std::pair{"disc", disc_bytes},
                                    std::pair{"floppy", floppy_bytes}, std::pair{"large", large_floppy_bytes}}) {
    const Fd file(::open(path(name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) broken("no temporary files");
  }
}

DriveFiles::~DriveFiles() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Bench::Bench(const DriveFiles& files, bool firmware, bool iommu) : has_firmware(firmware), has_iommu(iommu) {
  if (iommu) config_.iommu = vm::IommuKind::Amd;
  config_.name = "fuzz";
  config_.cpus = 2;
  config_.memory_bytes = ram_end;
  config_.debug_exit = true;
  // Without SeaBIOS, since that wants the display's BIOS of the host.
  if (firmware) config_.firmware.kind = vm::Firmware::Kind::Ovmf;
  const auto drive = [&](vm::DiskInterface interface, const char* file, bool disc) {
    vm::DiskConfig& disk = config_.disks.emplace_back();
    disk.path = files.path(file);
    disk.open.format = disk::Format::Raw;
    disk.open.read_only = disc;
    disk.interface = interface;
    disk.cdrom = disc;
    disk.snapshot = !disc;
  };
  drive(vm::DiskInterface::Virtio, "disk", false);
  drive(vm::DiskInterface::Nvme, "disk", false);
  drive(vm::DiskInterface::Ide, "disk", false);
  drive(vm::DiskInterface::Ide, "disc", true);
  drive(vm::DiskInterface::Floppy, "floppy", false);
  drive(vm::DiskInterface::Floppy, "large", false);
  drive(vm::DiskInterface::Ahci, "disk", false);
  drive(vm::DiskInterface::Ahci, "disc", true);
  config_.console = true;
  config_.console_output = &terminal;
  config_.nets.resize(2);
  for (vm::NetConfig& net : config_.nets) net.user.isolated = true;
  config_.nets[1].model = vm::CardModel::E1000;

  add_memory(firmware);
  constexpr std::uint64_t tsc_hz = 1'000'000'000;
  tsc_.follow(timers.clock());
  cpuid_ = std::make_unique<cpu::CpuidPolicy>(cpu::CpuidPolicy::host(config_.cpus, tsc_hz));
  board = must(vm::Mainboard::create(config_, {lock, timers, power_, memory, tsc_, tsc_hz, cpuid_->physical_bits(),
                                               *cpuid_, events_, [] {}, nullptr, nullptr}),
               "the board");
  reset();
}

Bench::~Bench() {
  {
    const std::lock_guard hold(lock);
    (void)board->disks().close();
  }
  board.reset();
}

void Bench::add_memory(bool firmware) {
  using machine::SlotKind;
  const auto add = [&](const char* name, std::uint64_t base, std::uint64_t bytes) {
    return must(memory.add(name, GuestPhys{base}, bytes, SlotKind::Ram), name);
  };
  add("conventional", 0, vm::layout::VGA_WINDOW_BASE);
  machine::MemorySlot* const shadow =
      add("shadow", vm::layout::SHADOW_BASE, vm::layout::EXTENDED_BASE - vm::layout::SHADOW_BASE);
  if (firmware) must(memory.add_behind("firmware-low", *shadow), "ROM");
  add("extended", vm::layout::EXTENDED_BASE, ram_end - vm::layout::EXTENDED_BASE);
  add("above-4g", high_ram, high_ram_bytes);
}

std::uint32_t Bench::in(std::uint64_t port, unsigned size_bytes) {
  return board->read_port(static_cast<std::uint16_t>(port), size_bytes);
}

void Bench::out(std::uint64_t port, unsigned size_bytes, std::uint64_t value) {
  board->write_port(static_cast<std::uint16_t>(port), size_bytes, static_cast<std::uint32_t>(value));
}

// As an engine does it: RAM is RAM, and the board has the rest.
std::uint64_t Bench::load(std::uint64_t address, unsigned size_bytes) {
  std::uint64_t value = 0;
  if (memory.read(GuestPhys{address}, std::as_writable_bytes(std::span(&value, 1)).first(size_bytes))) return value;
  return board->read_mmio(GuestPhys{address}, size_bytes);
}

void Bench::store(std::uint64_t address, unsigned size_bytes, std::uint64_t value) {
  if (memory.write(GuestPhys{address}, std::as_bytes(std::span(&value, 1)).first(size_bytes))) return;
  board->write_mmio(GuestPhys{address}, size_bytes, value);
}

std::uint32_t Bench::read_config(unsigned slot, unsigned function, unsigned offset, unsigned size_bytes) {
  out(CONFIG_ADDRESS, 4, 0x8000'0000u | slot << 11 | function << 8 | (offset & 0xfc));
  return in(CONFIG_DATA + (offset & 3), size_bytes);
}

void Bench::write_config(unsigned slot, unsigned function, unsigned offset, unsigned size_bytes, std::uint64_t value) {
  out(CONFIG_ADDRESS, 4, 0x8000'0000u | slot << 11 | function << 8 | (offset & 0xfc));
  out(CONFIG_DATA + (offset & 3), size_bytes, value);
}

void Bench::assign_bars() {
  regions_.clear();
  std::uint64_t next_memory = vm::layout::PCI_WINDOW32_BASE, next_port = vm::layout::PCI_IO_WINDOW_BASE;
  for (unsigned slot = 0; slot < 32; ++slot) {
    for (unsigned function = 0; function < 4; ++function) {
      const std::uint32_t id = read_config(slot, function, 0);
      if ((id & 0xffff) == 0xffff) continue;
      write_config(slot, function, COMMAND, 2, 0);
      for (unsigned bar = 0; bar < 6; ++bar) {
        const unsigned offset = BAR_0 + 4 * bar;
        write_config(slot, function, offset, 4, 0xffff'ffff);
        const std::uint32_t mask = read_config(slot, function, offset);
        if (mask == 0) continue;
        const bool ports = (mask & 1) != 0;
        const std::uint64_t bytes =
            ports ? std::uint64_t{~(mask & 0xfffcu) & 0xffff} + 1 : std::uint64_t{~(mask & ~0xfu)} + 1;
        std::uint64_t& next = ports ? next_port : next_memory;
        next = (next + bytes - 1) / bytes * bytes;
        write_config(slot, function, offset, 4, next);
        if (!ports && (mask & 6) == 4) write_config(slot, function, offset + 4, 4, 0);
        regions_.push_back({slot, function, bar, id, ports, next, bytes});
        next += bytes;
        if (!ports && (mask & 6) == 4) ++bar;
      }
      write_config(slot, function, COMMAND, 2, 7);
    }
  }
}

const Region* Bench::region(std::uint32_t id, unsigned bar, unsigned nth) const {
  for (const Region& each : regions_)
    if (each.id == id && each.bar == bar && nth-- == 0) return &each;
  return nullptr;
}

std::uint64_t Bench::address(Choices& choices) {
  if (!choices.wrong(4)) return data + choices.below(data_bytes);
  if (choices.one_in(4)) return tables + choices.below(tables_bytes);
  switch (choices.below(10)) {
    case 0:
      return ram_end - choices.below(0x20);
    case 1:
      return vm::layout::VGA_WINDOW_BASE - choices.below(0x20);
    case 2:
      return vm::layout::VGA_WINDOW_BASE + choices.below(0x2'0000);
    case 3:
      return vm::layout::SHADOW_BASE + choices.below(0x4'0000);
    case 4:
      return vm::layout::LAPIC_BASE + choices.below(0x1000);
    case 5:
      return vm::layout::IOAPIC_BASE + choices.below(0x100);
    case 6:
      return high_ram - choices.below(0x20) + choices.below(2) * high_ram_bytes;
    case 7:
      return ~std::uint64_t{0} - choices.below(0x2000);
    case 8:
      if (!regions_.empty()) {
        const Region& region = choices.of(regions_.data(), regions_.size());
        return region.base + choices.below(region.size_bytes);
      }
      [[fallthrough]];
    default:
      return choices.value();
  }
}

void Bench::settle() {
  const std::lock_guard hold(lock);
  for (const char* label : {"vda", "nvme0n1", "hda", "cd0", "fd0", "fd1", "sda", "cd1"})
    if (disk::Disk* disk = board->disks().find(label)) disk->settle();
}

void Bench::reset() {
  {
    const std::lock_guard hold(lock);
    board->reset();
  }
  was_reset = true;
  assign_bars();
}

std::vector<std::byte> Bench::save() {
  const std::lock_guard hold(lock);
  machine::SnapshotWriter out;
  board->save(out);
  return out.data();
}

bool Bench::restore(std::span<const std::byte> state) {
  const std::lock_guard hold(lock);
  machine::SnapshotReader in(state);
  board->restore(in);
  was_reset = true;
  return in.ok();
}

}  // namespace veneer::devices_fuzz
