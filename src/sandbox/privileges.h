// Capabilities and set-user-ID programs: given up for good, by each thread for itself.
#pragma once

#include "base/result.h"

namespace veneer::sandbox {

/// No program that this thread or its children start gains rights (prctl(2) PR_SET_NO_NEW_PRIVS), and the thread has
/// no capability left in any set (capabilities(7)).
Result<void> give_up_privileges();

/// Keeps other processes of the same user from attaching to this one and from reading its memory, and the kernel from
/// writing core files (prctl(2) PR_SET_DUMPABLE). For the whole process.
void hide_memory();

}  // namespace veneer::sandbox
