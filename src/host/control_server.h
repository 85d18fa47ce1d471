// The control socket of a machine: JSON lines, and the serial console for those who attach (docs/control.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "host/console_hub.h"

namespace veneer::host {

/// What `status` answers.
struct MachineStatus {
  std::string name;
  std::string state;  ///< "running" or "paused"
  std::string engine;
  std::string machine;  ///< "pc" or "micro"
  unsigned cpus = 0;
  std::uint64_t memory_bytes = 0;    ///< of the guest
  std::uint64_t resident_bytes = 0;  ///< of the whole process, guest memory that is in use included
  double cpu_seconds = 0;            ///< user and system
  double uptime_seconds = 0;
};

/// The machine as its control socket sees it. Called on the thread "_control"; calls may wait a few seconds.
class ControlTarget {
 public:
  virtual ~ControlTarget() = default;
  virtual MachineStatus status() = 0;
  /// A line at the monitor's prompt.
  virtual std::string execute(const std::string& line) = 0;
  virtual void press_power_button() = 0;
  /// Pulls the plug.
  virtual void end() = 0;
  /// Writes the whole machine to an empty file, and lets it go on.
  virtual Result<void> save(const Fd& file) = 0;
  /// Writes what the screen shows to an empty file, as PNG.
  virtual Result<void> screenshot(const Fd& file) = 0;
  /// Takes as many of the bytes as there is room for: typed at an attached console.
  virtual std::size_t type(std::span<const std::uint8_t> bytes) = 0;
};

/// Serves clients of the same user (and root) on one thread. At most `max_clients` at once; more wait.
class ControlServer {
 public:
  static constexpr std::size_t max_clients = 32;
  static constexpr std::size_t longest_request_bytes = 64 * 1024;

  /// Listens; nobody is served before start().
  static Result<std::unique_ptr<ControlServer>> listen(const std::string& path);
  ~ControlServer();

  void start(ControlTarget& target, ConsoleHub& console);
  /// Sends what is queued as far as it goes at once, and closes everything. Not on the server's thread.
  void stop();
  /// There may be something to do: room for typed bytes. Any thread.
  void wake() const;

 private:
  struct Client;
  ControlServer(Fd listener, Fd wake);
  void run();
  void accept_client();
  bool receive(Client& client);
  bool handle_lines(Client& client);
  std::string answer(Client& client, const std::string& line);
  bool pump_console(Client& client);
  void drop(Client& client);

  Fd listener_;
  Fd wake_;
  ControlTarget* target_ = nullptr;
  ConsoleHub* console_ = nullptr;
  std::list<Client> clients_;  // used by the thread only
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace veneer::host
