// veneer doctor: memory, and the limits on it.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "base/units.h"
#include "cli/doctor/doctor.h"
#include "cli/doctor/trial.h"
#include "cli/size.h"

namespace veneer::cli {
namespace {

using Level = Finding::Level;

std::optional<std::uint64_t> number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

/// A line "MemAvailable:   1234 kB" of /proc/meminfo, in bytes.
std::uint64_t meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with(key + ":")) continue;
    const std::size_t digits = line.find_first_of("0123456789");
    if (digits != std::string::npos) return number(line.substr(digits)).value_or(0) * KiB;
  }
  return 0;
}

/// The smallest memory limit on the way from this process's cgroup to the root (version 2, else version 1).
std::optional<std::uint64_t> cgroup_limit() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  std::string base, path, name;
  while (std::getline(file, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty() && base.empty()) {
      base = "/sys/fs/cgroup", path = line.substr(second + 1), name = "memory.max";
    } else if (controllers.find("memory") != std::string::npos) {
      base = "/sys/fs/cgroup/memory", path = line.substr(second + 1), name = "memory.limit_in_bytes";
    }
  }
  if (base.empty()) return std::nullopt;
  std::optional<std::uint64_t> smallest;
  for (;;) {
    // Version 1 shows "no limit" as a number near 2^63.
    if (const auto value = number(read_line(base + path + "/" + name)); value && *value < (std::uint64_t{1} << 60))
      smallest = std::min(smallest.value_or(*value), *value);
    const std::size_t slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) return smallest;
    path.resize(slash);
  }
}

void probe_limits(Findings& findings) {
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY)
    findings.push_back({space.rlim_cur < 8 * GiB ? Level::Limited : Level::Note, "address space",
                        fmt::format("limited to {} (ulimit -v)", format_size(space.rlim_cur)),
                        "guest memory and the code cache count against it: ulimit -v unlimited"});
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0)
    findings.push_back({files.rlim_cur < 256 ? Level::Limited : Level::Good, "open files",
                        fmt::format("{} now, {} at most", files.rlim_cur, files.rlim_max),
                        files.rlim_cur < 256 ? "ulimit -n 1024" : ""});
}

}  // namespace

void probe_memory(Findings& findings) {
  const std::uint64_t available = meminfo("MemAvailable");
  findings.push_back(
      {available < 512 * MiB ? Level::Limited : Level::Good, "memory",
       fmt::format("{} available of {}, swap {}", format_size(available), format_size(meminfo("MemTotal")),
                   format_size(meminfo("SwapTotal"))),
       available < 512 * MiB ? "choose a smaller --memory, or free some: the kernel kills what overruns" : ""});
  if (const auto limit = cgroup_limit())
    findings.push_back({*limit < GiB ? Level::Limited : Level::Note, "cgroup memory",
                        fmt::format("this process's group is limited to {}", format_size(*limit)),
                        "guest memory counts against it: keep --memory well below, or raise memory.max"});
  if (read_line("/proc/sys/vm/overcommit_memory") == "2")
    findings.push_back({Level::Limited, "overcommit", "vm.overcommit_memory is 2: sparse memory is refused early",
                        "sysctl vm.overcommit_memory=0"});
  const std::string thp = read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  if (!thp.empty())
    findings.push_back({Level::Note, "huge pages", fmt::format("for shared memory: {}", thp),
                        thp.find("[never]") != std::string::npos
                            ? "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled makes guests faster"
                            : ""});
  probe_limits(findings);
}

}  // namespace veneer::cli
