// Files that a machine writes into: its process opens none, so they are made here, with the rights of who asks.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "host/run_directory.h"

namespace veneer::cli {

/// `command` is "save" or "screenshot". The file gets its name when it is whole.
Result<void> fetch_file(const host::RunningMachine& machine, const std::string& command, const std::string& path);

/// The same for a line at the monitor's prompt, such as "screenshot FILE". Nothing for all other lines.
std::optional<Result<void>> fetch_by_line(const host::RunningMachine& machine, const std::string& line);

}  // namespace veneer::cli
