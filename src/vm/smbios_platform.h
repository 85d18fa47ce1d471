// What SMBIOS says of a machine, from its config.
#pragma once

#include "cpu/cpuid.h"
#include "devices/firmware/smbios.h"
#include "vm/config.h"

namespace veneer::vm {

/// The UUID follows from the machine's name: the same each time, and another for each machine.
devices::SmbiosPlatform describe_to_smbios(const MachineConfig& config, const cpu::CpuidPolicy& cpuid);

}  // namespace veneer::vm
