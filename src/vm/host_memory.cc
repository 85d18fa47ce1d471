// /proc/meminfo and control group limits (versions 1 and 2).
#include "vm/host_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "base/fd.h"
#include "base/units.h"

namespace veneer::vm {
namespace {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  std::uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{}) return std::nullopt;
  return value;
}

/// The line's text behind `key`, in a file of "key value" lines.
std::optional<std::string_view> line_after(std::string_view file, std::string_view key) {
  for (std::size_t at = 0; at < file.size();) {
    const std::size_t end = std::min(file.find('\n', at), file.size());
    const std::string_view line = file.substr(at, end - at);
    if (line.starts_with(key)) return line.substr(key.size());
    at = end + 1;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> meminfo_bytes(std::string_view meminfo, std::string_view key) {
  const auto text = line_after(meminfo, key);
  const auto kib = text ? parse_number(*text) : std::nullopt;
  return kib ? std::optional(*kib * KiB) : std::nullopt;
}

/// The path of this process's group: "0::/path" (version 2) or "N:memory:/path" (version 1).
struct CgroupFiles {
  std::string directory, path, limit, usage;
};

std::optional<CgroupFiles> find_cgroup(std::string_view own) {
  for (std::size_t at = 0; at < own.size();) {
    const std::size_t end = std::min(own.find('\n', at), own.size());
    const std::string_view line = own.substr(at, end - at);
    at = end + 1;
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first == line.npos ? first : first + 1);
    if (second == line.npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    if (controllers.find(",memory,") != std::string::npos)
      return CgroupFiles{"/sys/fs/cgroup/memory", std::string(line.substr(second + 1)), "memory.limit_in_bytes",
                         "memory.usage_in_bytes"};
  }
  if (const auto path = line_after(own, "0::"))
    return CgroupFiles{"/sys/fs/cgroup", std::string(*path), "memory.max", "memory.current"};
  return std::nullopt;
}

/// Room under the tightest limit from the group up to the root. In a container the path may not exist as seen from
/// inside; the root then stands for the container's own group.
std::optional<std::uint64_t> cgroup_room(const CgroupFiles& files, const FileReader& read) {
  std::optional<std::uint64_t> room;
  std::string path = files.path;
  for (;;) {
    const std::string directory = files.directory + (path == "/" ? "" : path) + "/";
    const auto limit_text = read(directory + files.limit);
    const auto usage_text = read(directory + files.usage);
    const auto limit = limit_text ? parse_number(*limit_text) : std::nullopt;  // "max" is no number
    const auto usage = usage_text ? parse_number(*usage_text) : std::nullopt;
    constexpr std::uint64_t no_limit = std::uint64_t{1} << 60;  // version 1 says "no limit" with a huge number
    if (limit && *limit < no_limit) {
      const std::uint64_t here = *limit - std::min(*limit, usage.value_or(0));
      room = room ? std::min(*room, here) : here;
    }
    if (path.empty() || path == "/") return room;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

std::string mib(std::uint64_t bytes) { return fmt::format("{} MiB", bytes / MiB); }

}  // namespace

std::optional<std::string> read_small_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return std::nullopt;
  std::array<char, 16384> buffer{};
  std::string text;
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0) return std::nullopt;
    if (got == 0 || text.size() > buffer.size()) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

HostMemory measure_host_memory(const FileReader& read) {
  HostMemory host;
  if (const auto meminfo = read("/proc/meminfo")) {
    host.available = meminfo_bytes(*meminfo, "MemAvailable:");
    if (host.available) *host.available += meminfo_bytes(*meminfo, "SwapFree:").value_or(0);
  }
  if (const auto own = read("/proc/self/cgroup"))
    if (const auto files = find_cgroup(*own)) host.cgroup_limit = cgroup_room(*files, read);
  return host;
}

std::string memory_warning(std::uint64_t wanted, const HostMemory& host) {
  const bool over_host = host.available && wanted > *host.available;
  const bool over_cgroup = host.cgroup_limit && wanted > *host.cgroup_limit;
  if (!over_host && !over_cgroup) return {};
  if (over_cgroup && (!over_host || *host.cgroup_limit < *host.available))
    return fmt::format(
        "the guest may use {} of memory, but the control group of this process has room for {}: if the guest uses "
        "more, "
        "the kernel ends veneer",
        mib(wanted), mib(*host.cgroup_limit));
  return fmt::format(
      "the guest may use {} of memory, but this host has {} available: if the guest uses more, the kernel ends veneer",
      mib(wanted), mib(*host.available));
}

void volunteer_for_oom() {
  // Raising one's own score needs no privilege; where it is refused nothing is lost.
  const Fd fd(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  constexpr std::string_view most_willing = "1000";
  if (fd.valid() && ::write(fd.get(), most_willing.data(), most_willing.size()) < 0) return;
}

}  // namespace veneer::vm
