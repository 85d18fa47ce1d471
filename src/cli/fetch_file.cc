// Making a file, handing its descriptor to the machine, naming it.
#include "cli/fetch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <utility>

#include "host/control_client.h"

namespace veneer::cli {
namespace {

constexpr std::chrono::milliseconds patience{600'000};  // a large memory on a slow disk

/// The mode that a new file would have; the whole memory of a guest is for its owner only.
void open_to_others(int fd) {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(fd, 0666 & ~mask);
}

}  // namespace

Result<void> fetch_file(const host::RunningMachine& machine, const std::string& command, const std::string& path) {
  std::string temporary = path + ".XXXXXX";
  const Fd file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file.valid()) return Error::from_errno("making a file beside " + path, errno);
  if (command != "save") open_to_others(file.get());
  auto client = host::ControlClient::connect(machine);
  Result<nlohmann::json> reply = client ? client.value().ask({{"command", command}}, patience, file.get())
                                        : Result<nlohmann::json>(client.error());
  if (reply && ::rename(temporary.c_str(), path.c_str()) == 0) return {};
  Error error = reply ? Error::from_errno("naming the file " + path, errno)
                      : std::move(reply).error().context((command == "save" ? "saving machine \"" : "a picture of \"") +
                                                         machine.name + "\"");
  ::unlink(temporary.c_str());
  return error;
}

std::optional<Result<void>> fetch_by_line(const host::RunningMachine& machine, const std::string& line) {
  for (const std::string command : {"save", "screenshot"})
    if (line.starts_with(command + " ") && line.size() > command.size() + 1)
      return fetch_file(machine, command, line.substr(command.size() + 1));
  return std::nullopt;
}

}  // namespace veneer::cli
