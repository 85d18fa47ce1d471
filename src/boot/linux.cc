// Placing of kernel, initrd, command line and zero page, as the Linux boot protocol wants them.
#include "boot/linux.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>

#include "base/bits.h"
#include "boot/bzimage.h"
#include "boot/input_file.h"
#include "boot/kernel32.h"
#include "boot/long_mode.h"
#include "boot/low_memory.h"
#include "boot/protected_mode.h"

namespace veneer::boot {
namespace {

constexpr std::uint64_t ENTRY_32 = 0;      // startup_32 is the load address itself
constexpr std::uint64_t ENTRY_64 = 0x200;  // startup_64 from the load address (boot.rst, "64-bit Boot Protocol")

/// Offsets in struct boot_params (zero-page.rst).
enum ZeroPage : std::size_t {
  ACPI_RSDP_ADDR = 0x070,
  E820_ENTRIES = 0x1e8,
  SETUP_HEADER = 0x1f1,
  VID_MODE = 0x1fa,
  TYPE_OF_LOADER = 0x210,
  LOADFLAGS = 0x211,
  CODE32_START = 0x214,
  RAMDISK_IMAGE = 0x218,
  RAMDISK_SIZE = 0x21c,
  CMD_LINE_PTR = 0x228,
  SETUP_DATA = 0x250,
  E820_TABLE = 0x2d0,
};
constexpr std::size_t E820_MAX_ENTRIES = 128;
constexpr std::uint8_t LOADER_UNDEFINED = 0xff;  // type_of_loader: no number assigned
constexpr std::uint16_t VID_MODE_NORMAL = 0xffff;
constexpr std::uint32_t SETUP_RNG_SEED = 9;

using Page = std::array<std::byte, page_size>;

template <typename T>
void put(Page& page, std::size_t offset, T value) {
  std::memcpy(page.data() + offset, &value, sizeof value);
}

/// The end of the RAM that starts at 1 MiB (everything the loader places lies there, below 4 GiB).
std::uint64_t extended_ram_end(const E820Map& map) {
  for (const E820Entry& entry : map)
    if (entry.type == E820Type::Ram && entry.base <= MiB && entry.base + entry.size_bytes > MiB)
      return std::min(entry.base + entry.size_bytes, 4 * GiB);
  return MiB;
}

std::string mib(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / double{1 << 20}); }

/// pref_address. A relocatable kernel could be put lower, but moves itself up to there before it unpacks (boot.rst,
/// pref_address), and would overwrite what it finds where RAM is too small.
Result<std::uint64_t> place_kernel(const BzImage& image, std::uint64_t ram_end) {
  const std::uint64_t start = image.preferred_address;
  if (start < ram_end && image.init_bytes <= ram_end - start) return start;
  return Error(fmt::format(
      "memory too small: the kernel needs {} from address {:#x} on, RAM ends at {}; give the guest more memory",
      mib(image.init_bytes), start, mib(ram_end)));
}

/// As high as the kernel allows: below initrd_addr_max and the end of RAM, and above the kernel's working room.
Result<std::uint64_t> place_initrd(const BzImage& image, std::uint64_t kernel, std::uint64_t initrd_bytes,
                                   std::uint64_t ram_end) {
  const std::uint64_t lowest = align_up(kernel + image.init_bytes, page_size);
  const std::uint64_t end = std::min(ram_end, image.initrd_address_max + 1);
  if (end < lowest || initrd_bytes > align_down(end - lowest, page_size))
    return Error(fmt::format("it has {}, but only {} are free for it beside the kernel; give the guest more memory",
                             mib(initrd_bytes), mib(end < lowest ? 0 : end - lowest)));
  return align_down(end - initrd_bytes, page_size);
}

Result<void> write_cmdline(machine::GuestMemory& memory, const std::string& cmdline, const BzImage& image) {
  const std::uint64_t limit = std::min<std::uint64_t>(image.cmdline_bytes_max, low_memory::CMDLINE_LIMIT - 1);
  if (cmdline.size() > limit)
    return Error(fmt::format("kernel command line too long: {} bytes, this kernel takes {}", cmdline.size(), limit));
  if (cmdline.find('\0') != std::string::npos) return Error("kernel command line contains a zero byte");
  if (!memory.write(GuestPhys{low_memory::CMDLINE}, std::as_bytes(std::span(cmdline.c_str(), cmdline.size() + 1))))
    return Error("no RAM for the kernel command line");
  return {};
}

/// A setup_data node with random bytes, so that the guest's generator is ready at once (SETUP_RNG_SEED, Linux 6.0;
/// older kernels ignore unknown types).
Result<void> write_rng_seed(machine::GuestMemory& memory, std::optional<std::uint64_t> fixed) {
  struct [[gnu::packed]] {
    std::uint64_t next = 0;
    std::uint32_t type = SETUP_RNG_SEED;
    std::uint32_t len = sizeof(seed);
    std::array<std::uint8_t, 32> seed{};
  } node;
  if (fixed)
    std::memcpy(node.seed.data(), &*fixed, sizeof *fixed);
  else if (::getrandom(node.seed.data(), node.seed.size(), 0) != static_cast<ssize_t>(node.seed.size()))
    return Error("the host gives no random numbers");
  if (!memory.write_value(GuestPhys{low_memory::SETUP_DATA}, node)) return Error("no RAM for setup_data");
  return {};
}

Result<void> write_zero_page(machine::GuestMemory& memory, const LinuxBoot& boot, const BzImage& image,
                             const BootEntry& where) {
  Page page{};
  std::memcpy(page.data() + SETUP_HEADER, image.setup_header.data(), image.setup_header.size());
  put<std::uint64_t>(page, ACPI_RSDP_ADDR, boot.acpi_rsdp.value);
  put<std::uint16_t>(page, VID_MODE, VID_MODE_NORMAL);
  put<std::uint8_t>(page, TYPE_OF_LOADER, LOADER_UNDEFINED);
  put<std::uint32_t>(page, CODE32_START, static_cast<std::uint32_t>(where.kernel.value));
  put<std::uint32_t>(page, RAMDISK_IMAGE, static_cast<std::uint32_t>(where.initrd.value));
  put<std::uint32_t>(page, RAMDISK_SIZE, static_cast<std::uint32_t>(where.initrd_bytes));
  put<std::uint32_t>(page, CMD_LINE_PTR, low_memory::CMDLINE);
  put<std::uint64_t>(page, SETUP_DATA, low_memory::SETUP_DATA);

  if (boot.e820.size() > E820_MAX_ENTRIES) return Error("memory map has too many entries");
  put<std::uint8_t>(page, E820_ENTRIES, static_cast<std::uint8_t>(boot.e820.size()));
  for (std::size_t i = 0; i < boot.e820.size(); ++i) put(page, E820_TABLE + i * sizeof(E820Entry), boot.e820[i]);

  if (!memory.write_value(GuestPhys{low_memory::BOOT_PARAMS}, page)) return Error("no RAM for the zero page");
  return {};
}

Result<BzImage> read_header(const InputFile& kernel) {
  std::array<std::byte, 0x1000> head{};
  TRY(const std::size_t got, kernel.read(0, head));
  return parse_bzimage(std::span(head).first(got), kernel.size_bytes());
}

Result<void> load_kernel(machine::GuestMemory& memory, const InputFile& file, const BzImage& image,
                         std::uint64_t ram_end, BootEntry& where) {
  TRY(const std::uint64_t address, place_kernel(image, ram_end));
  where.kernel = GuestPhys{address};
  where.kernel_bytes = image.payload_bytes;
  where.entry = where.kernel + (image.entry64 ? ENTRY_64 : ENTRY_32);
  return file.copy_to(memory, where.kernel, image.payload_offset, image.payload_bytes);
}

Result<void> load_initrd(machine::GuestMemory& memory, const InputFile& file, const BzImage& image,
                         std::uint64_t ram_end, BootEntry& where) {
  if (file.size_bytes() == 0) return Error("it is empty");
  TRY(const std::uint64_t address, place_initrd(image, where.kernel.value, file.size_bytes(), ram_end));
  where.initrd = GuestPhys{address};
  where.initrd_bytes = file.size_bytes();
  return file.copy_to(memory, where.initrd, 0, where.initrd_bytes);
}

}  // namespace

Result<LinuxFiles> LinuxFiles::open(const LinuxBoot& boot) {
  auto kernel = InputFile::open(boot.kernel);
  if (!kernel) return std::move(kernel).error().context("kernel " + boot.kernel);
  LinuxFiles files{std::move(kernel).value(), std::nullopt, {}};
  for (const BootModule& module : boot.modules) {
    auto file = InputFile::open(module.path);
    if (!file) return std::move(file).error().context("module " + module.path);
    files.modules.push_back(std::move(file).value());
  }
  if (boot.initrd.empty()) return files;
  auto initrd = InputFile::open(boot.initrd);
  if (!initrd) return std::move(initrd).error().context("initrd " + boot.initrd);
  files.initrd = std::move(initrd).value();
  return files;
}

Result<BootEntry> load_linux(machine::GuestMemory& memory, const LinuxBoot& boot, cpu::ArchState& state) {
  TRY(const LinuxFiles files, LinuxFiles::open(boot));
  return load_linux(memory, boot, files, state);
}

Result<BootEntry> load_linux(machine::GuestMemory& memory, const LinuxBoot& boot, const LinuxFiles& files,
                             cpu::ArchState& state) {
  if (kernel_kind(files.kernel) == KernelKind::Elf32) return load_kernel32(memory, boot, files, state);
  if (!boot.modules.empty()) return Error("--module is for PVH and multiboot kernels; Linux takes one --initrd");
  const auto kernel_context = [&](Error error) { return std::move(error).context("kernel " + boot.kernel); };
  auto image = read_header(files.kernel);
  if (!image) return kernel_context(std::move(image).error());
  image.value().entry64 = image.value().entry64 && boot.long_mode;

  BootEntry where;
  const std::uint64_t ram_end = extended_ram_end(boot.e820);
  if (auto loaded = load_kernel(memory, files.kernel, image.value(), ram_end, where); !loaded)
    return kernel_context(std::move(loaded).error());
  if (files.initrd)
    if (auto loaded = load_initrd(memory, *files.initrd, image.value(), ram_end, where); !loaded)
      return std::move(loaded).error().context("initrd " + boot.initrd);

  TRY_VOID(write_cmdline(memory, boot.cmdline, image.value()));
  TRY_VOID(write_rng_seed(memory, boot.random_seed));
  TRY_VOID(write_zero_page(memory, boot, image.value(), where));
  const GuestPhys boot_params{low_memory::BOOT_PARAMS};
  const bool entered = image.value().entry64 ? enter_long_mode(memory, where.entry, boot_params, state)
                                             : enter_protected_mode(memory, where.entry, boot_params, state);
  if (!entered) return Error("no RAM for the boot processor's tables");
  return where;
}

}  // namespace veneer::boot
