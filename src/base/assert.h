// VENEER_ASSERT: stops the process on a bug of our own. Never reachable by what a guest or a user does.
#pragma once

namespace veneer {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

/// Called before the process aborts, once: dumps state (the flight recorder installs itself here).
void set_assertion_hook(void (*hook)());

}  // namespace veneer

#define VENEER_ASSERT(condition) \
  (static_cast<bool>(condition) ? void(0) : ::veneer::assertion_failed(#condition, __FILE__, __LINE__))
