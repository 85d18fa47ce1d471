// veneer run: the machine, its serial port, its debugger and the signals, put together and taken apart.
#include "cli/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "cli/detach.h"
#include "cli/guest_input.h"
#include "cli/machine_control.h"
#include "cli/machine_debug_target.h"
#include "cli/machine_monitor.h"
#include "cli/serial_backend.h"
#include "cli/signals.h"
#include "cli/stats.h"
#include "cli/terminal.h"
#include "cli/terminal_size.h"
#include "debug/flight_dump.h"
#include "debug/gdb/server.h"
#include "debug/hang_watchdog.h"
#include "devices/virtio/virtio_console.h"
#include "host/console_hub.h"
#include "host/control_server.h"
#include "host/run_directory.h"
#include "sandbox/descriptors.h"
#include "sandbox/sandbox.h"
#include "sandbox/test_attempt.h"
#include "vm/machine.h"

namespace veneer::cli {
namespace {

constexpr int status_failed = 1;
constexpr std::chrono::milliseconds output_patience{2000};

/// Standard descriptors that were closed at the start are given to /dev/null, before a memfd gets their numbers.
void occupy_standard_descriptors() {
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDONLY) < 0) return;
}

/// How the end is asked for, from the keyboard, by a signal or in the monitor. Thread-safe.
class Ending {
 public:
  /// Requests from before are carried out now.
  void attach(vm::Machine* machine, std::vector<SerialBackend*> backends, host::ConsoleHub* console) {
    const std::lock_guard lock(mutex_);
    machine_ = machine;
    backends_ = std::move(backends);
    console_ = console;
    if (signal_ != 0) carry_out(status_failed);
  }
  void detach() { attach(nullptr, {}, nullptr); }

  void by_user(Signals& signals) {
    signals.expect_end();
    const std::lock_guard lock(mutex_);
    carry_out(0);
  }

  /// The guest is to end by itself; `unheard` is called when it cannot know.
  void ask(int number, std::function<void()> unheard) {
    const std::lock_guard lock(mutex_);
    if (signal_ == 0) signal_ = number;
    if (machine_ != nullptr) machine_->power_button_or(std::move(unheard));
  }

  void by_signal(int number) {
    const std::lock_guard lock(mutex_);
    if (signal_ == 0) signal_ = number;
    carry_out(status_failed);
  }

  int signal_number() const {
    const std::lock_guard lock(mutex_);
    return signal_;
  }

 private:
  void carry_out(int status) {
    for (SerialBackend* backend : backends_) backend->abandon();  // a vCPU may wait there, with the board lock
    if (console_ != nullptr) console_->abandon();
    if (machine_ != nullptr) machine_->request_stop(status);
  }

  mutable std::mutex mutex_;
  vm::Machine* machine_ = nullptr;
  std::vector<SerialBackend*> backends_;
  host::ConsoleHub* console_ = nullptr;
  int signal_ = 0;
};

/// Moves typed bytes into the UART or the virtio console whenever there are some and it has room.
template <typename Port>
void connect_input(vm::Machine& machine, GuestInput& input, Port& port) {
  const auto request = [&machine, &input, &port] {
    machine.events().post([&input, &port] {
      input.deliver(port.receive_room(), [&port](std::span<const std::uint8_t> bytes) { port.receive(bytes); });
    });
  };
  input.set_request(request);
  const std::lock_guard lock(machine.board_lock());
  port.set_room_callback(request);
}

/// The gdb stub; null when none was asked for.
Result<std::unique_ptr<debug::gdb::Server>> start_debugger(const RunOptions& options, vm::Machine& machine,
                                                           debug::gdb::Target& target) {
  if (!options.gdb) return std::unique_ptr<debug::gdb::Server>();
  auto server = debug::gdb::Server::listen(target, options.gdb->host, options.gdb->port);
  if (!server) return std::move(server).error();
  machine.set_debug_listener([stub = server.value().get()](unsigned vcpu) { stub->vcpu_stopped(vcpu); });
  server.value()->start();
  log_info("gdb can connect: target remote {}:{}", options.gdb->host, server.value()->port());
  return server;
}

/// What is said on standard error about an end that was not the guest's own wish, and the exit status.
int report(const Result<vm::MachineExit>& result, int signal_number) {
  if (!result) {
    fmt::print(stderr, "veneer: {}\n", result.error().message());
    return status_failed;
  }
  const vm::MachineExit& exit = result.value();
  switch (exit.reason) {
    case vm::MachineExit::Reason::Crashed:
    case vm::MachineExit::Reason::Failed:
      fmt::print(stderr, "veneer: {}\n", exit.message);
      break;
    case vm::MachineExit::Reason::Stopped:
      if (signal_number != 0)
        fmt::print(stderr, "veneer: ended by signal {} ({})\n", signal_number, strsignal(signal_number));
      break;
    default:
      break;
  }
  return exit.status;
}

int fail(const Error& error) {
  fmt::print(stderr, "veneer: {}\n", error.message());
  return status_failed;
}

/// What this process and its threads give up (docs/security.md). Before there are other threads.
Result<void> prepare_sandbox(const RunOptions& options) {
  if (!options.sandbox) {
    log_warning("--sandbox off: what breaks out of this guest has all rights of this process");
    return {};
  }
  if (!options.sandbox_test.empty()) TRY_VOID(sandbox::plan_test_attempt(options.sandbox_test));
  std::vector<std::string> served;
  for (const vm::NetConfig& net : options.config.nets)
    if (!net.user.tftp_directory.empty()) served.push_back(net.user.tftp_directory);
  for (const std::string& gap : sandbox::prepare(terminal::restore, served)) log_info("sandbox: {}", gap);
  if (!served.empty() && !sandbox::confines_files())
    return Error(
        "this kernel has no Landlock, so a guest that breaks out of its network could read all your files: leave out "
        "tftp= (the guest may fetch over HTTP from the host's 127.0.0.1, which is 10.0.2.2), or add --sandbox off");
  return {};
}

/// What a saved machine decides.
void take_over(vm::MachineConfig& config, const vm::SavedConfig& saved) {
  config.machine = saved.machine;
  config.cpus = saved.cpus;
  config.memory_bytes = saved.memory_bytes;
  config.debug_exit = saved.debug_exit;
  config.kernel = saved.kernel;  // relative to where the first machine was started
  config.initrd = saved.initrd;
  config.cmdline = saved.cmdline;
  config.modules = saved.modules;
  const vm::Firmware asked = std::exchange(config.firmware, saved.firmware);
  if (asked.present()) config.firmware.variables = asked.variables;
  config.boot_order = saved.boot_order;
  config.boot_menu = saved.boot_menu;
  config.balloon = saved.balloon;
  config.console = saved.console;
  config.iommu = saved.iommu;
  if (auto cpu = cpu::parse_cpu(saved.cpu)) config.cpu = std::move(cpu).value();
}

/// The saved machine's disks at the places that --disk names, or where they were. What the guest sees of a disk stays.
Result<void> take_over_disks(vm::MachineConfig& config, const std::vector<vm::SavedDisk>& saved) {
  if (!config.disks.empty() && config.disks.size() != saved.size())
    return Error(
        fmt::format("the saved machine has {} disk{}, and --disk was given for {}: name all of them, in their "
                    "order, or none",
                    saved.size(), saved.size() == 1 ? "" : "s", config.disks.size()));
  config.disks_replaced = !config.disks.empty();
  config.disks.resize(saved.size());
  for (std::size_t i = 0; i < saved.size(); ++i) {
    vm::DiskConfig& disk = config.disks[i];
    const vm::DiskConfig& was = saved[i].config;
    if (!config.disks_replaced) {
      disk = was;
      continue;
    }
    disk.interface = was.interface;
    disk.queues = was.queues;
    disk.serial = was.serial;
    disk.open.read_only = was.open.read_only;
  }
  return {};
}

/// How other processes find this machine.
struct Presence {
  std::optional<host::RunDirectory> directory;
  std::unique_ptr<host::ControlServer> server;
};

/// Takes the machine's name and listens. Without a run directory a machine runs all the same, unless its user named it.
Result<Presence> appear(const RunOptions& options) {
  Presence presence;
  auto directory = host::RunDirectory::claim(options.config.name);
  if (!directory) {
    if (!options.config.name.empty() || options.detach) return std::move(directory).error();
    log_warning("veneer ps will not show this machine: {}", directory.error().message());
    return presence;
  }
  presence.directory.emplace(std::move(directory).value());
  TRY(presence.server, host::ControlServer::listen(presence.directory->control_path()));
  return presence;
}

/// Where files of ours are removed at the end.
std::vector<std::string> cleanup_directories(const RunOptions& options, const Presence& presence) {
  std::vector<std::string> directories;
  if (presence.directory) directories.push_back(presence.directory->base());
  for (const SerialTarget& target : {options.serial, options.console.value_or(SerialTarget{})}) {
    if (target.kind != SerialTarget::Kind::Unix) continue;
    const std::size_t slash = target.path.rfind('/');
    directories.push_back(slash == std::string::npos ? "." : target.path.substr(0, slash + 1));
  }
  return directories;
}

}  // namespace

int run_machine(const RunOptions& given) {
  RunOptions options = given;
  const std::vector<int> inherited = sandbox::open_descriptors();
  const auto process_start = std::chrono::steady_clock::now().time_since_epoch();
  occupy_standard_descriptors();
  set_log_level(options.log_level);
  terminal::remember();
  std::optional<Detachment> detachment;
  if (options.detach) {
    auto begun = Detachment::begin();
    if (!begun) return fail(begun.error());
    detachment.emplace(std::move(begun).value());
    if (options.serial.kind == SerialTarget::Kind::Stdio) options.serial.kind = SerialTarget::Kind::Null;
    if (options.console && options.console->kind == SerialTarget::Kind::Stdio)
      options.console->kind = SerialTarget::Kind::Null;
  }
  debug::install_crash_handler(terminal::restore);
  if (const auto prepared = prepare_sandbox(options); !prepared) return fail(prepared.error());

  Ending ending;
  TerminalSize terminal_size;
  const auto end_by_signal = [&ending](Signals& signals, int number) {
    signals.expect_end();
    ending.by_signal(number);
  };
  Signals signals({.end = [&](int number) { end_by_signal(signals, number); },
                   .ask =
                       [&](int number) {
                         ending.ask(number, [&, number] {
                           log_info("the guest does not listen to its power button: it is ended");
                           end_by_signal(signals, number);
                         });
                       },
                   .grace = std::chrono::seconds(options.grace_seconds),
                   .resized = [&] { terminal_size.look(); }});

  auto presence = appear(options);
  if (!presence) return fail(presence.error());
  std::optional<host::RunDirectory>& directory = presence.value().directory;
  if (directory && detachment) directory->keep_log();  // until all has gone well
  auto serial = open_serial(options.serial);
  if (!serial) return fail(serial.error());
  vm::MachineConfig config = options.config;
  if (!config.restore.empty()) {
    auto saved = vm::open_machine_file(config.restore);
    if (!saved) return fail(saved.error());
    take_over(config, saved.value().config);
    if (options.console && !config.console)
      return fail(Error("the saved machine has no virtio console: leave out --console"));
    if (auto taken = take_over_disks(config, saved.value().config.disks); !taken) return fail(taken.error());
  }
  config.name = directory ? directory->name() : "veneer";
  // The one that people use is the one that veneer attach shows.
  std::unique_ptr<SerialBackend> hvc;
  if (config.console) {
    auto opened = open_serial(options.console.value_or(SerialTarget{SerialTarget::Kind::Null, {}}));
    if (!opened) return fail(opened.error());
    hvc = std::move(opened).value();
  }
  host::ConsoleHub console(hvc ? hvc->sink() : serial.value()->sink());
  config.serial = hvc ? &serial.value()->sink() : &console;
  config.console_output = hvc ? &console : nullptr;
  config.engine_options.measure_time = !options.stats_file.empty();
  auto created = vm::Machine::create(std::move(config));
  if (!created) return fail(created.error());
  vm::Machine& machine = *created.value();

  GuestInput input, serial_input;  // of what is attached to, and of the serial port if that is not it
  if (hvc) connect_input(machine, input, *machine.board().console());
  connect_input(machine, hvc ? serial_input : input, machine.serial());
  MachineMonitor monitor(machine, [&] { ending.by_user(signals); });
  debug::HangWatchdog watchdog(machine.vcpu_count(), std::chrono::seconds(options.hang_seconds),
                               [&] { return machine.paused(); });
  MachineDebugTarget debug_target(machine, monitor);
  auto debugger = start_debugger(options, machine, debug_target);
  if (!debugger) return fail(debugger.error());
  if (options.paused) machine.pause();
  Fd stats_file;
  if (!options.stats_file.empty()) {
    auto opened = open_stats(options.stats_file);
    if (!opened) return fail(opened.error());
    stats_file = std::move(opened).value();
  }
  MachineControl control(machine, monitor, input, [&] { ending.by_user(signals); });
  host::ControlServer* server = presence.value().server.get();
  if (server != nullptr) input.add_room_listener([server] { server->wake(); });
  if (detachment) {
    const auto told = detachment->ready(directory->name(), directory->log_path());
    if (!told) return fail(told.error());
  }
  std::vector<SerialBackend*> backends = {serial.value().get()};
  if (hvc) backends.push_back(hvc.get());
  ending.attach(&machine, backends, &console);
  serial.value()->start(hvc ? serial_input : input, monitor);
  if (hvc) hvc->start(input, monitor);
  if (options.console && options.console->kind == SerialTarget::Kind::Stdio) terminal_size.attach(&machine);
  if (server != nullptr) server->start(control, console);
  sandbox::enter_main(cleanup_directories(options, presence.value()), inherited);

  const auto started = std::chrono::steady_clock::now();
  const auto result = machine.run();
  const auto run_time = std::chrono::steady_clock::now() - started;

  signals.expect_end();
  ending.detach();
  terminal_size.attach(nullptr);
  if (debugger.value()) debugger.value()->set_exit_status(result.ok() ? result.value().status : status_failed);
  debugger.value().reset();
  console.abandon();
  if (server != nullptr) server->stop();
  for (SerialBackend* backend : backends) backend->finish(output_patience);
  terminal::restore();
  int status = report(result, ending.signal_number());
  if (stats_file.valid() && result.ok()) {
    const auto written =
        write_stats(stats_file, options.stats_file,
                    format_stats(machine, result.value(), run_time, std::chrono::nanoseconds(process_start)));
    if (!written) {
      fmt::print(stderr, "veneer: {}\n", written.error().message());
      if (status == 0) status = status_failed;
    }
  }
  if (directory && status == 0) directory->forget_log();
  created.value().reset();  // before the sink and the input queue that it uses
  return status;
}

}  // namespace veneer::cli
