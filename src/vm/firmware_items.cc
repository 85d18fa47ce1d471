// Config to fw_cfg items and CMOS bytes.
#include "vm/firmware_items.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>

#include "boot/e820.h"
#include "boot/input_file.h"
#include "devices/acpi/acpi_tables.h"
#include "vm/acpi_platform.h"
#include "vm/layout.h"
#include "vm/smbios_platform.h"

namespace veneer::vm {
namespace {

using devices::FwCfg;

/// SeaBIOS' VGA BIOS for the Bochs display, in its Debian package. It is looked for under the PCI id of the display.
constexpr const char* vga_rom_path = "/usr/share/seabios/vgabios-stdvga.bin";
constexpr const char* vga_rom_file = "pci1234,1111.rom";
constexpr std::uint64_t largest_option_rom = 256 * KiB;

FwCfg::Bytes text(std::string_view value) {
  const auto bytes = std::as_bytes(std::span(value));
  FwCfg::Bytes out(bytes.begin(), bytes.end());
  out.push_back(std::byte{0});
  return out;
}

FwCfg::Bytes e820(std::uint64_t memory_bytes) {
  std::vector<boot::E820Entry> map = {{0, layout::ram_below_4g(memory_bytes), boot::E820Type::Ram}};
  if (const std::uint64_t high = layout::ram_above_4g(memory_bytes))
    map.push_back({layout::ABOVE_4G_BASE, high, boot::E820Type::Ram});
  const auto bytes = std::as_bytes(std::span(map));
  return {bytes.begin(), bytes.end()};
}

Result<FwCfg::Bytes> read_option_rom(const char* path) {
  auto file = boot::InputFile::open(path);
  if (!file) return std::move(file).error().context(path);
  if (file.value().size_bytes() > largest_option_rom) return Error("it is larger than option ROMs are").context(path);
  FwCfg::Bytes bytes(file.value().size_bytes());
  TRY(const std::size_t got, file.value().read(0, bytes));
  bytes.resize(got);
  return bytes;
}

}  // namespace

void add_machine_items(const MachineConfig& config, FwCfg& fw_cfg) {
  fw_cfg.add_value(FwCfg::RAM_SIZE, layout::ram_below_4g(config.memory_bytes));
  fw_cfg.add_value(FwCfg::CPU_COUNT, static_cast<std::uint16_t>(config.cpus));
  fw_cfg.add_value(FwCfg::MAX_CPUS, static_cast<std::uint16_t>(config.cpus));
}

Result<void> add_firmware_items(const MachineConfig& config, const BootPaths& boot, FwCfg& fw_cfg) {
  fw_cfg.add_value(FwCfg::BOOT_MENU, static_cast<std::uint16_t>(config.boot_menu));
  fw_cfg.add_file("etc/e820", e820(config.memory_bytes));
  fw_cfg.add_file_value("etc/max-cpus", static_cast<std::uint16_t>(config.cpus));
  // S3 and S4 are not here (bit 7 would say supported), S5 is; four bytes for S0 to S3, then S4's and S5's types.
  fw_cfg.add_file("etc/system-states", FwCfg::Bytes(6));
  fw_cfg.add_file_value("etc/boot-fail-wait", std::uint32_t{0xffff'ffff});
  if (config.boot_menu) {
    fw_cfg.add_file_value("etc/show-boot-menu", std::uint16_t{1});
    fw_cfg.add_file_value("etc/boot-menu-wait", std::uint32_t{10'000});
  }
  std::string order;
  for (const std::string& path : boot) order += (order.empty() ? "" : "\n") + path;
  if (!order.empty()) fw_cfg.add_file("bootorder", text(order));
  if (config.firmware.kind == Firmware::Kind::SeaBios) {
    fw_cfg.add_file_value("etc/sercon-port", static_cast<std::uint16_t>(layout::COM1_PORT));
    auto rom = read_option_rom(vga_rom_path);
    if (!rom) return std::move(rom).error().context("the display's BIOS (Debian's package seabios has it)");
    fw_cfg.add_file(vga_rom_file, std::move(rom).value());
  }
  return {};
}

void add_acpi_items(const MachineConfig& config, std::uint16_t pm_port, FwCfg& fw_cfg) {
  devices::AcpiPlatform platform = describe_platform(config);
  platform.pm_port = pm_port;
  devices::AcpiFiles files = devices::build_acpi_files(platform);
  fw_cfg.add_file(devices::acpi_rsdp_file, std::move(files.rsdp));
  fw_cfg.add_file(devices::acpi_tables_file, std::move(files.tables));
  fw_cfg.add_file(devices::acpi_loader_file, std::move(files.loader));
}

void add_smbios_items(const MachineConfig& config, const cpu::CpuidPolicy& cpuid, FwCfg& fw_cfg) {
  devices::SmbiosTables smbios = devices::build_smbios(describe_to_smbios(config, cpuid), GuestPhys{0});
  fw_cfg.add_file(devices::smbios_anchor_file, std::move(smbios.anchor));
  fw_cfg.add_file(devices::smbios_tables_file, std::move(smbios.tables));
}

void fill_cmos(const MachineConfig& config, devices::RtcCmos& rtc) {
  const auto put16 = [&](std::uint8_t index, std::uint64_t value) {
    const std::uint64_t limited = std::min<std::uint64_t>(value, 0xffff);
    rtc.set_cmos(index, static_cast<std::uint8_t>(limited));
    rtc.set_cmos(static_cast<std::uint8_t>(index + 1), static_cast<std::uint8_t>(limited >> 8));
  };
  const std::uint64_t low = layout::ram_below_4g(config.memory_bytes);
  const std::uint64_t high = layout::ram_above_4g(config.memory_bytes) / (64 * KiB);
  put16(0x15, 640);  // KiB of base memory (IBM AT Technical Reference)
  const std::uint64_t extended_kib = low / KiB - 1024;
  put16(0x17, extended_kib);                                        // KiB above 1 MiB
  put16(0x30, extended_kib);                                        // the same, as the power-on test found it
  put16(0x34, low > 16 * MiB ? (low - 16 * MiB) / (64 * KiB) : 0);  // 64 KiB blocks above 16 MiB (Bochs, QEMU)
  rtc.set_cmos(0x5b, static_cast<std::uint8_t>(high));              // 64 KiB blocks above 4 GiB
  rtc.set_cmos(0x5c, static_cast<std::uint8_t>(high >> 8));
  rtc.set_cmos(0x5d, static_cast<std::uint8_t>(high >> 16));
  rtc.set_cmos(0x14, 0x06);  // equipment: FPU, mouse
  rtc.set_cmos(0x5f, static_cast<std::uint8_t>(config.cpus - 1));
  rtc.set_cmos(0x38, 0x31);  // third boot device: network; no signature check of floppies
  rtc.set_cmos(0x3d, config.boot_order == BootOrder::Cdrom ? 0x23 : 0x32);  // first and second: disk, CD-ROM
}

}  // namespace veneer::vm
