// The supervisor: forks the worker again and again, so that an engine that crashes is a result like any other.
#pragma once

#include "options.h"

namespace veneer::fuzz {

/// The whole run; gives the exit status: 0 all alike, 1 something differed, 2 the host failed.
int supervise(const Options& options);

}  // namespace veneer::fuzz
