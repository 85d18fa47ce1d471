// The flags of `veneer image ...`.
#pragma once

#include <optional>

#include "cli/image/image_options.h"

namespace CLI {
class App;
}

namespace veneer::cli {

/// Adds the command; `chosen` is set when it was given.
void add_image_command(CLI::App& app, std::optional<ImageBuild>& chosen);

}  // namespace veneer::cli
