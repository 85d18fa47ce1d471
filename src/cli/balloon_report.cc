// info balloon, as text.
#include "cli/balloon_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "cli/size.h"

namespace veneer::cli {
namespace {

struct Line {
  std::uint16_t tag;
  const char* name;
  bool bytes;
};
constexpr std::array<Line, devices::balloon_statistics_count> lines = {{
    {devices::BALLOON_S_MEMTOT, "total", true},
    {devices::BALLOON_S_MEMFREE, "free", true},
    {devices::BALLOON_S_AVAIL, "available", true},
    {devices::BALLOON_S_CACHES, "caches", true},
    {devices::BALLOON_S_SWAP_IN, "swapped in", true},
    {devices::BALLOON_S_SWAP_OUT, "swapped out", true},
    {devices::BALLOON_S_MAJFLT, "faults with I/O", false},
    {devices::BALLOON_S_MINFLT, "faults without", false},
    {devices::BALLOON_S_HTLB_PGALLOC, "huge pages taken", false},
    {devices::BALLOON_S_HTLB_PGFAIL, "huge pages refused", false},
}};

}  // namespace

std::string describe_balloon(const devices::VirtioBalloon& balloon, std::uint64_t memory_bytes, bool answered) {
  const auto left = [&](std::uint64_t taken) { return format_size(memory_bytes - std::min(memory_bytes, taken)); };
  const auto& counters = balloon.counters();
  std::string out = fmt::format("memory {}, the guest may use {}, it uses at most {}\n", format_size(memory_bytes),
                                left(balloon.target_bytes()), left(balloon.actual_bytes()));
  out += fmt::format("given back to the host since the start: {} by the balloon, {} as free pages ({} reports)\n",
                     format_size(counters.inflated_bytes), format_size(counters.reported_bytes), counters.reports);
  if (!balloon.driver_present()) return out + "the guest has no driver for the balloon\n";
  std::string statistics;
  for (const Line& line : lines)
    if (const auto& value = balloon.statistics()[line.tag])
      statistics +=
          fmt::format("  {:<19}{}\n", line.name, line.bytes ? format_size(*value) : fmt::format("{}", *value));
  if (statistics.empty()) return out + "the guest has not said what it uses memory for\n";
  return out + (answered ? "the guest says:\n" : "the guest does not answer; it last said:\n") + statistics;
}

}  // namespace veneer::cli
