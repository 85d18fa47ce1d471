// What firmware is told through fw_cfg and CMOS about a machine.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cpu/cpuid.h"
#include "devices/firmware/fw_cfg.h"
#include "devices/legacy/rtc_cmos.h"
#include "vm/config.h"

namespace veneer::vm {

/// Device paths in the order in which firmware is to try them (Open Firmware notation, as QEMU writes them).
using BootPaths = std::vector<std::string>;

/// What any software may ask: memory below 4 GiB, processors.
void add_machine_items(const MachineConfig& config, devices::FwCfg& fw_cfg);

/// Everything else but ACPI. Reads option ROMs; errors are sentences for the user.
Result<void> add_firmware_items(const MachineConfig& config, const BootPaths& boot, devices::FwCfg& fw_cfg);

/// ACPI tables and the script that loads them; `pm_port` is where the guest put the power management registers.
/// Called again when firmware reads them.
void add_acpi_items(const MachineConfig& config, std::uint16_t pm_port, devices::FwCfg& fw_cfg);

/// SMBIOS tables, which firmware places.
void add_smbios_items(const MachineConfig& config, const cpu::CpuidPolicy& cpuid, devices::FwCfg& fw_cfg);

/// Memory sizes, processors and boot order in the places that firmware without fw_cfg looks at.
void fill_cmos(const MachineConfig& config, devices::RtcCmos& rtc);

}  // namespace veneer::vm
