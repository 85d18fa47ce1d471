// Which ROM a network card gets.
#include "vm/boot_rom.h"

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "base/units.h"
#include "boot/input_file.h"
#include "devices/pci/option_rom.h"

namespace veneer::vm {
namespace {

constexpr const char* rom_folder = "/usr/lib/ipxe/qemu/";
constexpr std::uint64_t largest_rom = 1 * MiB;

/// OVMF has a driver for virtio and a PXE client; for other cards it runs a driver from their ROM.
bool driven_by_firmware(const MachineConfig& config, const NetConfig& net) {
  return config.firmware.kind == Firmware::Kind::Ovmf && net.model == CardModel::Virtio;
}

/// SeaBIOS runs images for a BIOS; the larger files have one for UEFI as well.
std::string usual_rom(const MachineConfig& config, const NetConfig& net) {
  return fmt::format("{}{}-{}.rom", rom_folder, config.firmware.kind == Firmware::Kind::Ovmf ? "efi" : "pxe",
                     net.model == CardModel::E1000 ? "e1000" : "virtio");
}

Result<std::vector<std::byte>> read_rom(const std::string& path) {
  TRY(auto file, boot::InputFile::open(path));
  if (file.size_bytes() > largest_rom)
    return Error(fmt::format("it has {} bytes, more than a network card's ROM", file.size_bytes()));
  std::vector<std::byte> bytes(file.size_bytes());
  TRY(const std::size_t got, file.read(0, bytes));
  bytes.resize(got);
  TRY_VOID(devices::check_option_rom(bytes));
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> read_boot_rom(const MachineConfig& config, const NetConfig& net) {
  using Bytes = std::vector<std::byte>;
  if (!config.firmware.present() || net.boot_rom == "none") return Bytes();
  std::string path = net.boot_rom;
  if (path.empty()) {
    if (driven_by_firmware(config, net)) return Bytes();
    path = usual_rom(config, net);
    std::error_code none;
    if (!std::filesystem::exists(path, none)) {
      if (config.boot_order != BootOrder::Network && net.user.bootfile.empty()) return Bytes();
      return Error(
          fmt::format("there is no {}, the boot ROM of a network card: install Debian's package ipxe-qemu, or name one "
                      "with rom=FILE",
                      path));
    }
  }
  auto rom = read_rom(path);
  if (!rom) return std::move(rom).error().context(fmt::format("boot ROM {}", path));
  return rom;
}

bool boots_from(const MachineConfig& config, const NetConfig& net, bool has_rom) {
  return config.firmware.present() && (has_rom || (driven_by_firmware(config, net) && net.boot_rom != "none"));
}

}  // namespace veneer::vm
