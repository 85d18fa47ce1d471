// Reading of /proc/meminfo and control group limits, on made-up files.
#include "vm/host_memory.h"

#include <gmock/gmock.h>

#include <map>

#include "base/units.h"

namespace veneer::vm {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

FileReader files(std::map<std::string, std::string> content) {
  return [content](const std::string& path) -> std::optional<std::string> {
    const auto at = content.find(path);
    return at == content.end() ? std::nullopt : std::optional(at->second);
  };
}

TEST(HostMemory, AvailableIsMemoryPlusSwap) {
  const auto host =
      measure_host_memory(files({{"/proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 100 kB\nSwapFree: 20 kB\n"}}));
  EXPECT_EQ(host.available, 120 * KiB);
}

TEST(HostMemory, UnknownWithoutProc) { EXPECT_FALSE(measure_host_memory(files({})).available.has_value()); }

TEST(HostMemory, ReadsVersion2Limits) {
  const auto host = measure_host_memory(files({{"/proc/self/cgroup", "0::/a/b\n"},
                                               {"/sys/fs/cgroup/a/b/memory.max", "max\n"},
                                               {"/sys/fs/cgroup/a/memory.max", "1048576\n"},
                                               {"/sys/fs/cgroup/a/memory.current", "48576\n"}}));
  EXPECT_EQ(host.cgroup_limit, 1'000'000u);
}

TEST(HostMemory, ReadsVersion1Limits) {
  const auto host = measure_host_memory(files({{"/proc/self/cgroup", "4:memory:/x\n0::/\n"},
                                               {"/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4096\n"},
                                               {"/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "96\n"}}));
  EXPECT_EQ(host.cgroup_limit, 4000u);
}

TEST(HostMemory, Version1SaysNoLimitWithAHugeNumber) {
  const auto host =
      measure_host_memory(files({{"/proc/self/cgroup", "4:memory:/\n"},
                                 {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"}}));
  EXPECT_FALSE(host.cgroup_limit.has_value());
}

TEST(HostMemory, UsageAboveTheLimitLeavesNoRoom) {
  const auto host = measure_host_memory(files({{"/proc/self/cgroup", "0::/\n"},
                                               {"/sys/fs/cgroup/memory.max", "10\n"},
                                               {"/sys/fs/cgroup/memory.current", "20\n"}}));
  EXPECT_EQ(host.cgroup_limit, 0u);
}

TEST(MemoryWarning, SilentWhenItFits) { EXPECT_THAT(memory_warning(GiB, {2 * GiB, 2 * GiB}), IsEmpty()); }

TEST(MemoryWarning, SilentWhenNothingIsKnown) { EXPECT_THAT(memory_warning(GiB, {}), IsEmpty()); }

TEST(MemoryWarning, NamesTheHost) {
  EXPECT_THAT(memory_warning(3 * GiB, {2 * GiB, {}}), HasSubstr("2048 MiB available"));
}

TEST(MemoryWarning, NamesTheControlGroupWhenItIsTighter) {
  EXPECT_THAT(memory_warning(3 * GiB, {2 * GiB, GiB}), HasSubstr("room for 1024 MiB"));
}

TEST(OomScore, IsRaised) {
  volunteer_for_oom();
  EXPECT_EQ(read_small_file("/proc/self/oom_score_adj"), "1000\n");
}

}  // namespace
}  // namespace veneer::vm
