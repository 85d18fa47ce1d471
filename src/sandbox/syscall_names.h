// Names of system calls, for messages.
#pragma once

#include <string_view>

namespace veneer::sandbox {

/// "execve" for 59; empty for a number that the headers of the build did not know. Async-signal-safe.
std::string_view syscall_name(int number);

/// 59 for "execve"; -1 when there is none.
int syscall_number(std::string_view name);

}  // namespace veneer::sandbox
