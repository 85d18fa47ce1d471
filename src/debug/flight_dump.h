// The flight recorder's reader: prints the last events of each vCPU, also from a signal handler.
#pragma once

#include <cstdint>
#include <string>

namespace veneer::debug {

/// Writes the newest `count` events of every ring that has any to `fd`, oldest first. Async-signal-safe.
void dump_flight_recorder(int fd, unsigned count) noexcept;

/// The same text for one vCPU, for the monitor.
std::string describe_flight_recorder(unsigned vcpu, unsigned count);

/// Dumps to standard error on SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and on a failed VENEER_ASSERT, after calling
/// `before` (which must be async-signal-safe: the terminal is given back there); then the signal has its usual end.
/// Call before any engine installs handlers of its own: those pass on what is not theirs.
void install_crash_handler(void (*before)());

}  // namespace veneer::debug
