// The command line as plain data: what `veneer run` was asked to do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "cli/disk/disk_options.h"
#include "cli/image/image_options.h"
#include "vm/config.h"

namespace veneer::cli {

/// Where the guest's first serial port leads.
struct SerialTarget {
  enum class Kind : std::uint8_t { Null, Stdio, File, Unix };
  Kind kind = Kind::Stdio;
  std::string path;  ///< for File and Unix
  bool operator==(const SerialTarget&) const = default;
};

/// Where the debugger connects: an IPv4 or IPv6 address in numbers, and a TCP port.
struct TcpAddress {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  bool operator==(const TcpAddress&) const = default;
};

struct RunOptions {
  vm::MachineConfig config;
  SerialTarget serial;
  std::optional<SerialTarget> console;  ///< where a virtio console leads, if there is one
  std::optional<TcpAddress> gdb;
  bool paused = false;  ///< start with the vCPUs stopped, for a debugger
  bool gdb_public = false;
  LogLevel log_level = LogLevel::Info;
  std::string trace;  ///< categories with commas between; empty: none
  std::string stats_file;
  std::string cloud_init;       ///< what a seed is made of (image/cloud_init.h); empty: none
  unsigned hang_seconds = 0;    ///< 0: no watchdog
  unsigned grace_seconds = 30;  ///< how long a guest may take to power off after SIGTERM
  bool detach = false;          ///< run in the background
  bool sandbox = true;
  std::string sandbox_test;  ///< a forbidden call to attempt, for tests (sandbox/test_attempt.h)
};

struct DoctorOptions {
  bool plain = false;  ///< no colours
};

/// A command for machines that run.
struct ClientOptions {
  enum class Command : std::uint8_t { List, Stop, Kill, Attach, Monitor, Save, Screenshot, SendKey, Type };
  Command command = Command::List;
  std::string name;
  std::string file;                ///< for Save and Screenshot
  std::vector<std::string> words;  ///< for Monitor: the command, or none for a prompt; keys; text
  bool json = false;               ///< for List
  unsigned timeout_seconds = 60;   ///< for Stop
  bool stop = false;               ///< for Save: end the machine then
};

/// Nothing to run: what was printed instead (help, the version, a usage error), and the exit status.
struct ParsedExit {
  int status = 0;
};

using Parsed = std::variant<ParsedExit, RunOptions, DoctorOptions, DiskOptions, ImageBuild, ClientOptions>;

/// Parses the command line; prints help, the version and usage errors itself.
Parsed parse_command_line(int argc, const char* const* argv);

/// "stdio", "file:PATH", "unix:PATH", "null" or "none".
Result<SerialTarget> parse_serial(const std::string& text);

/// "tcp:127.0.0.1:1234", "tcp:[::1]:1234", "tcp::1234" (loopback) or ":1234". Host names are refused.
Result<TcpAddress> parse_tcp_address(const std::string& text);

/// True for 127.0.0.0/8 and ::1.
bool is_loopback(const TcpAddress& address);

/// Guest memory from "512M": 4 MiB to 960 GiB, a multiple of 4 KiB. A bare number counts MiB, as everywhere else.
Result<std::uint64_t> parse_memory(const std::string& text);

/// "0.1.0".
const char* version();

}  // namespace veneer::cli
