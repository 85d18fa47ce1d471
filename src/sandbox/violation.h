// What happens when a thread makes a system call that its filter does not allow.
#pragma once

namespace veneer::sandbox {

/// From now on SIGSYS says on standard error which call it was, on which thread and what to do, and ends the process
/// with status 1. `before_end` is called first (it gives the terminal back); async-signal-safe, may be null.
void install_violation_handler(void (*before_end)());

}  // namespace veneer::sandbox
