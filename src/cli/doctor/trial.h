// A trial: something dangerous tried in a child process, which may crash or hang without harm.
#pragma once

#include <functional>
#include <string>

namespace veneer::cli {

/// What came of it. `text` says more: what was found, why it failed, "ended by signal 4 (Illegal instruction)".
struct TrialResult {
  bool ok = false;
  std::string text;
};

/// Runs `trial` in a forked child, which is killed after `seconds`. The process must be single-threaded.
TrialResult run_trial(unsigned seconds, const std::function<TrialResult()>& trial);

/// "open /dev/kvm: Permission denied" from errno.
std::string errno_text(const std::string& what);

/// The first line of a small file such as those in /proc and /sys; empty when it cannot be read.
std::string read_line(const std::string& path);

}  // namespace veneer::cli
