// Shows how far a build is.
#include "cli/image/build_display.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "cli/stop_signals.h"

namespace veneer::cli {

BuildDisplay::BuildDisplay(unsigned stages, bool verbose)
    : stages_(stages), verbose_(verbose), terminal_(!verbose && isatty(STDERR_FILENO) == 1) {}

BuildDisplay::~BuildDisplay() {
  if (terminal_) fmt::print(stderr, "\r\x1b[K");
}

void BuildDisplay::draw(std::string_view detail) {
  fmt::print(stderr, "\r[{}/{}] {}{}{}\x1b[K", current_, stages_, stage_, detail.empty() ? "" : ": ", detail);
  std::fflush(stderr);
}

void BuildDisplay::stage(std::string_view what) {
  ++current_;
  stage_ = what;
  if (terminal_)
    draw("");
  else
    fmt::print(stderr, "[{}/{}] {}\n", current_, stages_, stage_);
}

image::BuildWatch BuildDisplay::watch() {
  image::BuildWatch watch;
  watch.stage = [this](std::string_view what) { stage(what); };
  watch.detail = [this](std::string_view how_far) {
    if (terminal_) draw(how_far);
  };
  watch.output = [this](std::string_view line) {
    if (verbose_) fmt::print(stderr, "{}\n", line);
  };
  watch.cancelled = stop_wanted;
  return watch;
}

}  // namespace veneer::cli
