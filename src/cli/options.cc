// The command line: flags, help and usage errors (CLI11 is used here, in disk/disk_flags.cc and in
// image/image_flags.cc).
#include "cli/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "cli/disk/disk_flags.h"
#include "cli/image/image_flags.h"

#include "cli/disk_option.h"
#include "cli/firmware_option.h"
#include "cli/net_option.h"
#include "vm/seed_disk.h"

namespace veneer::cli {
namespace {

constexpr int status_usage = 2;

constexpr const char* main_footer =
    R"(Examples:
  veneer image build debian -o debian.qcow2
  veneer run debian.qcow2 --memory 1G
  veneer run --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0"
  veneer doctor
Each command has its own help: veneer run --help)";

constexpr const char* run_footer =
    R"(Examples:
  Boot a disk image through its own boot loader:
    veneer run disk.qcow2
  Boot a Linux kernel, its console here in the terminal:
    veneer run --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0"
  Boot from the network; the guest reads DIR by TFTP (pxelinux.0, GRUB, a script for iPXE):
    veneer run --net user,tftp=DIR,bootfile=pxelinux.0
  A test in a script: end when the guest powers off or resets, keep the console in a file:
    veneer run --kernel vmlinuz --initrd test.img --cmdline "console=ttyS0 panic=-1" \
               --no-reboot --serial file:console.log </dev/null
  A kernel under the debugger, stopped before its first instruction:
    veneer run --kernel vmlinuz --gdb tcp:127.0.0.1:1234 --paused
    gdb vmlinux -ex "target remote 127.0.0.1:1234"

Keys while the serial port is on stdio (also when standard input is a pipe):
  Ctrl-A x   end the machine            Ctrl-A c       monitor prompt (help there lists its commands)
  Ctrl-A h   list the keys              Ctrl-A Ctrl-A  send Ctrl-A to the guest
  The end of standard input is not the end of the guest.

Exit status:
  0  the guest powered off, or reset under --no-reboot, or Ctrl-A x or the monitor's quit ended it
  1  Veneer could not start or the host failed (one message says why), or a signal (SIGTERM, SIGINT, SIGHUP) ended it
     before the guest powered off
  2  the command line is wrong
  3  the guest crashed the virtual CPU (triple fault) under --no-reboot
  (value << 1) | 1  the guest wrote value to port 0xf4 under --debug-exit
SIGTERM presses the guest's power button and gives it --grace SECONDS to power off; a second SIGTERM (a second
later or more), or a guest that cannot hear the button, ends it at once. SIGINT and SIGHUP do not ask.)";

/// Flags of the stable contract that this version does not serve, each with values that mean "as it is now anyway".
struct LaterFlag {
  const char* name;
  std::array<const char*, 2> harmless;
};
constexpr std::array<LaterFlag, 3> later_flags = {{
    {"--display", {"none"}},
    {"--direct", {"off", "auto"}},
    {"--share", {}},
}};

[[noreturn]] void not_in_this_version(const std::string& what) {
  throw CLI::ValidationError(fmt::format("{} is not in this version of Veneer ({})", what, version()));
}

void add_later_flags(CLI::App& run) {
  for (const LaterFlag& flag : later_flags) {
    run.add_option_function<std::vector<std::string>>(flag.name,
                                                      [&flag](const std::vector<std::string>& values) {
                                                        for (const std::string& value : values)
                                                          for (const char* word : flag.harmless)
                                                            if (word != nullptr && value == word) return;
                                                        not_in_this_version(flag.name);
                                                      })
        ->group("");
  }
}

Result<LogLevel> parse_log(const std::string& text) {
  if (const auto level = parse_log_level(text)) return *level;
  return Error(fmt::format("\"{}\" is not a level (known: error, warning, info, debug)", text));
}

Result<vm::EngineKind> parse_engine(const std::string& text) {
  if (text == "auto") return vm::EngineKind::Auto;
  if (text == "bt") return vm::EngineKind::Bt;
  if (text == "kvm") return vm::EngineKind::Kvm;
  return Error(fmt::format("\"{}\" is not an engine (known: auto, bt, kvm)", text));
}

Result<bool> parse_on_off(const std::string& text) {
  if (text == "on") return true;
  if (text == "off") return false;
  return Error(fmt::format("\"{}\" is neither on nor off", text));
}

Result<vm::MachineKind> parse_machine(const std::string& text) {
  if (text == "pc") return vm::MachineKind::Pc;
  if (text == "micro") return vm::MachineKind::Micro;
  return Error(fmt::format("\"{}\" is not a machine (known: pc, micro)", text));
}

Result<vm::IommuKind> parse_iommu(const std::string& text) {
  if (text == "amd") return vm::IommuKind::Amd;
  if (text == "none") return vm::IommuKind::None;
  return Error(fmt::format("\"{}\" is not an IOMMU (known: amd, none)", text));
}

/// --boot: what firmware tries first, or its menu.
Result<void> parse_boot(const std::string& text, vm::MachineConfig& config) {
  if (text == "disk")
    config.boot_order = vm::BootOrder::Disk;
  else if (text == "cdrom")
    config.boot_order = vm::BootOrder::Cdrom;
  else if (text == "floppy")
    config.boot_order = vm::BootOrder::Floppy;
  else if (text == "network")
    config.boot_order = vm::BootOrder::Network;
  else if (text == "menu")
    config.boot_menu = true;
  else
    return Error(fmt::format("\"{}\" is nothing to boot from (known: disk, cdrom, floppy, network, menu)", text));
  return {};
}

/// --debug: words with commas between.
Result<void> parse_debug(const std::string& text, cpu::EngineOptions& options) {
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (word == "perf-map") {
      options.perf_map = true;
    } else if (word == "shadow") {
      options.shadow = true;
    } else if (word.starts_with("shadow=")) {
      const char* last = word.data() + word.size();
      const auto [stop, error] = std::from_chars(word.data() + 7, last, options.shadow_checks);
      if (error != std::errc{} || stop != last || options.shadow_checks == 0 || options.shadow_checks > 255)
        return Error(fmt::format("\"{}\" does not say how often each block is to be checked (1 to 255)", word));
      options.shadow = true;
    } else if (word == "deterministic") {
      options.deterministic = true;
    } else if (word.starts_with("deterministic=")) {
      const char* last = word.data() + word.size();
      const auto [stop, error] = std::from_chars(word.data() + 14, last, options.seed);
      if (error != std::errc{} || stop != last)
        return Error(fmt::format("\"{}\" does not end with a number, which would be the seed", word));
      options.deterministic = true;
    } else {
      return Error(
          fmt::format("\"{}\" is nothing to debug with (known: deterministic, deterministic=SEED, perf-map, "
                      "shadow, shadow=N)",
                      word));
    }
    at = end + 1;
  }
  if (options.deterministic && options.shadow) return Error("deterministic and shadow do not go together");
  return {};
}

/// Switches the categories on at once: they are process-wide.
void check_trace(const RunOptions& options) {
  if (options.trace.empty()) return;
  const auto result = set_trace(options.trace);
  if (!result) throw CLI::ValidationError("--trace", result.error().message());
}

/// Runs one of our parsers on an option's text and turns its error into a usage error.
template <typename T, typename Parser>
auto parsed_into(T& target, const char* flag, Parser parser) {
  return [&target, flag, parser](const std::string& text) {
    auto result = parser(text);
    if (!result) throw CLI::ValidationError(flag, result.error().message());
    target = std::move(result).value();
  };
}

void add_run_options(CLI::App& run, RunOptions& options) {
  run.add_option("--name", options.config.name,
                 "The machine's name, for veneer ps, stop, attach and so on (default vm1, vm2, ...)")
      ->type_name("NAME")
      ->group("Machine");
  run.add_option_function<std::string>("--engine", parsed_into(options.config.engine, "--engine", parse_engine),
                                       "What runs guest code: auto, bt (binary translation), kvm")
      ->type_name("ENGINE")
      ->group("Machine");
  run.add_option_function<std::string>("--machine", parsed_into(options.config.machine, "--machine", parse_machine),
                                       "pc: what an unmodified OS expects; micro: virtio and a serial port only")
      ->type_name("KIND")
      ->group("Machine");
  run.add_option_function<std::string>(
         "--iommu", parsed_into(options.config.iommu, "--iommu", parse_iommu),
         "What stands between PCI devices and memory: amd (an AMD IOMMU, with interrupt remapping), none")
      ->type_name("KIND")
      ->group("Machine");
  run.add_option("--cpus", options.config.cpus, "Virtual CPUs (default 1)")
      ->check(CLI::Range(1u, vm::max_cpus).description(""))
      ->type_name("N")
      ->group("Machine");
  run.add_option_function<std::string>(
         "--cpu",
         [&options](const std::string& text) {
           if (text == "help") {
             fmt::print("{}", cpu::describe_cpu_models());
             throw CLI::Success();
           }
           auto choice = cpu::parse_cpu(text);
           if (!choice) throw CLI::ValidationError("--cpu", choice.error().message());
           options.config.cpu = std::move(choice).value();
         },
         "host (the default), x86-64-v1 to -v4, 486, pentium3, core2duo; then features: "
         "x86-64-v3,+aes,-avx2 (--cpu help lists them)")
      ->type_name("MODEL[,...]")
      ->group("Machine");
  run.add_option_function<std::string>("--memory", parsed_into(options.config.memory_bytes, "--memory", parse_memory),
                                       "Guest memory: 512M (the default), 1.5G, 4GiB; a bare number counts MiB")
      ->type_name("SIZE")
      ->group("Machine");
  run.add_option("--restore", options.config.restore,
                 "Go on from a file of veneer save; memory, CPUs, kernel and disks are as they were (--disk: the disks "
                 "are elsewhere)")
      ->type_name("FILE")
      ->group("Boot");
  run.add_flag("--detach", options.detach, "Run in the background; veneer attach NAME shows the console")
      ->group("Machine");
  run.add_option("--grace", options.grace_seconds,
                 "How long the guest may take to power off after SIGTERM (default 30; 0: it is ended at once)")
      ->check(CLI::Range(0u, 86'400u).description(""))
      ->type_name("SECONDS")
      ->group("Machine");
  run.add_flag("--prealloc", options.config.prealloc, "Take all guest memory from the host before starting")
      ->group("Machine");

  run.add_option("--kernel", options.config.kernel,
                 "Kernel to boot directly: Linux (bzImage), PVH (ELF) or multiboot 1")
      ->type_name("FILE")
      ->group("Boot");
  run.add_option("--initrd", options.config.initrd, "Initial RAM disk for it")->type_name("FILE")->group("Boot");
  run.add_option("--cmdline", options.config.cmdline, "Kernel command line")->type_name("TEXT")->group("Boot");
  run.add_option_function<std::vector<std::string>>(
         "--module",
         [&options](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             const std::size_t end = std::min(value.find(' '), value.size());
             options.config.modules.push_back({value.substr(0, end), value.substr(std::min(end + 1, value.size()))});
           }
         },
         "A file beside a PVH or multiboot kernel, then words for it: --module 'vmlinuz root=/dev/vda'")
      ->type_name("FILE[ WORDS]")
      ->allow_extra_args(false)
      ->group("Boot");
  run.add_option_function<std::string>(
         "--firmware", parsed_into(options.config.firmware, "--firmware", parse_firmware),
         "seabios (the default without --kernel), ovmf, or an image's path. UEFI settings are kept "
         "beside the first disk (IMAGE.nvram), or in vars=FILE, or forgotten (vars=none)")
      ->type_name("NAME[,vars=FILE]")
      ->group("Boot");
  run.add_option_function<std::string>(
         "--boot",
         [&options](const std::string& text) {
           const auto result = parse_boot(text, options.config);
           if (!result) throw CLI::ValidationError("--boot", result.error().message());
         },
         "What firmware tries first: disk (the default), cdrom, floppy, network; menu lets you choose")
      ->type_name("WHAT")
      ->group("Boot");
  run.add_flag("--no-reboot", options.config.no_reboot, "End when the guest resets, in place of restarting it")
      ->group("Boot");

  run.add_option_function<std::vector<std::string>>(
         "--disk",
         [&options](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             auto disk = parse_disk(value);
             if (!disk) throw CLI::ValidationError("--disk", disk.error().message());
             options.config.disks.push_back(std::move(disk).value());
           }
           if (options.config.disks.size() > vm::max_disks)
             throw CLI::ValidationError("--disk", fmt::format("at most {} disks", vm::max_disks));
         },
         disk_option_help)
      ->type_name("FILE[,...]")
      ->allow_extra_args(false)
      ->group("Devices");
  run.add_option(
         "--cloud-init", options.cloud_init,
         "A small disk that configures a guest with cloud-init: FILE is the user-data, DIR has user-data, meta-data "
         "and network-config; or user=NAME,password=TEXT,ssh-key=FILE,hostname=NAME")
      ->type_name("FILE|DIR|user=...")
      ->group("Devices");
  run.add_option_function<std::vector<std::string>>(
         "--net",
         [&options](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             auto net = parse_net(value);
             if (!net) throw CLI::ValidationError("--net", net.error().message());
             if (net.value()) options.config.nets.push_back(std::move(*net.value()));
           }
           if (options.config.nets.size() > vm::max_nets)
             throw CLI::ValidationError("--net", fmt::format("at most {} network cards", vm::max_nets));
         },
         net_option_help)
      ->type_name("user|passt|tap|none[,...]")
      ->allow_extra_args(false)
      ->group("Devices");
  run.add_option_function<std::vector<std::string>>(
         "--cdrom",
         [&options](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             auto drive = parse_cdrom(value);
             if (!drive) throw CLI::ValidationError("--cdrom", drive.error().message());
             options.config.disks.push_back(std::move(drive).value());
           }
         },
         "A CD-ROM drive with this image (.iso) in it (may be given several times); behind it ,if=ide (the default) or "
         ",if=ahci")
      ->type_name("FILE[,if=...]")
      ->allow_extra_args(false)
      ->group("Devices");
  run.add_option_function<std::vector<std::string>>(
         "--floppy",
         [&options](const std::vector<std::string>& values) {
           for (const std::string& value : values) options.config.disks.push_back(floppy_drive(value));
         },
         "A floppy drive with this image (1.44M, 720K, 1.2M, 2.88M, 360K) in it; twice: drives A and B. What may not "
         "be "
         "written is write-protected")
      ->type_name("FILE")
      ->allow_extra_args(false)
      ->group("Devices");
  run.add_option_function<std::string>(
         "--balloon", parsed_into(options.config.balloon, "--balloon", parse_on_off),
         "on (the default): a device through which the guest gives back what it has free, "
         "and more when it is asked (the monitor's balloon); off: without it")
      ->type_name("on|off")
      ->group("Devices");
  run.add_option_function<std::string>("--serial", parsed_into(options.serial, "--serial", parse_serial),
                                       "First serial port: stdio (the default), file:PATH, unix:PATH, null")
      ->type_name("TARGET")
      ->group("Devices");
  run.add_option_function<std::string>(
         "--console",
         [&options](const std::string& text) {
           auto target = parse_serial(text);
           if (!target) throw CLI::ValidationError("--console", target.error().message());
           options.console = std::move(target).value();
           options.config.console = true;
         },
         "A virtio console (hvc0) beside the serial port: stdio (then --serial is null unless said), file:PATH, "
         "unix:PATH, null")
      ->type_name("TARGET")
      ->group("Devices");
  run.add_flag("--debug-exit", options.config.debug_exit,
               "For test kernels: a write to port 0xf4 ends the machine (status (value << 1) | 1); ports "
               "0xe0 and 0x2000, memory at 0xff000000")
      ->group("Devices");

  run.add_option_function<std::string>(
         "--gdb",
         [&options](const std::string& text) {
           auto address = parse_tcp_address(text);
           if (!address) throw CLI::ValidationError("--gdb", address.error().message());
           options.gdb = std::move(address).value();
         },
         "Wait for a debugger there: tcp:127.0.0.1:1234")
      ->type_name("ADDRESS")
      ->group("Debugging");
  run.add_flag("--gdb-public", options.gdb_public,
               "Allow --gdb on an address other than loopback: whoever connects owns the guest")
      ->group("Debugging");
  run.add_flag("--paused", options.paused,
               "Start with the CPUs stopped (a debugger or the monitor's resume starts them)")
      ->group("Debugging");
  run.add_option_function<std::string>("--log", parsed_into(options.log_level, "--log", parse_log),
                                       "How much to say: error, warning, info (the default), debug")
      ->type_name("LEVEL")
      ->group("Debugging");
  run.add_option("--trace", options.trace, "What to trace, with commas between, or all (a wrong word lists them)")
      ->type_name("WHAT")
      ->group("Debugging");
  run.add_option_function<std::string>(
         "--debug",
         [&options](const std::string& text) {
           const auto result = parse_debug(text, options.config.engine_options);
           if (!result) throw CLI::ValidationError("--debug", result.error().message());
         },
         "For those who work on Veneer: perf-map (names for perf), shadow or shadow=N (run blocks twice, compare), "
         "deterministic or deterministic=SEED (one thread, counted time: the same run again)")
      ->type_name("WHAT")
      ->group("Debugging");
  run.add_option("--stats", options.stats_file, "Write statistics there as JSON at the end")
      ->type_name("FILE")
      ->group("Debugging");
  run.add_option("--hang-dump", options.hang_seconds, "Dump a CPU's last events when it stood still for that long")
      ->type_name("SECONDS")
      ->group("Debugging");
  run.add_option_function<std::string>("--sandbox", parsed_into(options.sandbox, "--sandbox", parse_on_off),
                                       "on (the default): the process gives up all that it needs no longer before the "
                                       "guest runs; off: for debugging Veneer")
      ->type_name("on|off")
      ->group("Debugging");
  run.add_option("--sandbox-test", options.sandbox_test, "")->group("");  // for tests: KIND:CALL
  add_later_flags(run);
}

/// The commands for machines that run.
void add_client_commands(CLI::App& app, ClientOptions& options) {
  using Command = ClientOptions::Command;
  const auto add = [&](const char* name, const char* help, Command command) {
    CLI::App* sub = app.add_subcommand(name, help);
    sub->parse_complete_callback([&options, command] { options.command = command; });
    return sub;
  };
  const auto add_named = [&](const char* name, const char* help, Command command) {
    CLI::App* sub = add(name, help, command);
    sub->add_option("NAME", options.name, "The machine's name (veneer ps lists them)")->required();
    return sub;
  };
  add("ps", "List the machines that run", Command::List)->add_flag("--json", options.json, "As a JSON array");
  add_named("stop", "Press a machine's power button and wait until it is off", Command::Stop)
      ->add_option("--timeout", options.timeout_seconds, "How long to wait (default 60)")
      ->type_name("SECONDS");
  add_named("kill", "End a machine at once, like pulling the plug", Command::Kill);
  add_named("attach", "A machine's serial console here in the terminal; Ctrl-A d detaches", Command::Attach);
  CLI::App* save = add_named(
      "save", "Save a whole machine to a file; it goes on (run --restore FILE makes another from it)", Command::Save);
  save->add_option("FILE", options.file, "Where to")->required();
  save->add_flag("--stop", options.stop, "End the machine then, so that its disks stay as they were saved");
  add_named("screenshot", "A picture of a machine's screen as a PNG file (monitor NAME info screen: as text)",
            Command::Screenshot)
      ->add_option("FILE", options.file, "Where to")
      ->required();
  add_named("sendkey", "Press keys on a machine's keyboard", Command::SendKey)
      ->add_option("KEYS", options.words, "Such as ctrl-alt-delete or f2 (a wrong name lists all)")
      ->required();
  add_named("type", "Type a text on a machine's keyboard", Command::Type)
      ->add_option("TEXT", options.words, "\\n is Enter, \\t Tab, \\\\ a backslash")
      ->required();
  CLI::App* monitor = add_named("monitor", "One command for a machine's monitor, or a prompt", Command::Monitor);
  monitor->add_option("COMMAND", options.words, "Such as: info status, pause, resume (help lists them)");
}

/// The seed for cloud-init comes behind all other disks. Its path is made absolute: a saved machine keeps it.
void add_seed(RunOptions& options) {
  if (options.cloud_init.empty()) return;
  std::error_code none;
  std::string source = options.cloud_init;
  if (std::filesystem::exists(source, none)) source = std::filesystem::absolute(source, none).string();
  vm::DiskConfig& disk = options.config.disks.emplace_back();
  disk.path = fmt::format("{}{}", vm::seed_prefix, source);
  disk.open.read_only = true;
  disk.open.format = disk::Format::Raw;
}

/// The words that are no option: an unknown flag, or a disk image, which becomes the first disk.
void take_extras(const CLI::App& run, RunOptions& options) {
  bool image = false;
  for (const std::string& word : run.remaining()) {
    if (word.starts_with('-'))
      throw CLI::ValidationError(fmt::format("unknown option {} (see veneer run --help)", word));
    if (std::exchange(image, true))
      throw CLI::ValidationError(fmt::format("one IMAGE is enough: \"{}\" is another (--disk adds disks)", word));
    auto disk = parse_disk(word);
    if (!disk) throw CLI::ValidationError("IMAGE", disk.error().message());
    options.config.disks.insert(options.config.disks.begin(), std::move(disk).value());
  }
  add_seed(options);
  if (options.config.disks.size() > vm::max_disks)
    throw CLI::ValidationError("IMAGE", fmt::format("at most {} disks", vm::max_disks));
}

/// Without a kernel there is firmware, if there is anything for it to boot.
void choose_firmware(vm::MachineConfig& config) {
  if (config.restore.empty()) place_variables(config);
  const bool from_network =
      !config.nets.empty() &&
      (config.boot_order == vm::BootOrder::Network ||
       std::any_of(config.nets.begin(), config.nets.end(), [](const auto& net) { return !net.user.bootfile.empty(); }));
  if (config.firmware.present() || !config.kernel.empty() || !config.restore.empty()) return;
  if (config.disks.empty() && !from_network) return;
  if (config.machine == vm::MachineKind::Pc) config.firmware = parse_firmware("seabios").value();
}

/// The terminal belongs to one of the two.
void share_terminal(const CLI::App& run, RunOptions& options) {
  const auto on_terminal = [](const SerialTarget& target) { return target.kind == SerialTarget::Kind::Stdio; };
  if (!options.console || !on_terminal(*options.console) || !on_terminal(options.serial)) return;
  if (run.get_option("--serial")->count() != 0)
    throw CLI::ValidationError("--serial stdio and --console stdio both want the terminal: send one elsewhere");
  options.serial.kind = SerialTarget::Kind::Null;
}

/// What no single option can check.
void check_together(const RunOptions& options) {
  if (!options.config.restore.empty()) {
    if (!options.config.kernel.empty() || !options.config.initrd.empty())
      throw CLI::ValidationError("--restore brings its own kernel: leave out --kernel and --initrd");
    if (options.config.firmware.present() && !options.config.firmware.variables_chosen)
      throw CLI::ValidationError(
          "--restore brings its own firmware: --firmware can only say where its settings go "
          "(--firmware ovmf,vars=FILE)");
    if (options.config.cpu.text != "host")
      throw CLI::ValidationError("--restore brings its own processor: leave out --cpu");
  } else if (options.config.kernel.empty()) {
    if (!options.config.initrd.empty() || !options.config.cmdline.empty() || !options.config.modules.empty())
      throw CLI::ValidationError("--initrd, --module and --cmdline need --kernel");
    if (!options.config.firmware.present())
      throw CLI::ValidationError(options.config.machine == vm::MachineKind::Micro
                                     ? "a micro machine boots kernels only: give one with --kernel FILE"
                                     : "nothing to boot: give a disk image, or a kernel with --kernel FILE, or a "
                                       "network with --net user,tftp=DIR,bootfile=NAME "
                                       "(see veneer run --help)");
  }
  if (options.config.boot_order == vm::BootOrder::Network && options.config.nets.empty() &&
      options.config.restore.empty())
    throw CLI::ValidationError("--boot network needs a network: add --net user");
  if (options.config.firmware.present()) {
    if (!options.config.kernel.empty())
      throw CLI::ValidationError("--kernel boots without firmware: leave out --firmware, or --kernel");
    if (options.config.machine == vm::MachineKind::Micro)
      throw CLI::ValidationError("--firmware needs --machine pc: a micro machine boots kernels only");
  }
  if (options.gdb && !is_loopback(*options.gdb) && !options.gdb_public)
    throw CLI::ValidationError("--gdb", fmt::format("{} is not a loopback address; a debugger owns the guest and sees "
                                                    "all of its memory. Add --gdb-public if that is what you want",
                                                    options.gdb->host));
}

}  // namespace

const char* version() { return VENEER_VERSION; }

Parsed parse_command_line(int argc, const char* const* argv) {
  CLI::App app{"Veneer: runs x86-64 virtual machines on Linux, with or without hardware virtualization."};
  app.name("veneer");
  app.footer(main_footer);
  app.set_version_flag("--version,-V", fmt::format("veneer {}", version()));
  app.require_subcommand(0, 1);
  app.get_formatter()->column_width(28);

  RunOptions run_options;
  DoctorOptions doctor_options;
  CLI::App* run = app.add_subcommand("run", "Run a virtual machine");
  run->footer(run_footer);
  add_run_options(*run, run_options);
  run->allow_extras();
  run->callback([&] {
    take_extras(*run, run_options);
    choose_firmware(run_options.config);
    share_terminal(*run, run_options);
    check_trace(run_options);
    check_together(run_options);
  });

  CLI::App* doctor = app.add_subcommand("doctor", "Try what this host offers, and say what to do about what it lacks");
  doctor->footer("Exit status: 0 when Veneer can run guests here, else 1.");
  doctor->add_flag("--plain", doctor_options.plain, "No colours");

  std::optional<DiskOptions> disk_options;
  add_disk_command(app, disk_options);
  std::optional<ImageBuild> image_options;
  add_image_command(app, image_options);
  ClientOptions client_options;
  add_client_commands(app, client_options);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return ParsedExit{app.exit(error)};
    fmt::print(stderr, "veneer: {}\n", error.what());
    return ParsedExit{status_usage};
  }
  if (run->parsed()) return run_options;
  if (doctor->parsed()) return doctor_options;
  if (disk_options) return *disk_options;
  if (image_options) return *image_options;
  if (!app.get_subcommands().empty()) return client_options;
  fmt::print(stderr, "veneer: what shall it do? veneer run starts a machine (see veneer --help)\n");
  return ParsedExit{status_usage};
}

}  // namespace veneer::cli
