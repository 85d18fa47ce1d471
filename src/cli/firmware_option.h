// The value of --firmware: which firmware, and where its settings are kept.
#pragma once

#include <string>

#include "base/result.h"
#include "vm/config.h"

namespace veneer::cli {

/// seabios, ovmf or a path, then key=value words.
Result<vm::Firmware> parse_firmware(const std::string& text);

/// Where UEFI settings go that nothing was said of: beside the first disk that keeps what the guest writes. None:
/// they are lost at the end.
void place_variables(vm::MachineConfig& config);

}  // namespace veneer::cli
