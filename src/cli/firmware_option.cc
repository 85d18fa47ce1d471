// Parsing --firmware.
#include "cli/firmware_option.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <string_view>
#include <utility>

#include "cli/comma_list.h"

namespace veneer::cli {
namespace {

using vm::Firmware;

constexpr std::string_view vars_key = "vars=";
constexpr std::string_view no_file = "none";
/// Images of UEFI firmware come in two parts, for two flash chips: NAME_CODE... and NAME_VARS... beside it.
constexpr std::string_view code_part = "_CODE", variables_part = "_VARS";

/// The image of the other chip, or nothing where the name says nothing of one.
std::string variables_beside(const std::string& path) {
  const std::size_t name = path.rfind('/') + 1;  // npos + 1 is 0
  const std::size_t at = path.find(code_part, name);
  if (at == std::string::npos) return {};
  return std::string(path).replace(at, code_part.size(), variables_part);
}

Firmware by_path(const std::string& path) {
  Firmware firmware;
  firmware.path = path;
  firmware.variables_image = variables_beside(path);
  firmware.kind = firmware.variables_image.empty() ? Firmware::Kind::SeaBios : Firmware::Kind::Ovmf;
  return firmware;
}

}  // namespace

Result<Firmware> parse_firmware(const std::string& text) {
  const std::vector<std::string> words = split_at_commas(text);
  const std::string& name = words.front();
  Firmware firmware;
  if (name == "seabios")
    firmware = by_path("/usr/share/seabios/bios-256k.bin");
  else if (name == "ovmf")
    firmware = by_path("/usr/share/OVMF/OVMF_CODE_4M.fd");
  else if (name.find('/') != std::string::npos || name.find('.') != std::string::npos)
    firmware = by_path(name);
  else
    return Error(
        fmt::format("\"{}\" is no firmware (known: seabios, ovmf, or the path of an image with a / or . in it)", name));
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (!words[i].starts_with(vars_key))
      return Error(fmt::format("\"{}\" is not known there (known: vars=FILE, vars=none)", words[i]));
    if (firmware.variables_image.empty())
      return Error(
          fmt::format("{} has no settings to keep: vars goes with ovmf, and with images called ..._CODE...", name));
    firmware.variables = words[i].substr(vars_key.size());
    if (firmware.variables.empty()) return Error("vars lacks its file");
    firmware.variables_chosen = true;
    if (firmware.variables == no_file) firmware.variables.clear();
  }
  return firmware;
}

void place_variables(vm::MachineConfig& config) {
  Firmware& firmware = config.firmware;
  if (firmware.variables_image.empty() || std::exchange(firmware.variables_chosen, true)) return;
  for (const vm::DiskConfig& disk : config.disks) {
    struct stat info {};
    if (disk.cdrom || disk.snapshot || disk.open.read_only) continue;
    if (::stat(disk.path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;  // a device, a server
    firmware.variables = disk.path + ".nvram";
    return;
  }
}

}  // namespace veneer::cli
