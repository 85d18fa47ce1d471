// Logging: one write to stderr per line, so that lines of several threads do not mix.
#include "base/log.h"

#include <time.h>
#include <unistd.h>

#include <array>
#include <iterator>

namespace veneer {
namespace {

constexpr std::array<std::string_view, 4> level_names = {"error", "warning", "info", "debug"};
constexpr std::array<std::string_view, static_cast<std::size_t>(Trace::count)> trace_names = {
    "irq", "timer", "port", "mmio", "pci", "virtio", "serial", "disk", "net", "exec", "translate", "boot", "firmware"};

std::mutex sink_mutex;  // a leaf lock
LogSink sink;           // guarded by sink_mutex
std::atomic<bool> raw_terminal{false};

void write_line(LogLevel level, std::string line) {
  {
    std::lock_guard guard(sink_mutex);
    if (sink) {
      sink(level, line);
      return;
    }
  }
  line += raw_terminal.load(std::memory_order_relaxed) ? "\r\n" : "\n";
  // What does not fit (a full pipe) is lost: logging never holds up the machine for a second try.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

namespace log_detail {

std::atomic<std::uint8_t> level{static_cast<std::uint8_t>(LogLevel::Info)};
std::atomic<std::uint32_t> trace_mask{0};

void write(LogLevel line_level, fmt::string_view format, fmt::format_args arguments) {
  std::string line = "veneer: ";
  if (line_level != LogLevel::Info) {
    line += level_names[static_cast<std::size_t>(line_level)];
    line += ": ";
  }
  fmt::vformat_to(std::back_inserter(line), format, arguments);
  write_line(line_level, std::move(line));
}

void write_trace(Trace category, fmt::string_view format, fmt::format_args arguments) {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  std::string line = fmt::format("[{:6}.{:06}] {}: ", ts.tv_sec, ts.tv_nsec / 1000, trace_name(category));
  fmt::vformat_to(std::back_inserter(line), format, arguments);
  write_line(LogLevel::Debug, std::move(line));
}

}  // namespace log_detail

void set_log_level(LogLevel level) { log_detail::level.store(static_cast<std::uint8_t>(level)); }

LogLevel log_level() { return static_cast<LogLevel>(log_detail::level.load()); }

std::optional<LogLevel> parse_log_level(std::string_view name) {
  for (std::size_t i = 0; i < level_names.size(); ++i)
    if (name == level_names[i]) return static_cast<LogLevel>(i);
  return std::nullopt;
}

void set_log_sink(LogSink new_sink) {
  std::lock_guard guard(sink_mutex);
  sink = std::move(new_sink);
}

void set_log_raw_terminal(bool raw) { raw_terminal.store(raw); }

std::string_view trace_name(Trace category) { return trace_names[static_cast<std::size_t>(category)]; }

Result<void> set_trace(std::string_view list) {
  std::uint32_t mask = 0;
  while (!list.empty()) {
    const std::string_view name = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), name.size() + 1));
    bool known = name == "all";
    if (known) mask = (1u << trace_names.size()) - 1;
    for (std::size_t i = 0; i < trace_names.size(); ++i) {
      if (name != trace_names[i]) continue;
      mask |= 1u << i;
      known = true;
    }
    if (!known)
      return Error(fmt::format("unknown trace category \"{}\": there are all, {}", name, fmt::join(trace_names, ", ")));
  }
  log_detail::trace_mask.store(mask);
  return {};
}

LogLimiter::Verdict LogLimiter::admit_at(std::uint64_t now_ns) {
  std::lock_guard guard(mutex_);
  const std::uint64_t earned = now_ns > refilled_ns_ ? (now_ns - refilled_ns_) / refill_ns : 0;
  if (earned > 0) {
    tokens_ = std::min(burst_lines, tokens_ + std::min(earned, burst_lines));
    refilled_ns_ = now_ns;
  }
  if (tokens_ == 0) {
    ++dropped_;
    return {false, 0};
  }
  --tokens_;
  return {true, std::exchange(dropped_, 0)};
}

std::uint64_t LogLimiter::monotonic_ns() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<std::uint64_t>(ts.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(ts.tv_nsec);
}

}  // namespace veneer
