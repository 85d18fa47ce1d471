// The veneer command: checks the host, then hands over to the subcommand.
#include <fmt/format.h>

#include <cstdio>
#include <variant>

#include "cli/client_commands.h"
#include "cli/disk/disk.h"
#include "cli/doctor/doctor.h"
#include "cli/host_check.h"
#include "cli/image/image.h"
#include "cli/options.h"
#include "cli/run.h"

int main(int argc, char** argv) {
  using namespace veneer::cli;
  const Parsed parsed = parse_command_line(argc, argv);
  if (const auto* done = std::get_if<ParsedExit>(&parsed)) return done->status;
  if (const auto* options = std::get_if<DoctorOptions>(&parsed)) return run_doctor(*options);
  if (const auto* options = std::get_if<DiskOptions>(&parsed)) return run_disk(*options);
  if (const auto* options = std::get_if<ImageBuild>(&parsed)) return run_image(*options);
  if (const auto* options = std::get_if<ClientOptions>(&parsed)) return run_client(*options);
  if (const auto problem = host_problem()) {
    fmt::print(stderr, "veneer: {}\n", *problem);
    return 1;
  }
  return run_machine(std::get<RunOptions>(parsed));
}
