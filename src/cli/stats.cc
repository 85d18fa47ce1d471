// Statistics of a run as JSON.
#include "cli/stats.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <vector>

#include "cli/options.h"

namespace veneer::cli {
namespace {

const char* reason_name(vm::MachineExit::Reason reason) {
  switch (reason) {
    case vm::MachineExit::Reason::PoweredOff:
      return "powered-off";
    case vm::MachineExit::Reason::Reset:
      return "reset";
    case vm::MachineExit::Reason::GuestExit:
      return "guest-exit";
    case vm::MachineExit::Reason::Crashed:
      return "crashed";
    case vm::MachineExit::Reason::Stopped:
      return "stopped";
    case vm::MachineExit::Reason::Failed:
      return "failed";
  }
  return "?";
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

}  // namespace

std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (c == '\n')
      out += "\\n";
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      out += c;
  }
  return out + "\"";
}

namespace {

/// A counter by its names; 0 when there is none.
std::uint64_t value_of(const std::vector<cpu::CounterGroup>& groups, std::string_view group, std::string_view name) {
  for (const cpu::CounterGroup& g : groups)
    for (const auto& [key, value] : g.values)
      if (g.name == group && key == name) return value;
  return 0;
}

/// The members of a JSON object, each group an object of its own on one line.
std::string format_groups(const std::vector<cpu::CounterGroup>& groups, const std::string& indent) {
  std::string out;
  for (const cpu::CounterGroup& group : groups) {
    out += fmt::format("{}{}{}: {{", out.empty() ? "" : ",\n", indent, json_string(group.name));
    for (std::size_t i = 0; i < group.values.size(); i++)
      out += fmt::format("{}{}: {}", i ? ", " : "", json_string(group.values[i].first), group.values[i].second);
    out += "}";
  }
  return out;
}

}  // namespace

std::string format_stats(vm::Machine& machine, const vm::MachineExit& exit, std::chrono::duration<double> run_time,
                         std::chrono::nanoseconds process_start) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::string out = "{\n";
  out += fmt::format("  \"veneer\": {},\n", json_string(version()));
  out += fmt::format("  \"name\": {},\n", json_string(machine.config().name));
  out += fmt::format("  \"engine\": {},\n", json_string(machine.engine().name()));
  out += fmt::format("  \"cpus\": {},\n  \"memory_bytes\": {},\n", machine.vcpu_count(), machine.config().memory_bytes);
  out += fmt::format("  \"end\": {},\n  \"status\": {},\n", json_string(reason_name(exit.reason)), exit.status);
  out += fmt::format("  \"run_seconds\": {:.6f},\n", run_time.count());
  out += fmt::format("  \"host_user_seconds\": {:.6f},\n  \"host_system_seconds\": {:.6f},\n", seconds(usage.ru_utime),
                     seconds(usage.ru_stime));
  out += fmt::format("  \"host_max_resident_bytes\": {},\n", usage.ru_maxrss * 1024);
  const std::uint64_t first_run_ns = value_of(machine.vcpu(0).counters(), "start", "first_run_monotonic_ns");
  const auto process_start_ns = static_cast<std::uint64_t>(process_start.count());
  if (first_run_ns > process_start_ns)
    out += fmt::format("  \"start_to_first_instruction_ms\": {:.3f},\n",
                       static_cast<double>(first_run_ns - process_start_ns) * 1e-6);
  if (const vm::OneThread* thread = machine.one_thread())
    out += fmt::format("  \"deterministic\": {{\"seed\": {}, \"instructions\": {}, \"turns\": {}}},\n",
                       machine.config().engine_options.seed, thread->instructions(), thread->turns());
  if (const auto groups = machine.engine().counters(); !groups.empty()) out += format_groups(groups, "  ") + ",\n";
  out += "  \"vcpus\": [\n";
  for (unsigned i = 0; i < machine.vcpu_count(); ++i)
    out += fmt::format("    {{\n{}\n    }}{}\n", format_groups(machine.vcpu(i).counters(), "      "),
                       i + 1 < machine.vcpu_count() ? "," : "");
  return out + "  ]\n}\n";
}

Result<Fd> open_stats(const std::string& path) {
  Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file.valid()) return Error::from_errno("writing statistics to " + path, errno);
  return file;
}

Result<void> write_stats(const Fd& file, const std::string& path, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(file.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno("writing statistics to " + path, errno);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

}  // namespace veneer::cli
