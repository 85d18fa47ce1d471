// The flags of `veneer disk ...`.
#pragma once

#include <optional>

#include "cli/disk/disk_options.h"

namespace CLI {
class App;
}

namespace veneer::cli {

/// Adds the command. After parsing, `chosen` says what to do, if it was this command. It must outlive the parsing.
void add_disk_command(CLI::App& app, std::optional<DiskOptions>& chosen);

}  // namespace veneer::cli
