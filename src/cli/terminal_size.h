// TerminalSize: a guest's virtio console has the size of the user's terminal, now and after each change.
#pragma once

#include <mutex>

#include "vm/machine.h"

namespace veneer::cli {

/// Thread-safe. Does nothing while it has no machine, or one without such a console.
class TerminalSize {
 public:
  /// The machine has the terminal's size from now on; null: no more. The board lock is not held.
  void attach(vm::Machine* machine);
  /// The terminal's size may have changed.
  void look();

 private:
  std::mutex mutex_;
  vm::Machine* machine_ = nullptr;
};

}  // namespace veneer::cli
