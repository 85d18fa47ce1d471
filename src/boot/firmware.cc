// Loading a firmware image into ROM.
#include "boot/firmware.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <span>
#include <system_error>

#include "boot/input_file.h"

namespace veneer::boot {
namespace {

constexpr std::uint64_t low_bios_bytes = 128 * KiB;  // E0000h to FFFFFh

}  // namespace

GuestPhys firmware_base(std::uint64_t size_bytes) { return GuestPhys{4 * GiB - size_bytes}; }

Result<void> load_firmware(machine::GuestMemory& memory, machine::MemorySlot& low, const std::string& path) {
  TRY(const InputFile file, InputFile::open(path));
  const std::uint64_t size = file.size_bytes();
  if (size < firmware_min_bytes || size > firmware_max_bytes || size % page_size != 0)
    return Error(fmt::format("{} bytes are no firmware image: those have whole pages, {} KiB to {} MiB", size,
                             firmware_min_bytes / KiB, firmware_max_bytes / MiB));
  TRY(machine::MemorySlot* const rom, memory.add("firmware", firmware_base(size), size, machine::SlotKind::Rom));
  TRY(const std::size_t got, file.read(0, std::span(reinterpret_cast<std::byte*>(rom->host), size)));
  if (got != size) return Error("the file was cut short while it was read");

  std::memset(low.host, 0xff, low.size_bytes);
  const std::uint64_t alias = std::min(size, low_bios_bytes);
  std::memcpy(low.host + low.size_bytes - alias, rom->host + size - alias, alias);
  return {};
}

Result<machine::MemorySlot*> load_flash(machine::GuestMemory& memory, GuestPhys above, const std::string& path) {
  TRY(const InputFile file, InputFile::open(path));
  const std::uint64_t size = file.size_bytes();
  if (size == 0 || size > firmware_max_bytes || size % page_size != 0)
    return Error(fmt::format("{} bytes are no flash chip: those have whole pages, up to {} MiB", size,
                             firmware_max_bytes / MiB));
  TRY(machine::MemorySlot* const flash, memory.add_switched("flash", GuestPhys{above.value - size}, size));
  TRY(const std::size_t got, file.read(0, std::span(reinterpret_cast<std::byte*>(flash->host), size)));
  if (got != size) return Error("the file was cut short while it was read");
  return flash;
}

Result<void> check_firmware_name(const std::string& path) {
  std::error_code ignored;
  const std::string name = std::filesystem::weakly_canonical(path, ignored).filename().string();
  if (name.find("secboot") == std::string::npos && name.find("snakeoil") == std::string::npos) return {};
  return Error(
      "this build is for Secure Boot, which needs System Management Mode, and that is not in this version: it "
      "would stand still before its first word. Use --firmware ovmf, or OVMF_CODE_4M.fd");
}

}  // namespace veneer::boot
