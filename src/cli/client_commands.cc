// ps, stop, kill, monitor, screenshot, sendkey and type: clients of the control socket.
#include "cli/client_commands.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "cli/fetch_file.h"
#include "cli/find_machine.h"
#include "cli/monitor.h"
#include "cli/options.h"
#include "cli/size.h"
#include "host/control_client.h"

namespace veneer::cli {
namespace {

using host::ControlClient;
using host::RunningMachine;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds glance{2000};      // for ps: a machine that is starting up or stuck does not hold up the list
constexpr milliseconds patience{10'000};  // for a request that may have to pause the machine
constexpr milliseconds look_again{20};
constexpr milliseconds press_again{5000};

/// One line of ps; "starting" and nothing else for a machine that listens but does not answer.
json status_of(const RunningMachine& machine) {
  json row = {{"name", machine.name}, {"pid", machine.pid}, {"state", "not answering"}};
  auto client = ControlClient::connect(machine);
  if (!client) return row;
  auto reply = client.value().ask({{"command", "status"}}, glance);
  if (!reply) return row;
  row.update(reply.value());
  row.erase("ok");
  return row;
}

std::string uptime_text(double uptime_seconds) {
  const auto total = static_cast<std::uint64_t>(uptime_seconds);
  if (total < 60) return fmt::format("{}s", total);
  if (total < 3600) return fmt::format("{}m{:02}s", total / 60, total % 60);
  if (total < 86400) return fmt::format("{}h{:02}m", total / 3600, total / 60 % 60);
  return fmt::format("{}d{:02}h", total / 86400, total / 3600 % 24);
}

void print_table(const json& rows) {
  std::size_t width = 4;
  for (const json& row : rows) width = std::max(width, row["name"].get_ref<const std::string&>().size());
  fmt::print("{:<{}}  {:>7}  {:<8}  {:>7}  {:>4}  {:>9}  {:>9}  {:>8}\n", "NAME", width, "PID", "STATE", "UPTIME",
             "CPUS", "MEMORY", "RESIDENT", "CPU TIME");
  for (const json& row : rows) {
    fmt::print("{:<{}}  {:>7}  ", row["name"].get<std::string>(), width, row["pid"].get<int>());
    if (!row.contains("uptime_seconds")) {
      fmt::print("{}\n", row["state"].get<std::string>());
      continue;
    }
    fmt::print("{:<8}  {:>7}  {:>4}  {:>9}  {:>9}  {:>7.2f}s\n", row["state"].get<std::string>(),
               uptime_text(row["uptime_seconds"].get<double>()), row["cpus"].get<unsigned>(),
               format_size(row["memory_bytes"].get<std::uint64_t>()),
               fmt::format("{} MiB", row["resident_bytes"].get<std::uint64_t>() / MiB),
               row["cpu_seconds"].get<double>());
  }
}

int list(bool as_json) {
  auto machines = find_machines_and_tell();
  if (!machines) return complain(machines.error());
  json rows = json::array();
  for (const RunningMachine& machine : machines.value()) rows.push_back(status_of(machine));
  if (as_json)
    fmt::print("{}\n", rows.dump(2));
  else if (rows.empty())
    fmt::print("no machines are running\n");
  else
    print_table(rows);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

/// True when the machine has ended within the limit.
bool wait_for_end(const RunningMachine& machine, milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!host::has_ended(machine)) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(look_again);
  }
  return true;
}

int stop(const RunningMachine& machine, unsigned timeout_seconds) {
  auto client = ControlClient::connect(machine);
  if (!client) return complain(client.error());
  if (auto reply = client.value().ask({{"command", "status"}}, patience); !reply)
    return complain(reply.error());
  else if (reply.value().value("state", std::string()) == "paused")
    return complain(
        Error(fmt::format("machine \"{0}\" is paused, so its guest cannot shut down: veneer monitor {0} resume "
                          "lets it go on, veneer kill {0} ends it at once",
                          machine.name)));
  // Again and again: a guest that is still booting hears the button only once it listens.
  const auto deadline = std::chrono::steady_clock::now() + seconds(timeout_seconds);
  for (;;) {
    if (auto reply = client.value().ask({{"command", "powerdown"}}, patience); !reply && !host::has_ended(machine))
      return complain(reply.error());
    const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    if (wait_for_end(machine, std::min<milliseconds>(left, press_again))) break;
    if (std::chrono::steady_clock::now() < deadline) continue;
    return complain(Error(fmt::format(
        "machine \"{0}\" still runs {1} s after its power button was pressed: the guest may ignore it or need longer "
        "(--timeout SECONDS). veneer kill {0} pulls the plug",
        machine.name, timeout_seconds)));
  }
  fmt::print("{} has shut down\n", machine.name);
  return 0;
}

int kill(const RunningMachine& machine) {
  bool asked = false;
  if (auto client = ControlClient::connect(machine))
    asked = client.value().ask({{"command", "kill"}}, patience).ok() || host::has_ended(machine);
  if (!asked || !wait_for_end(machine, patience)) {
    ::kill(machine.pid, SIGKILL);
    if (!wait_for_end(machine, patience))
      return complain(Error(fmt::format("process {} of machine \"{}\" does not end", machine.pid, machine.name)));
    fmt::print("{} did not answer; its process was killed\n", machine.name);
    return 0;
  }
  fmt::print("{} has been ended\n", machine.name);
  return 0;
}

Result<nlohmann::json> ask_once(const RunningMachine& machine, const nlohmann::json& request) {
  auto client = ControlClient::connect(machine);
  if (!client) return std::move(client).error();
  return client.value().ask(request, patience);
}

/// With `stop` it stands still from before the saving until its end, which comes when the file has its name.
int save(const RunningMachine& machine, const std::string& path, bool stop) {
  bool was_paused = false;
  if (stop) {
    const auto status = ask_once(machine, {{"command", "status"}});
    if (!status) return complain(status.error());
    was_paused = status.value().value("state", std::string()) == "paused";
    if (auto paused = ask_once(machine, {{"command", "monitor"}, {"line", "pause"}}); !paused)
      return complain(paused.error());
  }
  if (auto written = fetch_file(machine, "save", path); !written) {
    if (stop && !was_paused) static_cast<void>(ask_once(machine, {{"command", "monitor"}, {"line", "resume"}}));
    return complain(written.error());
  }
  return stop ? kill(machine) : 0;
}

/// One line for the monitor. False when the machine is gone.
bool monitor_line(const RunningMachine& machine, const std::string& line) {
  if (const auto fetched = fetch_by_line(machine, line)) {
    if (!*fetched) complain(fetched->error());
    return fetched->ok();
  }
  auto client = ControlClient::connect(machine);
  if (!client) {
    complain(client.error());
    return false;
  }
  auto reply = client.value().ask({{"command", "monitor"}, {"line", line}}, patience);
  if (!reply) {
    complain(reply.error());
    return false;
  }
  std::fputs(reply.value().value("output", std::string()).c_str(), stdout);
  return std::fflush(stdout) == 0;
}

/// A monitor command that says nothing when all is well.
int tell(const RunningMachine& machine, const std::string& line) {
  const auto reply = ask_once(machine, {{"command", "monitor"}, {"line", line}});
  if (!reply) return complain(reply.error());
  std::string trouble = reply.value().value("output", std::string());
  if (trouble.empty()) return 0;
  trouble.erase(trouble.find_last_not_of('\n') + 1);
  return complain(Error(trouble));
}

/// What `type` at the monitor's prompt takes for this text.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char character : text) {
    if (character == '\n')
      out += "\\n";
    else if (character == '\t')
      out += "\\t";
    else
      out += character;
  }
  return out;
}

int monitor(const RunningMachine& machine, const std::vector<std::string>& words) {
  if (!words.empty()) return monitor_line(machine, fmt::format("{}", fmt::join(words, " "))) ? 0 : 1;
  const bool person = ::isatty(STDIN_FILENO) != 0;
  if (person) fmt::print("The monitor of machine \"{}\". help lists the commands, Ctrl-D leaves.\n", machine.name);
  std::string line;
  for (;;) {
    if (person) fmt::print("{}", Monitor::prompt);
    std::fflush(stdout);
    if (!std::getline(std::cin, line)) break;
    if (!monitor_line(machine, line)) return 1;
  }
  if (person) fmt::print("\n");
  return 0;
}

}  // namespace

int run_client(const ClientOptions& options) {
  if (options.command == ClientOptions::Command::List) return list(options.json);
  auto machine = find_machine(options.name);
  if (!machine) return complain(machine.error());
  switch (options.command) {
    case ClientOptions::Command::Stop:
      return stop(machine.value(), options.timeout_seconds);
    case ClientOptions::Command::Kill:
      return kill(machine.value());
    case ClientOptions::Command::Monitor:
      return monitor(machine.value(), options.words);
    case ClientOptions::Command::Save:
      return save(machine.value(), options.file, options.stop);
    case ClientOptions::Command::Screenshot: {
      const auto fetched = fetch_file(machine.value(), "screenshot", options.file);
      return fetched ? 0 : complain(fetched.error());
    }
    case ClientOptions::Command::SendKey:
      return tell(machine.value(), fmt::format("sendkey {}", fmt::join(options.words, " ")));
    case ClientOptions::Command::Type:
      return tell(machine.value(), fmt::format("type {}", escaped(fmt::format("{}", fmt::join(options.words, " ")))));
    case ClientOptions::Command::Attach:
      return run_attach(options);
    case ClientOptions::Command::List:
      break;
  }
  return 1;
}

}  // namespace veneer::cli
