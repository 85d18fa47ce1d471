// The wish to stop (Ctrl-C, SIGTERM, a closed terminal) while a tool works, for as long as one of these exists.
#pragma once

#include <csignal>

namespace veneer::cli {

class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  struct sigaction old_int_ {};
  struct sigaction old_term_ {};
  struct sigaction old_hup_ {};
};

/// True once one of these signals came during a StopSignals.
bool stop_wanted();

}  // namespace veneer::cli
