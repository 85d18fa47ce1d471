// What ACPI tells of a machine, taken from the floor plan (vm/layout.h) and the config.
#pragma once

#include "devices/acpi/acpi_tables.h"
#include "vm/config.h"

namespace veneer::vm {

devices::AcpiPlatform describe_platform(const MachineConfig& config);

}  // namespace veneer::vm
