// The seccomp filter of a kind of thread, made from the policy.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "base/result.h"
#include "sandbox/policy.h"

namespace veneer::sandbox {

/// The BPF program for threads of this kind: what the table does not allow traps (SIGSYS), and any other architecture
/// than x86-64 ends the process. Linux Documentation/userspace-api/seccomp_filter.rst.
std::vector<sock_filter> make_filter(ThreadKind kind, int own_pid);

/// Puts the filter on the calling thread, for good. Needs no_new_privs.
Result<void> install_filter(ThreadKind kind);

}  // namespace veneer::sandbox
