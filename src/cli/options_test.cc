// The command line: values, combinations, and what is not there yet.
#include "cli/options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/units.h"
#include "cli/host_check.h"

namespace veneer::cli {
namespace {

struct Outcome {
  Parsed parsed;
  std::string complaint;
};

Outcome parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "veneer");
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  Outcome outcome;
  outcome.parsed = parse_command_line(static_cast<int>(arguments.size()), arguments.data());
  testing::internal::GetCapturedStdout();
  outcome.complaint = testing::internal::GetCapturedStderr();
  return outcome;
}

int status_of(const Outcome& outcome) {
  const auto* exit = std::get_if<ParsedExit>(&outcome.parsed);
  return exit == nullptr ? -1 : exit->status;
}

RunOptions run_options(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"run", "--kernel", "vmlinuz"});
  const Outcome outcome = parse(std::move(arguments));
  const auto* options = std::get_if<RunOptions>(&outcome.parsed);
  EXPECT_NE(options, nullptr) << outcome.complaint;
  return options == nullptr ? RunOptions{} : *options;
}

std::string run_complaint(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"run", "--kernel", "vmlinuz"});
  const Outcome outcome = parse(std::move(arguments));
  EXPECT_EQ(status_of(outcome), 2);
  return outcome.complaint;
}

TEST(Options, KernelInitrdAndCommandLine) {
  const RunOptions options = run_options({"--initrd", "i.img", "--cmdline", "console=ttyS0 quiet"});
  EXPECT_EQ(options.config.kernel, "vmlinuz");
  EXPECT_EQ(options.config.initrd, "i.img");
  EXPECT_EQ(options.config.cmdline, "console=ttyS0 quiet");
}
TEST(Options, MemoryWithUnit) { EXPECT_EQ(run_options({"--memory", "1.5G"}).config.memory_bytes, GiB + 512 * MiB); }
TEST(Options, BareMemoryCountsMebibytes) { EXPECT_EQ(run_options({"--memory", "256"}).config.memory_bytes, 256 * MiB); }
TEST(Options, MemoryDefault) { EXPECT_EQ(run_options({}).config.memory_bytes, 512 * MiB); }
TEST(Options, ABalloonUnlessItIsLeftOut) {
  EXPECT_TRUE(run_options({}).config.balloon);
  EXPECT_FALSE(run_options({"--balloon", "off"}).config.balloon);
  EXPECT_NE(run_complaint({"--balloon", "256M"}).find("neither on nor off"), std::string::npos);
}
TEST(Options, TheTerminalGoesToTheConsole) {
  const RunOptions options = run_options({"--console", "stdio"});
  EXPECT_TRUE(options.config.console);
  EXPECT_EQ(options.console->kind, SerialTarget::Kind::Stdio);
  EXPECT_EQ(options.serial.kind, SerialTarget::Kind::Null);
}
TEST(Options, AConsoleElsewhereLeavesTheTerminalToTheSerialPort) {
  const RunOptions options = run_options({"--console", "file:log"});
  EXPECT_EQ(options.console->path, "log");
  EXPECT_EQ(options.serial.kind, SerialTarget::Kind::Stdio);
}
TEST(Options, ATerminalForTwo) {
  EXPECT_NE(run_complaint({"--serial", "stdio", "--console", "stdio"}).find("both want"), std::string::npos);
}
TEST(Options, NoConsoleUnlessAsked) { EXPECT_FALSE(run_options({}).config.console); }
TEST(Options, SeveralDisks) {
  const RunOptions options = run_options({"--disk", "a.img,format=raw", "--disk", "b.img"});
  ASSERT_EQ(options.config.disks.size(), 2u);
  EXPECT_EQ(options.config.disks[1].path, "b.img");
}
TEST(Options, ADiskWithAnUnknownKey) {
  EXPECT_NE(run_complaint({"--disk", "a.img,frobnicate"}).find("frobnicate"), std::string::npos);
}
TEST(Options, TooMuchMemory) {
  EXPECT_NE(run_complaint({"--memory", "2T"}).find("more memory than a guest"), std::string::npos);
}
TEST(Options, TooLittleMemory) {
  EXPECT_NE(run_complaint({"--memory", "1M"}).find("too little memory"), std::string::npos);
}
TEST(Options, CpusOutOfRange) { EXPECT_NE(run_complaint({"--cpus", "0"}).find("not in range"), std::string::npos); }
TEST(Options, MachineMicro) { EXPECT_EQ(run_options({"--machine", "micro"}).config.machine, vm::MachineKind::Micro); }
TEST(Options, IommuAmd) { EXPECT_EQ(run_options({"--iommu", "amd"}).config.iommu, vm::IommuKind::Amd); }
TEST(Options, UnknownIommu) {
  EXPECT_NE(run_complaint({"--iommu", "intel"}).find("not an IOMMU (known: amd, none)"), std::string::npos);
}
TEST(Options, EngineBt) { EXPECT_EQ(run_options({"--engine", "bt"}).config.engine, vm::EngineKind::Bt); }
TEST(Options, UnknownEngine) {
  EXPECT_NE(run_complaint({"--engine", "x"}).find("is not an engine"), std::string::npos);
}
TEST(Options, CpuModelWithFeatures) {
  EXPECT_EQ(run_options({"--cpu", "x86-64-v3,-avx2"}).config.cpu.text, "x86-64-v3,-avx2");
}
TEST(Options, UnknownCpuModel) {
  EXPECT_NE(run_complaint({"--cpu", "z80"}).find("not a CPU model"), std::string::npos);
}
TEST(Options, UnknownCpuFeature) {
  EXPECT_NE(run_complaint({"--cpu", "host,+frob"}).find("not a feature"), std::string::npos);
}
TEST(Options, CpuHelpIsNoError) { EXPECT_EQ(status_of(parse({"run", "--cpu", "help"})), 0); }
TEST(Options, ModuleWithWords) {
  const RunOptions options = run_options({"--module", "vmlinuz root=/dev/vda ro", "--module", "initrd"});
  ASSERT_EQ(options.config.modules.size(), 2u);
  EXPECT_EQ(options.config.modules[0].path, "vmlinuz");
  EXPECT_EQ(options.config.modules[0].words, "root=/dev/vda ro");
  EXPECT_EQ(options.config.modules[1].words, "");
}
TEST(Options, LaterFlagIsNamedAsSuch) {
  EXPECT_NE(run_complaint({"--share", "a"}).find("--share is not in this version"), std::string::npos);
}
TEST(Options, LaterFlagWithTheOnlyValueThereIs) { EXPECT_EQ(run_options({"--net", "none"}).config.kernel, "vmlinuz"); }
TEST(Options, ImageIsTheFirstDisk) {
  const RunOptions options = run_options({"--disk", "second.img", "first.img,if=ide"});
  ASSERT_EQ(options.config.disks.size(), 2u);
  EXPECT_EQ(options.config.disks[0].path, "first.img");
  EXPECT_EQ(options.config.disks[0].interface, vm::DiskInterface::Ide);
}
TEST(Options, AKernelNeedsNoFirmware) { EXPECT_FALSE(run_options({"disk.img"}).config.firmware.present()); }
TEST(Options, AnImageAloneIsBootedBySeaBios) {
  const Outcome outcome = parse({"run", "disk.img"});
  ASSERT_TRUE(std::holds_alternative<RunOptions>(outcome.parsed));
  EXPECT_EQ(std::get<RunOptions>(outcome.parsed).config.firmware.kind, vm::Firmware::Kind::SeaBios);
}
TEST(Options, ADiscAloneIsBooted) {
  const Outcome outcome = parse({"run", "--cdrom", "a.iso", "--boot", "cdrom"});
  ASSERT_TRUE(std::holds_alternative<RunOptions>(outcome.parsed));
  const vm::MachineConfig& config = std::get<RunOptions>(outcome.parsed).config;
  EXPECT_TRUE(config.firmware.present() && config.disks.at(0).cdrom && config.disks[0].open.read_only);
  EXPECT_EQ(config.boot_order, vm::BootOrder::Cdrom);
}
TEST(Options, FirmwareOfOnesOwn) {
  const Outcome outcome = parse({"run", "--firmware", "./bios.bin"});
  ASSERT_TRUE(std::holds_alternative<RunOptions>(outcome.parsed));
  EXPECT_EQ(std::get<RunOptions>(outcome.parsed).config.firmware.path, "./bios.bin");
}
TEST(Options, FirmwareAndKernelContradict) {
  EXPECT_NE(run_complaint({"--firmware", "seabios"}).find("without firmware"), std::string::npos);
}
TEST(Options, UnknownFirmware) {
  EXPECT_NE(run_complaint({"--firmware", "award"}).find("is no firmware"), std::string::npos);
}
TEST(Options, TwoImages) { EXPECT_NE(run_complaint({"a.img", "b.img"}).find("one IMAGE"), std::string::npos); }
TEST(Options, UnknownFlag) { EXPECT_NE(run_complaint({"--bogus"}).find("unknown option --bogus"), std::string::npos); }
TEST(Options, ImageOfAnUnknownSystem) {
  const Outcome outcome = parse({"image", "build", "plan9", "-o", "x"});
  EXPECT_EQ(status_of(outcome), 2);
  EXPECT_NE(outcome.complaint.find("known: debian"), std::string::npos);
}
TEST(Options, ImageBuild) {
  const Outcome outcome = parse(
      {"image", "build", "debian", "-o", "a.qcow2", "--size", "20G", "--packages", "vim,nginx", "--user", "anna"});
  ASSERT_TRUE(std::holds_alternative<ImageBuild>(outcome.parsed));
  const auto& build = std::get<ImageBuild>(outcome.parsed);
  EXPECT_EQ(build.output, "a.qcow2");
  EXPECT_EQ(build.debian.size_bytes, 20ull << 30);
  EXPECT_EQ(build.debian.packages, (std::vector<std::string>{"vim", "nginx"}));
  EXPECT_EQ(build.debian.user, "anna");
}
TEST(Options, ImageNeedsAnOutput) { EXPECT_EQ(status_of(parse({"image", "build", "debian"})), 2); }
TEST(Options, SmallImageIsAUsageError) {
  const Outcome outcome = parse({"image", "build", "debian", "-o", "a.qcow2", "--size", "100M"});
  EXPECT_EQ(status_of(outcome), 2);
  EXPECT_NE(outcome.complaint.find("at least 2G"), std::string::npos);
}
TEST(Options, SeedComesBehindTheDisks) {
  const Outcome outcome = parse({"run", "--cloud-init", "user=anna", "--disk", "b.img", "a.img"});
  ASSERT_TRUE(std::holds_alternative<RunOptions>(outcome.parsed));
  const auto& disks = std::get<RunOptions>(outcome.parsed).config.disks;
  ASSERT_EQ(disks.size(), 3u);
  EXPECT_EQ(disks[2].path, "cloud-init:user=anna");
  EXPECT_TRUE(disks[2].open.read_only);
}
TEST(Options, DiskCommandNeedsToKnowWhat) { EXPECT_EQ(status_of(parse({"disk"})), 2); }
TEST(Options, DiskFormatThatIsNotOpenedIsNamed) {
  const Outcome outcome = parse({"disk", "convert", "-f", "vmdk", "a", "b"});
  EXPECT_EQ(status_of(outcome), 2);
  EXPECT_NE(outcome.complaint.find("nbdkit"), std::string::npos);
}
TEST(Options, NothingToBoot) {
  const Outcome outcome = parse({"run"});
  EXPECT_EQ(status_of(outcome), 2);
  EXPECT_NE(outcome.complaint.find("nothing to boot"), std::string::npos);
}
TEST(Options, NoCommand) { EXPECT_EQ(status_of(parse({})), 2); }
TEST(Options, HelpSucceeds) { EXPECT_EQ(status_of(parse({"run", "--help"})), 0); }
TEST(Options, VersionSucceeds) { EXPECT_EQ(status_of(parse({"--version"})), 0); }
TEST(Options, DoctorCommand) { EXPECT_TRUE(std::holds_alternative<DoctorOptions>(parse({"doctor"}).parsed)); }
TEST(Options, DebuggerOnLoopback) {
  const RunOptions options = run_options({"--gdb", "tcp:127.0.0.1:1234"});
  ASSERT_TRUE(options.gdb.has_value());
  EXPECT_EQ(*options.gdb, (TcpAddress{"127.0.0.1", 1234}));
}
TEST(Options, DebuggerElsewhereIsRefused) {
  EXPECT_NE(run_complaint({"--gdb", "tcp:0.0.0.0:1234"}).find("not a loopback address"), std::string::npos);
}
TEST(Options, DebuggerElsewhereWhenAskedFor) {
  EXPECT_EQ(run_options({"--gdb", "tcp:0.0.0.0:1234", "--gdb-public"}).gdb->host, "0.0.0.0");
}

TEST(ParseSerial, File) {
  EXPECT_EQ(parse_serial("file:a b").value(), (SerialTarget{SerialTarget::Kind::File, "a b"}));
}
TEST(ParseSerial, Unix) { EXPECT_EQ(parse_serial("unix:s").value(), (SerialTarget{SerialTarget::Kind::Unix, "s"})); }
TEST(ParseSerial, Null) { EXPECT_EQ(parse_serial("null").value().kind, SerialTarget::Kind::Null); }
TEST(ParseSerial, RefusesEmptyPath) { EXPECT_FALSE(parse_serial("file:").ok()); }
TEST(ParseSerial, RefusesLongSocketPath) { EXPECT_FALSE(parse_serial("unix:" + std::string(108, 'x')).ok()); }
TEST(ParseSerial, RefusesUnknownTarget) { EXPECT_FALSE(parse_serial("tty").ok()); }

TEST(ParseTcp, EmptyHostIsLoopback) { EXPECT_EQ(parse_tcp_address("tcp::99").value(), (TcpAddress{"127.0.0.1", 99})); }
TEST(ParseTcp, Ipv6InBrackets) { EXPECT_EQ(parse_tcp_address("tcp:[::1]:5").value(), (TcpAddress{"::1", 5})); }
TEST(ParseTcp, RefusesHostNames) { EXPECT_FALSE(parse_tcp_address("tcp:example:5").ok()); }
TEST(ParseTcp, RefusesLargePort) { EXPECT_FALSE(parse_tcp_address("tcp:127.0.0.1:65536").ok()); }
TEST(ParseTcp, RefusesMissingPort) { EXPECT_FALSE(parse_tcp_address("1234").ok()); }

TEST(HostCheck, NewerMajor) { EXPECT_TRUE(kernel_at_least("6.1.0-13-amd64", 5, 10)); }
TEST(HostCheck, SameVersion) { EXPECT_TRUE(kernel_at_least("5.10.0", 5, 10)); }
TEST(HostCheck, OlderMinor) { EXPECT_FALSE(kernel_at_least("5.4.0", 5, 10)); }
TEST(HostCheck, NoVersion) { EXPECT_FALSE(kernel_at_least("linux", 5, 10)); }

TEST(Options, DebugKnowsItsWords) {
  EXPECT_FALSE(run_options({}).config.engine_options.perf_map);
  EXPECT_TRUE(run_options({"--debug", "perf-map"}).config.engine_options.perf_map);
}

TEST(Options, DebugDeterministicHasASeed) {
  const cpu::EngineOptions options =
      run_options({"--debug", "deterministic=18446744073709551615"}).config.engine_options;
  EXPECT_TRUE(options.deterministic);
  EXPECT_EQ(options.seed, ~std::uint64_t{0});
  EXPECT_EQ(status_of(parse({"run", "--kernel", "vmlinuz", "--debug", "deterministic=1x"})), 2);
  EXPECT_EQ(status_of(parse({"run", "--kernel", "vmlinuz", "--debug", "deterministic,shadow"})), 2);
}

TEST(Options, DebugTakesShadowWithACount) {
  const cpu::EngineOptions options = run_options({"--debug", "shadow=12"}).config.engine_options;
  EXPECT_TRUE(options.shadow);
  EXPECT_EQ(options.shadow_checks, 12u);
  EXPECT_EQ(status_of(parse({"run", "--kernel", "vmlinuz", "--debug", "shadow=x"})), 2);
}

TEST(Options, DebugRefusesOtherWords) {
  const Outcome outcome = parse({"run", "--kernel", "vmlinuz", "--debug", "perf-map,nonsense"});
  EXPECT_EQ(status_of(outcome), 2);
  EXPECT_NE(outcome.complaint.find("nonsense"), std::string::npos);
}

}  // namespace
}  // namespace veneer::cli
