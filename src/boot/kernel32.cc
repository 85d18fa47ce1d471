// Loading of PVH and multiboot 1 kernels.
#include "boot/kernel32.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>

#include "base/bits.h"
#include "boot/elf_image.h"
#include "boot/low_memory.h"
#include "boot/multiboot.h"
#include "boot/protected_mode.h"

namespace veneer::boot {

namespace {

/// Xen's public/arch-x86/hvm/start_info.h, version 1.
struct PvhStartInfo {
  std::uint32_t magic = 0x336ec578, version = 1, flags = 0, module_count = 0;
  std::uint64_t modules = 0, cmdline = 0, rsdp = 0, memory_map = 0;
  std::uint32_t memory_map_entries = 0, reserved = 0;
};
static_assert(sizeof(PvhStartInfo) == 56);
struct PvhModule {
  std::uint64_t address = 0, size_bytes = 0, cmdline = 0, reserved = 0;
};
struct PvhRange {
  std::uint64_t base = 0, size_bytes = 0;
  std::uint32_t type = 0, reserved = 0;
};
static_assert(sizeof(PvhModule) == 32 && sizeof(PvhRange) == 24);

/// Multiboot Specification 0.6.96, 3.3.
struct MultibootInfo {
  std::uint32_t flags = 0, lower_kib = 0, upper_kib = 0, boot_device = 0, cmdline = 0, module_count = 0, modules = 0;
  std::array<std::uint32_t, 4> symbols{};
  std::uint32_t memory_map_bytes = 0, memory_map = 0;
  std::array<std::uint32_t, 3> unused{};
  std::uint32_t loader_name = 0;
};
static_assert(offsetof(MultibootInfo, memory_map_bytes) == 44 && offsetof(MultibootInfo, loader_name) == 64);
struct MultibootModule {
  std::uint32_t start = 0, end = 0, cmdline = 0, reserved = 0;
};
struct [[gnu::packed]] MultibootRange {
  std::uint32_t size_bytes = 20;  ///< of what follows
  E820Entry entry;
};
static_assert(sizeof(MultibootRange) == 24);

/// Where what the kernel is told lies: where the zero page and the page tables of 64-bit kernels would, or as much
/// higher when the kernel itself wants to be there, as real-mode kernels do.
struct Places {
  std::uint64_t shift = 0;
  std::uint64_t info() const { return low_memory::BOOT_PARAMS + shift; }
  std::uint64_t loader_name() const { return info() + 0x400; }
  std::uint64_t modules() const { return info() + 0x800; }
  std::uint64_t memory_map() const { return low_memory::PAGE_TABLES + shift; }
  std::uint64_t module_cmdlines() const { return low_memory::SETUP_DATA + shift; }
  std::uint64_t module_cmdlines_end() const { return low_memory::CMDLINE + shift; }
  std::uint64_t cmdline() const { return low_memory::CMDLINE + shift; }
  std::uint64_t end() const { return cmdline() + low_memory::CMDLINE_LIMIT; }
};
constexpr std::uint64_t shift_if_in_the_way = 0x6'0000;

constexpr std::size_t most_modules = 32;
constexpr std::size_t most_ranges = 128;

struct LoadedModule {
  std::uint64_t address = 0, size_bytes = 0, cmdline = 0;
};

/// One kernel on its way into memory.
class Loader {
 public:
  Loader(machine::GuestMemory& memory, const LinuxBoot& boot, const LinuxFiles& files)
      : memory_(memory), boot_(boot), files_(files) {}

  Result<BootEntry> load(cpu::ArchState& state) {
    const auto named = [&](Error error) { return std::move(error).context("kernel " + boot_.kernel); };
    if (auto done = load_image(); !done) return named(std::move(done).error());
    if (auto done = find_places(); !done) return named(std::move(done).error());
    TRY_VOID(load_modules());
    TRY_VOID(write_text(places_.cmdline(), places_.end(), words_for(boot_.kernel, boot_.cmdline)));
    if (boot_.e820.size() > most_ranges) return Error("memory map has too many entries");
    if (!(pvh_ ? write_pvh() : write_multiboot())) return Error("no RAM for what the kernel is told");
    if (!enter_protected_mode(memory_, where_.entry, GuestPhys{0}, state))
      return Error("no RAM for the boot processor's tables");
    state.idtr = {0, 0x3ff};  // what a BIOS leaves: real-mode kernels go on with it
    state.gpr[cpu::RSI] = 0;
    state.gpr[cpu::RBX] = state.gpr[cpu::RSP] = places_.info();
    constexpr std::uint64_t multiboot_magic = 0x2badb002;
    if (!pvh_) state.gpr[cpu::RAX] = multiboot_magic;
    return where_;
  }

 private:
  Result<void> load_image() {
    TRY(const auto header, find_multiboot(files_.kernel));
    if (is_elf(files_.kernel)) {
      TRY(const ElfImage image, read_elf(files_.kernel));
      pvh_ = image.pvh_entry.has_value();
      if (pvh_ || !(header && header->addresses)) {
        where_.entry = GuestPhys{image.pvh_entry.value_or(static_cast<std::uint32_t>(image.entry))};
        for (const ElfImage::Segment& segment : image.segments) TRY_VOID(load_segment(segment));
        return {};
      }
    }
    const MultibootHeader::Addresses& at = *header->addresses;  // kernel_kind() has seen one or the other
    if (at.header < at.load || at.header - at.load > header->file_offset)
      return Error("the addresses in its multiboot header make no sense");
    ElfImage::Segment segment;
    segment.file_offset = header->file_offset - (at.header - at.load);
    segment.address = at.load;
    const std::uint64_t rest = files_.kernel.size_bytes() - segment.file_offset;
    segment.file_bytes = at.load_end ? std::uint64_t{at.load_end} - at.load : rest;
    if ((at.load_end && at.load_end < at.load) || segment.file_bytes > rest)
      return Error("it is cut, or the addresses in its multiboot header make no sense");
    segment.memory_bytes = std::max<std::uint64_t>(
        segment.file_bytes, at.bss_end > at.load ? std::uint64_t{at.bss_end} - at.load : std::uint64_t{0});
    where_.entry = GuestPhys{at.entry};
    return load_segment(segment);
  }

  Result<void> load_segment(const ElfImage::Segment& segment) {
    constexpr std::uint64_t lowest = page_size;  // vectors, the BIOS data area and the GDT are below
    if (segment.address < lowest || segment.memory_bytes > 4 * GiB || segment.address + segment.memory_bytes > 4 * GiB)
      return Error(fmt::format("it wants to be at {:#x}; from {:#x} to 4 GiB is possible", segment.address, lowest));
    TRY_VOID(files_.kernel.copy_to(memory_, GuestPhys{segment.address}, segment.file_offset, segment.file_bytes));
    TRY_VOID(clear(segment.address + segment.file_bytes, segment.memory_bytes - segment.file_bytes));
    end_ = std::max(end_, segment.address + segment.memory_bytes);
    segments_.push_back(segment);
    if (!where_.kernel_bytes || segment.address < where_.kernel.value) where_.kernel = GuestPhys{segment.address};
    where_.kernel_bytes = end_ - where_.kernel.value;
    return {};
  }

  Result<void> find_places() {
    for (const std::uint64_t shift : {std::uint64_t{0}, shift_if_in_the_way}) {
      places_.shift = shift;
      const bool taken = std::ranges::any_of(segments_, [&](const ElfImage::Segment& segment) {
        return segment.address < places_.end() && segment.address + segment.memory_bytes > places_.info();
      });
      if (!taken) return {};
    }
    return Error(fmt::format("it leaves no room below 640 KiB for what it is told: {:#x} to {:#x} or {:#x} to {:#x}",
                             Places{}.info(), Places{}.end(), places_.info(), places_.end()));
  }

  /// After a reset there is something in memory.
  Result<void> clear(std::uint64_t address, std::uint64_t size_bytes) {
    static constexpr std::array<std::byte, page_size> zeros{};
    for (std::uint64_t done = 0; done < size_bytes;) {
      const auto piece = std::min<std::uint64_t>(zeros.size(), size_bytes - done);
      if (!memory_.write(GuestPhys{address + done}, std::span(zeros).first(piece)))
        return Error("it does not fit into the guest's memory");
      done += piece;
    }
    return {};
  }

  Result<void> write_text(std::uint64_t address, std::uint64_t end, const std::string& text) {
    if (text.size() >= end - address) return Error(fmt::format("command line too long: {} bytes", text.size()));
    if (text.find('\0') != std::string::npos) return Error("command line contains a zero byte");
    if (!memory_.write(GuestPhys{address}, std::as_bytes(std::span(text.c_str(), text.size() + 1))))
      return Error("no RAM for the command line");
    return {};
  }

  /// Under multiboot a file's name comes before the words for it, as GRUB's first version did: kernels drop the first
  /// word (Xen does unless the loader calls itself GRUB 2).
  std::string words_for(const std::string& path, const std::string& words) const {
    if (pvh_) return words;
    std::string name = path.substr(path.rfind('/') + 1);
    std::ranges::replace(name, ' ', '_');
    return words.empty() ? name : name + ' ' + words;
  }

  /// Where a module goes: behind the kernel, or, where RAM ends there, between 1 MiB and the kernel: Linux sits at 16
  /// MiB and fills small machines to the end.
  std::uint64_t place_for(std::uint64_t size_bytes) {
    end_ = align_up(end_, page_size);
    const machine::MemorySlot* above = memory_.find(GuestPhys{end_});
    const bool fits_above = above && end_ + size_bytes <= above->base.value + above->size_bytes;
    if (!fits_above && size_bytes <= where_.kernel.value && below_ + size_bytes <= where_.kernel.value)
      return std::exchange(below_, align_up(below_ + size_bytes, page_size));
    return std::exchange(end_, end_ + size_bytes);
  }

  Result<void> load_module(const InputFile& file, const std::string& words) {
    const std::uint64_t address = place_for(file.size_bytes());
    TRY_VOID(file.copy_to(memory_, GuestPhys{address}, 0, file.size_bytes()));
    TRY_VOID(write_text(next_cmdline_, places_.module_cmdlines_end(), words));
    modules_.push_back({address, file.size_bytes(), next_cmdline_});
    next_cmdline_ += words.size() + 1;
    return {};
  }

  Result<void> load_modules() {
    end_ = std::max(end_, MiB);
    next_cmdline_ = places_.module_cmdlines();
    if (files_.initrd) {
      if (auto done = load_module(*files_.initrd, words_for(boot_.initrd, {})); !done)
        return std::move(done).error().context("initrd " + boot_.initrd);
      where_.initrd = GuestPhys{modules_.front().address};
      where_.initrd_bytes = modules_.front().size_bytes;
    }
    for (std::size_t i = 0; i < files_.modules.size(); ++i)
      if (auto done = load_module(files_.modules[i], words_for(boot_.modules[i].path, boot_.modules[i].words)); !done)
        return std::move(done).error().context("module " + boot_.modules[i].path);
    if (modules_.size() > most_modules) return Error(fmt::format("too many modules: at most {}", most_modules));
    return {};
  }

  bool write_pvh() {
    PvhStartInfo info;
    info.module_count = static_cast<std::uint32_t>(modules_.size());
    info.modules = modules_.empty() ? 0 : places_.modules();
    info.cmdline = places_.cmdline();
    info.rsdp = boot_.acpi_rsdp.value;
    info.memory_map = places_.memory_map();
    info.memory_map_entries = static_cast<std::uint32_t>(boot_.e820.size());
    bool ok = memory_.write_value(GuestPhys{places_.info()}, info);
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const PvhModule row{modules_[i].address, modules_[i].size_bytes, modules_[i].cmdline, 0};
      ok = ok && memory_.write_value(GuestPhys{places_.modules() + i * sizeof row}, row);
    }
    for (std::size_t i = 0; i < boot_.e820.size(); ++i) {
      const E820Entry& entry = boot_.e820[i];
      const PvhRange row{entry.base, entry.size_bytes, static_cast<std::uint32_t>(entry.type), 0};
      ok = ok && memory_.write_value(GuestPhys{places_.memory_map() + i * sizeof row}, row);
    }
    return ok;
  }

  bool write_multiboot() {
    constexpr std::uint32_t has_sizes = 1u << 0, has_cmdline = 1u << 2, has_modules = 1u << 3, has_map = 1u << 6,
                            has_loader_name = 1u << 9;
    MultibootInfo info;
    info.flags = has_sizes | has_cmdline | has_modules | has_map | has_loader_name;
    for (const E820Entry& entry : boot_.e820) {
      if (entry.type != E820Type::Ram) continue;
      if (entry.base == 0) info.lower_kib = static_cast<std::uint32_t>(std::min(entry.size_bytes, 640 * KiB) / KiB);
      if (entry.base <= MiB && entry.base + entry.size_bytes > MiB)
        info.upper_kib = static_cast<std::uint32_t>((entry.base + entry.size_bytes - MiB) / KiB);
    }
    info.cmdline = static_cast<std::uint32_t>(places_.cmdline());
    info.module_count = static_cast<std::uint32_t>(modules_.size());
    info.modules = static_cast<std::uint32_t>(places_.modules());
    info.loader_name = static_cast<std::uint32_t>(places_.loader_name());
    info.memory_map = static_cast<std::uint32_t>(places_.memory_map());
    info.memory_map_bytes = static_cast<std::uint32_t>(boot_.e820.size() * sizeof(MultibootRange));
    static constexpr std::array<char, 7> loader_name = {"Veneer"};
    bool ok = memory_.write_value(GuestPhys{places_.info()}, info) &&
              memory_.write_value(GuestPhys{places_.loader_name()}, loader_name);
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const MultibootModule row{static_cast<std::uint32_t>(modules_[i].address),
                                static_cast<std::uint32_t>(modules_[i].address + modules_[i].size_bytes),
                                static_cast<std::uint32_t>(modules_[i].cmdline), 0};
      ok = ok && memory_.write_value(GuestPhys{places_.modules() + i * sizeof row}, row);
    }
    for (std::size_t i = 0; i < boot_.e820.size(); ++i) {
      MultibootRange row;
      row.entry = boot_.e820[i];
      ok = ok && memory_.write_value(GuestPhys{places_.memory_map() + i * sizeof row}, row);
    }
    return ok;
  }

  machine::GuestMemory& memory_;
  const LinuxBoot& boot_;
  const LinuxFiles& files_;
  BootEntry where_;
  bool pvh_ = false;
  std::uint64_t end_ = 0;      ///< of what is loaded
  std::uint64_t below_ = MiB;  ///< end of what is loaded below the kernel
  std::uint64_t next_cmdline_ = 0;
  Places places_;
  std::vector<ElfImage::Segment> segments_;
  std::vector<LoadedModule> modules_;
};

}  // namespace

KernelKind kernel_kind(const InputFile& kernel) {
  if (is_elf(kernel)) {
    if (const auto image = read_elf(kernel); !image || image.value().pvh_entry) return KernelKind::Elf32;
  }
  const auto header = find_multiboot(kernel);
  if (!header) return KernelKind::Elf32;  // and load_kernel32() says why not
  return header.value() && (header.value()->addresses || is_elf(kernel)) ? KernelKind::Elf32 : KernelKind::BzImage;
}

Result<BootEntry> load_kernel32(machine::GuestMemory& memory, const LinuxBoot& boot, const LinuxFiles& files,
                                cpu::ArchState& state) {
  return Loader(memory, boot, files).load(state);
}

}  // namespace veneer::boot
