// Running in the background: veneer run --detach.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace veneer::cli {

/// What a process of its own goes through. The process must be single-threaded.
class Detachment {
 public:
  /// Forks. In the parent it waits until the child says ready() or ends, prints the name or leaves the child's own
  /// messages to speak, and ends the process with 0 or the child's status. In the child it comes back, without a
  /// terminal and with standard input and output at /dev/null.
  static Result<Detachment> begin();

  /// The machine is about to run: messages go to this file from now on, and the parent prints the name.
  Result<void> ready(const std::string& name, const std::string& log_path);

 private:
  explicit Detachment(Fd to_parent) : to_parent_(std::move(to_parent)) {}
  Fd to_parent_;
};

}  // namespace veneer::cli
