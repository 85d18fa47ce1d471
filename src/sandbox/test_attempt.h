// For tests: something forbidden, attempted by a thread of a certain kind right after it was confined.
#pragma once

#include <string>

#include "base/result.h"
#include "base/thread_start.h"

namespace veneer::sandbox {

/// From "vcpu:execve". Kinds are named in lower case; what can be attempted: execve, open, socket, fork, ptrace, kill
/// (of the parent), exec-memory (mmap with PROT_EXEC), type (TIOCSTI into the terminal).
Result<void> plan_test_attempt(const std::string& text);

/// Carries it out if this kind is the planned one; does nothing otherwise. When the call came back, that is said on
/// standard error and the process ends with status 99.
void attempt_if_planned(ThreadKind kind);

/// "vcpu" and so on; for messages and tests.
const char* kind_name(ThreadKind kind);

}  // namespace veneer::sandbox
