// A progress bar on the terminal.
#include "cli/disk/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "cli/size.h"

namespace veneer::cli {
namespace {

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

Progress::Progress(std::string what, std::uint64_t total_bytes)
    : what_(std::move(what)), total_(total_bytes), started_ns_(now_ns()), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

bool Progress::update(std::uint64_t done_bytes) {
  if (terminal_) {
    constexpr std::uint64_t width = 30;
    const std::uint64_t done = std::min(done_bytes, total_);
    const double part = total_ == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total_);
    const auto filled = static_cast<std::size_t>(part * width);
    const double seconds = static_cast<double>(now_ns() - started_ns_) / 1e9;
    const auto rate = static_cast<std::uint64_t>(seconds > 0 ? static_cast<double>(done) / seconds : 0) / (1 << 20);
    fmt::print(stderr, "\r{} [{:#<{}}{:.<{}}] {:3.0f}% of {}, {} MiB/s\x1b[K", what_, "", filled, "", width - filled,
               part * 100, format_size(total_), rate);
    std::fflush(stderr);
    drawn_ = true;
  }
  return !stop_wanted();
}

}  // namespace veneer::cli
