// A progress bar on the terminal, and the wish to stop (Ctrl-C, SIGTERM) while it runs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "cli/stop_signals.h"

namespace veneer::cli {

/// One at a time. The bar is drawn on standard error if that is a terminal.
class Progress {
 public:
  Progress(std::string what, std::uint64_t total_bytes);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Draws; false when the user wants to stop.
  bool update(std::uint64_t done_bytes);
  std::function<bool(std::uint64_t)> function() {
    return [this](std::uint64_t done) { return update(done); };
  }

 private:
  std::string what_;
  std::uint64_t total_;
  std::uint64_t started_ns_;
  bool terminal_;
  bool drawn_ = false;
  StopSignals signals_;
};

}  // namespace veneer::cli
