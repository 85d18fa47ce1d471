// One case: a fresh board, and some thousand steps of hostile drivers.
#pragma once

#include "bench.h"
#include "choices.h"

namespace veneer::devices_fuzz {

/// Ends the process when a promise is broken: an access that does not end, memory that grows.
void run_case(const DriveFiles& files, Choices& choices, unsigned steps);

/// Prints every step before it is done: to see what a case does.
void set_verbose(bool verbose);

}  // namespace veneer::devices_fuzz
