// What `veneer image ...` was asked to do.
#pragma once

#include <string>

#include "cli/disk/disk_options.h"
#include "image/debian.h"

namespace veneer::cli {

struct ImageBuild {
  image::DebianOptions debian;
  std::string output;
  disk::Format format = disk::Format::Qcow2;
  bool replace = false;
  bool verbose = false;  ///< show all that the programs print
};

}  // namespace veneer::cli
