// Running programs of the host: one, or several joined by pipes, with their output read line by line.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace veneer::image {

struct Command {
  std::vector<std::string> argv;         ///< found in PATH, /usr/sbin and /sbin
  std::vector<std::string> environment;  ///< "NAME=value", beside what this process has
};

struct CommandWatch {
  std::function<void(std::string_view line)> line;  ///< standard error of all, standard output of the last
  std::function<bool()> cancelled;                  ///< asked about ten times a second
};

/// Runs them at the same time, each one's output the next one's input; the first one's input is `input`. They form a
/// process group of their own (Ctrl-C reaches this process only) and are ended with it.
///
/// Cancelled: they get SIGTERM, and SIGKILL when that does not end them in 20 seconds; an error with ECANCELED. When
/// one of them fails: an error with its name and the last lines.
Result<void> run_commands(const std::vector<Command>& commands, std::string_view input, const CommandWatch& watch);

/// Runs one program and answers with what it prints.
Result<std::string> output_of(const std::vector<std::string>& argv);

/// The path of a program, or "".
std::string find_program(std::string_view name);

}  // namespace veneer::image
