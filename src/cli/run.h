// veneer run: a machine from its options to its exit status.
#pragma once

#include "cli/options.h"

namespace veneer::cli {

/// Runs the machine and returns the exit status of the process.
int run_machine(const RunOptions& options);

}  // namespace veneer::cli
