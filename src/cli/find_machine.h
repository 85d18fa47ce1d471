// Finding the machine that a command names, with errors that say which there are.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "host/run_directory.h"

namespace veneer::cli {

/// Prints "veneer: ..." on standard error; 1.
int complain(const Error& error);

/// Those that run. What dead ones left is removed, and their last words are printed on standard error.
Result<std::vector<host::RunningMachine>> find_machines_and_tell();

/// The one with this name.
Result<host::RunningMachine> find_machine(const std::string& name);

}  // namespace veneer::cli
