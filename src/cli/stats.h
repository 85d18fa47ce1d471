// Statistics of a run as JSON (--stats FILE).
#pragma once

#include <chrono>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "vm/machine.h"

namespace veneer::cli {

/// The statistics of a machine that has ended.
std::string format_stats(vm::Machine& machine, const vm::MachineExit& exit, std::chrono::duration<double> run_time,
                         std::chrono::nanoseconds process_start);

/// Opens (and empties) the file before the guest runs: later the sandbox opens none.
Result<Fd> open_stats(const std::string& path);
/// `path` is for the message.
Result<void> write_stats(const Fd& file, const std::string& path, const std::string& text);

/// A JSON string with its quotes (RFC 8259 7).
std::string json_string(const std::string& text);

}  // namespace veneer::cli
