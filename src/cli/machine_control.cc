// MachineControl: what the process uses, and passing requests on.
#include "cli/machine_control.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <utility>

#include "base/units.h"

namespace veneer::cli {
namespace {

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

/// Resident pages are the second number of /proc/PID/statm (proc(5)).
std::uint64_t resident_bytes(const Fd& statm) {
  std::array<char, 128> text{};
  if (::pread(statm.get(), text.data(), text.size() - 1, 0) <= 0) return 0;
  char* second = nullptr;
  std::strtoull(text.data(), &second, 10);
  return std::strtoull(second, nullptr, 10) * page_size;
}

}  // namespace

MachineControl::MachineControl(vm::Machine& machine, MachineMonitor& monitor, GuestInput& input,
                               std::function<void()> quit)
    : machine_(machine),
      looker_(monitor),
      monitor_(monitor),
      input_(input),
      quit_(std::move(quit)),
      statm_(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC)) {}

host::MachineStatus MachineControl::status() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  host::MachineStatus status;
  status.name = machine_.config().name;
  status.state = machine_.paused() ? "paused" : "running";
  status.engine = machine_.engine().name();
  status.machine = machine_.config().machine == vm::MachineKind::Pc ? "pc" : "micro";
  status.cpus = machine_.vcpu_count();
  status.memory_bytes = machine_.config().memory_bytes;
  status.resident_bytes = resident_bytes(statm_);
  status.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  status.uptime_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  return status;
}

std::string MachineControl::execute(const std::string& line) { return monitor_.execute(line); }

Result<void> MachineControl::save(const Fd& file) { return looker_.save(file); }

}  // namespace veneer::cli
