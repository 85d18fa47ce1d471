// Logging to stderr: levels, a limiter for lines that a guest can cause, and named trace categories.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace veneer {

enum class LogLevel : std::uint8_t { Error, Warning, Info, Debug };

/// Lines above this level are not made. Info is the default.
void set_log_level(LogLevel level);
LogLevel log_level();
/// "error", "warning", "info" or "debug".
std::optional<LogLevel> parse_log_level(std::string_view name);

/// Where finished lines go (without a newline) instead of stderr; an empty function restores stderr. For tests.
using LogSink = std::function<void(LogLevel, std::string_view line)>;
void set_log_sink(LogSink sink);
/// Ends lines with CR LF: while the terminal is raw.
void set_log_raw_terminal(bool raw);

namespace log_detail {
extern std::atomic<std::uint8_t> level;
extern std::atomic<std::uint32_t> trace_mask;
void write(LogLevel level, fmt::string_view format, fmt::format_args arguments);
}  // namespace log_detail

inline bool log_enabled(LogLevel level) {
  return static_cast<std::uint8_t>(level) <= log_detail::level.load(std::memory_order_relaxed);
}

template <typename... Args>
void log_line(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_detail::write(level, format, fmt::make_format_args(args...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::Error, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::Warning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::Info, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::Debug, format, std::forward<Args>(args)...);
}

/// Lets a burst of lines through, then one a second, and counts the others. One per kind of line (a static or a
/// member). Thread-safe.
class LogLimiter {
 public:
  /// What admit() found: may the line be written, and how many were dropped since the last that was.
  struct Verdict {
    bool admitted;
    std::uint64_t dropped;
  };
  Verdict admit() { return admit_at(monotonic_ns()); }
  Verdict admit_at(std::uint64_t now_ns);

 private:
  static std::uint64_t monotonic_ns();
  static constexpr std::uint64_t burst_lines = 10;
  static constexpr std::uint64_t refill_ns = 1'000'000'000;

  std::mutex mutex_;
  std::uint64_t tokens_ = burst_lines;
  std::uint64_t refilled_ns_ = 0;
  std::uint64_t dropped_ = 0;
};

/// A warning about what the guest did. A guest can call it as often as it likes.
template <typename... Args>
void log_guest(LogLimiter& limiter, fmt::format_string<Args...> format, Args&&... args) {
  if (!log_enabled(LogLevel::Warning)) return;
  const LogLimiter::Verdict verdict = limiter.admit();
  if (!verdict.admitted) return;
  if (verdict.dropped) log_warning("guest: {} similar lines left out", verdict.dropped);
  log_warning("guest: {}", fmt::format(format, std::forward<Args>(args)...));
}

/// What --trace can show. The names are the enumerators in lower case.
enum class Trace : std::uint8_t {
  Irq,
  Timer,
  Port,
  Mmio,
  Pci,
  Virtio,
  Serial,
  Disk,
  Net,
  Exec,
  Translate,
  Boot,
  Firmware,
  count
};

/// Switches on a comma-separated list of categories ("irq,timer"), or "all". Fails on an unknown name, listing all.
Result<void> set_trace(std::string_view list);
inline bool trace_enabled(Trace category) {
  return (log_detail::trace_mask.load(std::memory_order_relaxed) >> static_cast<unsigned>(category)) & 1u;
}
std::string_view trace_name(Trace category);

namespace log_detail {
void write_trace(Trace category, fmt::string_view format, fmt::format_args arguments);
}
/// The part of VENEER_TRACE behind the check.
template <typename... Args>
void trace_line(Trace category, fmt::format_string<Args...> format, Args&&... args) {
  log_detail::write_trace(category, format, fmt::make_format_args(args...));
}

}  // namespace veneer

/// VENEER_TRACE(Irq, "vector {:#x}", vector): costs one load and a branch while the category is off.
#define VENEER_TRACE(category, ...)                                      \
  do {                                                                   \
    if (::veneer::trace_enabled(::veneer::Trace::category)) [[unlikely]] \
      ::veneer::trace_line(::veneer::Trace::category, __VA_ARGS__);      \
  } while (0)
