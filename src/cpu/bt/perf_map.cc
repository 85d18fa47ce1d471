// Writing /tmp/perf-PID.map.
#include "cpu/bt/perf_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace veneer::cpu::bt {

PerfMap::~PerfMap() {
  if (file_) std::fclose(file_);
}

Result<void> PerfMap::create() {
  const std::string path = fmt::format("/tmp/perf-{}.map", ::getpid());
  const std::string what = "making " + path + " for perf";
  ::unlink(path.c_str());
  // Not through a link that somebody else put there: /tmp is everybody's.
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return Error::from_errno(what, errno);
  file_ = ::fdopen(fd, "w");
  if (!file_) {
    const int error = errno;
    ::close(fd);
    return Error::from_errno(what, error);
  }
  return {};
}

void PerfMap::add(const Block& block, std::uint64_t address) {
  if (!file_) return;
  const char* who = block.mode.has(Mode::CPL3) ? "guest user" : "guest";
  const char* variant = block.mode.has(Mode::UNGROUPED) ? " ungrouped" : "";
  fmt::print(file_, "{:x} {:x} {} {:#x}{}\n", reinterpret_cast<std::uint64_t>(block.code), block.hot_bytes, who,
             address, variant);
  if (block.cold_bytes)
    fmt::print(file_, "{:x} {:x} {} {:#x}{} slow paths\n", reinterpret_cast<std::uint64_t>(block.cold),
               block.cold_bytes, who, address, variant);
}

}  // namespace veneer::cpu::bt
