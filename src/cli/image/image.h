// `veneer image ...`: builds disks with systems on them.
#pragma once

#include "cli/image/image_options.h"

namespace veneer::cli {

/// Does it, prints what there is to say; the exit status.
int run_image(const ImageBuild& options);

}  // namespace veneer::cli
