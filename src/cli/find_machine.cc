// Finding machines by name.
#include "cli/find_machine.h"

#include <fmt/format.h>

#include <cstdio>

namespace veneer::cli {

int complain(const Error& error) {
  fmt::print(stderr, "veneer: {}\n", error.message());
  return 1;
}

Result<std::vector<host::RunningMachine>> find_machines_and_tell() {
  TRY(host::Machines machines, host::find_machines());
  for (const host::DeadMachine& dead : machines.dead) {
    if (dead.last_words.empty()) continue;
    fmt::print(stderr, "veneer: machine \"{}\" is dead; its last words:\n{}{}", dead.name, dead.last_words,
               dead.last_words.ends_with('\n') ? "" : "\n");
  }
  return std::move(machines.running);
}

Result<host::RunningMachine> find_machine(const std::string& name) {
  TRY(const std::vector<host::RunningMachine> machines, find_machines_and_tell());
  std::string names;
  for (const host::RunningMachine& machine : machines) {
    if (machine.name == name) return machine;
    names += (names.empty() ? "" : ", ") + machine.name;
  }
  return Error(fmt::format("no machine named \"{}\" is running ({})", name.substr(0, 60),
                           names.empty() ? "none is: veneer run starts one" : "these are: " + names));
}

}  // namespace veneer::cli
